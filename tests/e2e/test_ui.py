"""`make ui` with the snapshot of MLflow: a real registry, a real MLflow, a person who moves an alias, and a GitHub on loopback."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from mlflow import MlflowClient

from pipeline.evaluation import model_card, record
from pipeline.processes import free_port
from pipeline.settings import load_settings
from tests import preload
from tests.conftest import ROOT
from tests.delivery.images.registry_page import give_alias
from tests.e2e.carried_machine import Machine, tag
from tests.pipeline.evaluation.evaluations import DATA, RUN, evaluation
from tests.serving.browser import browsing

NAME = "breast-cancer"
BUTTON = "https://github.com/octo/model/actions/workflows/promote.yml"
DISPATCH = "/repos/octo/model/actions/workflows/promote.yml/dispatches"


class Person:
    """A person who runs `make ui` in a terminal, with MLflow's client instead of a mouse."""

    def __init__(self, machine: Machine, **environment: str):
        self.machine, self.said, self.ready = machine, "", threading.Event()
        command = machine.command("-m", "scripts.mlflow.ui", "--no-browser")
        environment |= command["env"] | {"PYTHONUNBUFFERED": "1"}
        command["args"][0] = preload.python()
        self.process = subprocess.Popen(**command | {"stdin": subprocess.PIPE, "env": environment})
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self.said += line
            if "press Enter" in line:
                self.ready.set()
        self.ready.set()

    def looks(self) -> MlflowClient:
        """Wait until the pages are open."""
        assert self.ready.wait(120) and self.process.poll() is None, self.said
        uri = json.loads((self.machine.home / "server.json").read_text())["uri"]
        return MlflowClient(uri, uri)

    def ends(self, status: int = 0, by: int | None = None) -> str:
        """Press Enter, or send a signal; returns the whole output."""
        if by:
            self.process.send_signal(by)
        elif self.process.poll() is None:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        assert self.process.wait(120) == status, self.said
        self.listener.join(10)
        assert "Traceback" not in self.said, self.said
        return self.said


@contextmanager
def github(dispatch: int = 204):
    """GitHub's API as far as it is needed; `dispatch` is its response to the start of a workflow."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.server.got.append((self.command, self.path, self.headers["Authorization"], body))
            content = b'{"default_branch": "trunk"}' if self.command == "GET" else b""
            self.send_response(200 if self.command == "GET" else dispatch)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.daemon_threads = [], True
        server.environment = {
            "GITHUB_API_URL": f"http://127.0.0.1:{server.server_port}",
            "GITHUB_REPOSITORY": "octo/model",
            "GITHUB_TOKEN": "hunter2",
        }
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The database of a real MLflow with three versions, the second in production."""
    one = Machine(tmp_path_factory.mktemp("seed") / "our model", "")  # a name that coverage measures
    own_port(one)
    uri = one.run("-m", "scripts.mlflow.start_mlflow").split()[-1]
    client = MlflowClient(uri, uri)
    client.create_registered_model(NAME)
    run = client.create_run(client.create_experiment("e")).info.run_id
    for _ in range(3):
        client.create_model_version(NAME, f"runs:/{run}/model", run)
    client.set_registered_model_alias(NAME, "production", "2")
    one.run("-c", "from pipeline.registry import mlflow_server; mlflow_server.stop()")
    return one.home / "mlflow.db"


@pytest.fixture
def seeded(machine, database):
    """A registry with that MLflow, and a machine that never fetched it."""
    first = machine()
    first.restore()
    shutil.copy(database, first.home)
    first.save()
    other = machine()
    own_port(other)
    return other


def production(one: Machine) -> str:
    """The version of the alias in the registry's database."""
    with closing(sqlite3.connect(one.home / "mlflow.db")) as connection:
        asked = "SELECT version FROM registered_model_aliases WHERE alias = 'production'"
        return str(connection.execute(asked).fetchone()[0])


def own_port(one: Machine) -> None:
    """A free port for its MLflow, and a `gh` without a login."""
    text = (one.root / "pipeline.toml").read_text()
    (one.root / "pipeline.toml").write_text(text.replace("port = 5000", f"port = {free_port()}"))
    (one.root / "bin").mkdir()
    (one.root / "bin/gh").write_text("#!/bin/sh\nexit 1\n")
    (one.root / "bin/gh").chmod(0o755)
    one.environment |= {
        "PATH": f"{one.root}/bin:{os.environ['PATH']}",
        "GH_TOKEN": "",
        "GITHUB_REPOSITORY": "octo/model",
    }


def lease_is_free(at: str) -> bool:
    """Whether the lease is free."""
    return tag(at, "lease")["annotations"]["slipway.holder"] == ""


def test_looking_changes_nothing_and_holds_no_lease(seeded, repository):
    """While a person looks, nobody waits; without changes nothing is pushed or started, and a message says so."""
    before = tag(repository, "state")
    with github() as api:
        person = Person(seeded, **api.environment)
        client = person.looks()
        assert client.get_model_version_by_alias(NAME, "production").version == "2"
        uri = json.loads((seeded.home / "server.json").read_text())["uri"]
        assert (
            f"MLflow: {uri}/#/models/{NAME}?workflowType=machine_learning\n" in person.said
            and requests.get(uri, timeout=10).ok
        )
        assert lease_is_free(repository)
        assert "nothing was changed" in person.ends()
    assert tag(repository, "state") == before and api.got == []
    assert not (seeded.home / "server.json").exists()


def test_moved_alias_is_saved_and_deployed_once(seeded, repository, machine):
    """The changes are shown and saved for the next machine, and the workflow is started once, on the default branch."""
    with github() as api:
        person = Person(seeded, **api.environment)
        client = person.looks()
        client.set_registered_model_alias(NAME, "production", "1")
        client.update_model_version(NAME, "1", "Ann: better on\x1b[31m our wards")
        client.set_model_version_tag(NAME, "1", "reviewed", "yes")
        said = person.ends(by=signal.SIGTERM)
    assert "alias production" in said and "version 2 → version 1" in said
    assert "version 1, tag reviewed" in said and "nothing → yes" in said and "\x1b" not in said
    assert f"started promote.yml, which deploys what the alias production says: {BUTTON}" in said
    assert [(method, path) for method, path, *_ in api.got] == [("GET", "/repos/octo/model"), ("POST", DISPATCH)]
    assert {each[2] for each in api.got} == {"Bearer hunter2"} and json.loads(api.got[1][3]) == {"ref": "trunk"}
    assert "hunter2" not in said and lease_is_free(repository)
    with github() as api:
        again = Person(seeded, **api.environment)
        assert again.looks().get_model_version(NAME, "1").description.startswith("Ann: ")
        assert "nothing was changed" in again.ends()
    assert api.got == []


@pytest.mark.needs("browser")
def test_click_in_mlflow_s_pages_deploys(seeded, tmp_path):
    """With the mouse alone in MLflow's pages: the version's aliases, `production`, save; then it is saved and the workflow started."""
    with github() as api, browsing(tmp_path / "profile") as browser:
        person = Person(seeded, **api.environment)
        person.looks()
        give_alias(browser, person.said.split("\nMLflow: ")[1].split()[0].partition("/#")[0], NAME, "1", "production")
        deadline = time.monotonic() + 120
        while production(seeded) != "1" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "alias production  version 2 → version 1" in person.ends()
    assert [path for method, path, *_ in api.got if method == "POST"] == [DISPATCH]


@pytest.mark.needs("browser")
def test_model_card_is_shown_safely(seeded, tmp_path):
    """MLflow shows the card's tables and links, and nothing that a team wrote loads a picture or leads elsewhere."""
    hostile = "<img src=http://evil.invalid/x.png> ![p](http://evil.invalid/y.png) [l](http://evil.invalid) http://evil.invalid |"
    shipped = load_settings(ROOT / "tests/example/pipeline.toml")
    words = shipped.model_copy(update={"model": shipped.model.model_copy(update={"purpose": hostile})})
    card = model_card.markdown(
        record.of_plain(evaluation("binary", reasons=[hostile])), RUN | {"trained_by": hostile}, DATA, words
    )
    person = Person(seeded)
    person.looks().update_model_version(NAME, "1", card)
    with browsing(tmp_path / "profile") as browser:
        browser.open(person.said.split("\nMLflow: ")[1].split()[0].replace("?", "/versions/1?"), "td code")
        assert {"Purpose", "Metrics", "Data", "Limits", "Slices", "Approvals"} <= set(browser.texts("h3"))
        assert {"log loss", "Brier score", "parity"} <= set(browser.texts("td"))
        assert browser.all(f"a[href$='#/experiments/1/runs/{RUN['run_id']}?workflowType=machine_learning']")
        assert not browser.all("[src*=evil], [href*=evil]")
        assert not [url for url in browser.asked() if "evil" in url]
        assert any("evil.invalid" in text.replace("\u2060", "") for text in browser.texts("p")), "it is there to read"
    person.ends()


def test_other_changes_are_saved_and_start_nothing(seeded, repository):
    """A description, a run or an alias without meaning is saved, and no workflow is started."""
    before = tag(repository, "state")
    with github() as api:
        person = Person(seeded, **api.environment)
        client = person.looks()
        client.set_registered_model_alias(NAME, "challenger", "1")
        client.create_run("1")
        assert "alias challenger" in person.ends() and api.got == []
    assert tag(repository, "state")["annotations"]["slipway.before"] == before["digest"]
    person = Person(seeded)
    person.looks().create_run("1")
    assert "nothing of a model, but runs" in person.ends()


def test_missing_token_names_the_page_with_the_button(seeded):
    """The change is saved, and the message has the exact page, from the remote `origin` if no variable names it."""
    git = ["git", "-C", str(seeded.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "git@github.com:octo/model.git"], check=True)
    person = Person(seeded, GITHUB_REPOSITORY="")
    person.looks().set_registered_model_alias(NAME, "production", "1")
    said = person.ends()
    assert "MLflow is saved" in said and f"press “Run workflow” on {BUTTON}" in said


@pytest.mark.parametrize("status", [403, 500])
def test_refused_dispatch_is_reported_and_the_change_saved(seeded, status):
    """GitHub refuses: exit status 1, its message, and the page with the button; MLflow is saved all the same."""
    with github(status) as api:
        person = Person(seeded, **api.environment)
        person.looks().set_registered_model_alias(NAME, "staging", "1")
        said = person.ends(status=1)
    assert f"MLflow is saved, but promote.yml was not started: GitHub answers {status}" in said
    assert f"next: press “Run workflow” on {BUTTON}" in said and "hunter2" not in said
    seeded.run("-m", "scripts.ci.restore_mlflow", "--read-only")
    with closing(sqlite3.connect(seeded.home / "mlflow.db")) as connection:
        assert ("staging", 1) in connection.execute("SELECT alias, version FROM registered_model_aliases").fetchall()


def test_conflict_shows_both_sides_and_overwrites_nothing(seeded, repository, machine):
    """If a job saved meanwhile, both sides are shown by alias, the registry is unchanged, and the local changes are kept."""
    with github() as api:
        person = Person(seeded, **api.environment)
        person.looks().set_registered_model_alias(NAME, "production", "1")
        job = machine()
        job.restore()
        with closing(sqlite3.connect(job.home / "mlflow.db")) as connection, connection:
            connection.execute("UPDATE registered_model_aliases SET version = 3 WHERE alias = 'production'")
        job.save()
        before = tag(repository, "state")
        said = person.ends(status=1)
    mine, other = said.split("meanwhile ")
    assert "version 2 → version 1" in mine and "version 2 → version 3" in other
    assert "nothing was put back" in other and f"both changed alias production of {NAME}" in other
    assert tag(repository, "state") == before and api.got == [] and lease_is_free(repository)
    (kept,) = (seeded.root / ".slipway").glob("ui-*")
    assert (kept / "mlflow.db").exists() and str(kept) in other and not seeded.home.exists()
    seeded.run("-m", "scripts.ci.restore_mlflow", "--read-only")
    assert production(seeded) == "3"


def test_session_continues_after_a_kill(seeded, repository, machine):
    """Killed (-9) before a change, the next one starts afresh; killed after one, it continues with the change and saves it."""
    person = Person(seeded)
    person.looks()
    person.ends(status=-signal.SIGKILL, by=signal.SIGKILL)
    seeded.run("-m", "scripts.ci.restore_mlflow", "--read-only")
    person = Person(seeded)
    person.looks().set_registered_model_alias(NAME, "production", "1")
    person.ends(status=-signal.SIGKILL, by=signal.SIGKILL)
    assert "`make ui` saves changes made" in seeded.restore(status=1), "it is not overwritten"
    person = Person(seeded)
    person.looks()
    said = person.ends()
    assert "going on with" in said and "version 2 → version 1" in said and "MLflow is saved" in said
    other = machine()
    other.restore()
    assert production(other) == "1"


def test_registry_outage_loses_nothing(seeded, repository, proxy):
    """At the start it gives a message and exit status 1. At the end the change is kept here, and the next session saves it."""
    seeded.environment["IMAGE_REPOSITORY"] = f"127.0.0.1:{free_port()}/nobody/home"
    person = Person(seeded)
    assert "was lost or does not answer" in person.ends(status=1)
    seeded.environment["IMAGE_REPOSITORY"] = repository.replace(proxy.behind, proxy.address)
    person = Person(seeded)
    person.looks().set_registered_model_alias(NAME, "production", "1")
    proxy.fault = lambda method, path: 500 if method == "PUT" and path.endswith("/state") else None
    said = person.ends(status=1)
    assert "`make ui` goes on with it" in said and lease_is_free(repository)
    proxy.fault = lambda method, path: None
    person = Person(seeded)
    person.looks()
    assert "going on with" in person.ends() and "MLflow is saved" in person.said


def test_local_data_and_own_lease_are_kept(seeded):
    """Local data that the registry lacks, and a state restored with the lease, are not overwritten; a message names them."""
    seeded.write("own work")
    assert "would be overwritten" in Person(seeded).ends(status=1)
    (seeded.home / "mlflow.db").unlink()
    seeded.restore()
    assert "`make save-mlflow` saves it" in Person(seeded).ends(status=1)
    assert seeded.heartbeat().is_running()


def test_changes_of_later_commands_are_saved_too(seeded):
    """After a saved session, `make reconcile` or another command changes the local MLflow: the next session continues with it."""
    person = Person(seeded)
    person.looks().set_registered_model_alias(NAME, "challenger", "1")
    assert "MLflow is saved" in person.ends()
    uri = seeded.run("-m", "scripts.mlflow.start_mlflow").split()[-1]
    MlflowClient(uri, uri).set_model_version_tag(NAME, "1", "promoted", "today")
    person = Person(seeded)
    person.looks()
    said = person.ends()
    assert "going on with what was changed here" in said and "tag promoted" in said and "MLflow is saved" in said


def test_session_belongs_to_its_repository(seeded):
    """Changes to one repository's MLflow are not saved to another's: that is refused, and nothing is lost."""
    person = Person(seeded)
    person.looks().set_registered_model_alias(NAME, "production", "1")
    person.process.kill()
    person.process.wait()
    own = seeded.environment["IMAGE_REPOSITORY"]
    seeded.environment["IMAGE_REPOSITORY"] = f"{own}-other"
    said = Person(seeded).ends(status=1)
    assert f"was opened from {own}/mlflow and changed since" in said
    seeded.environment["IMAGE_REPOSITORY"] = own
    person = Person(seeded)
    person.looks()
    assert "MLflow is saved" in person.ends() and production(seeded) == "1"


def test_local_mlflow_is_saved_to_an_empty_registry(machine, database):
    """A history from before there was a registry is saved there, and another machine gets it."""
    one, other = machine(), machine()
    own_port(one)
    one.home.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, one.home)
    person = Person(one)
    person.looks()
    said = person.ends()
    assert "it gets the one of this machine" in said and "MLflow is saved" in said
    other.restore()
    assert production(other) == "2"


def test_empty_registry_is_reported(machine):
    """Before the first delivery there is nothing to open."""
    assert "holds no MLflow yet" in Person(machine()).ends()


def test_without_a_registry_the_local_mlflow_is_opened(machine, tmp_path):
    """A message says that nothing is saved elsewhere; the browser from the environment gets the URL of the model's page."""
    one = machine()
    own_port(one)
    (one.root / "bin/look").write_text(f"#!/bin/sh\necho \"$1\" > '{tmp_path}/opened'\n")
    (one.root / "bin/look").chmod(0o755)
    one.environment |= {"IMAGE_REPOSITORY": "", "BROWSER": f"{one.root}/bin/look"}
    said = one.run("-m", "scripts.mlflow.ui")
    assert "MLflow stays on this machine, and so does what you change" in said and "`make reconcile`" in said
    deadline = time.monotonic() + 10
    while not (tmp_path / "opened").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "opened").read_text().strip() in said
    one.environment["MLFLOW_TRACKING_URI"] = said.split("MLflow: ")[1].split("/#/")[0]
    said = one.run("-m", "scripts.mlflow.ui", "--no-browser")
    assert "that server keeps" in said and "schedule of promote.yml" in said


def test_saving_is_idempotent(seeded, repository):
    """A save whose response was lost is recognised: the registry's state is the local one, and not a conflict."""
    person = Person(seeded)
    person.looks().set_registered_model_alias(NAME, "production", "1")
    person.process.kill()
    person.process.wait()
    before = json.loads((seeded.root / ".slipway/ui.json").read_text())
    save = (
        "from delivery import mlflow_ui as ui; from pipeline.settings import load_settings; from pipeline.registry import mlflow_server; from pipeline.registry.embedded import sync; from pipeline.registry.embedded.oci import Repository\n"
        "from pathlib import Path; import shutil; mlflow_server.stop(); record = Path('.mlflow/carried.json')\n"
        "shutil.copy(record, 'record'); store = Repository(sync.place(load_settings())[0])\n"
        "ui.put_back(store, ui.unfinished(store), []); shutil.copy('record', record)"
    )
    seeded.run("-c", save)
    assert tag(repository, "state")["digest"] != before["base"]
    person = Person(seeded)
    person.looks()
    said = person.ends()
    assert "going on with" in said and "meanwhile" not in said
