"""The registry with a real MLflow server: aliases, versions, deployment records, and the server itself."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import psutil
import pytest
import requests
from mlflow import MlflowClient

from pipeline import processes
from pipeline.ci import lineage
from pipeline.errors import RegistryError
from pipeline.registry import deployments, mlflow_server, promotion, versions
from pipeline.registry.deployment_record import Deployment, last_deployment
from tests.pipeline.registry.embedded_mlflow import embedded


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An embedded server in a temporary folder."""
    with embedded(tmp_path_factory.mktemp("mlflow dir")) as settings:
        yield settings


@pytest.mark.parametrize("address", ["http://localhost:abc", "nonsense", "http://nobody.invalid"])
def test_invalid_url_is_refused_with_a_message(server, monkeypatch, address):
    """A misspelt URL or an unknown host is a message, not a traceback."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI"):
        mlflow_server.uri(server)


@pytest.fixture(scope="module")
def client(server):
    """A client for that server, with a model of three versions."""
    connected = versions.connect(server)
    connected.create_registered_model("m")
    run = connected.create_run(versions.experiment(connected, "m")).info.run_id
    for number in "123":
        connected.create_model_version("m", f"runs:/{run}/model", run_id=run, tags={"digest": f"d{number}"})
    return connected


def test_running_server_is_reused(server, client):
    """A second request returns the URL of the same process."""
    before = mlflow_server.running()
    assert mlflow_server.uri(server) == before["uri"]
    assert mlflow_server.running() == before


def test_server_is_one_process_on_loopback(server, client):
    """The embedded server has no workers or job runners, and no other machine can reach it."""
    process = psutil.Process(mlflow_server.running()["pid"])
    assert process.children(recursive=True) == []
    listening = [one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_ui_is_served(server, client):
    """The URL shows MLflow's pages."""
    page = requests.get(mlflow_server.uri(server), timeout=10)
    assert page.status_code == 200 and "<html" in page.text


def test_unset_alias_is_none(client):
    """An alias that was never set is not an error."""
    assert versions.by_alias(client, "m", "production") is None
    assert versions.by_alias(client, "never-registered", "production") is None


def test_alias_moves_only_from_the_expected_version(client):
    """Compare-and-set: from no version, then from the expected one; otherwise it stays and both versions are named."""
    versions.move_alias(client, "m", "production", "1", None)
    versions.move_alias(client, "m", "production", "2", "1")
    with pytest.raises(RegistryError, match="is on version 2, not on version 1"):
        versions.move_alias(client, "m", "production", "3", "1")
    with pytest.raises(RegistryError, match="is on version 2, not on no version"):
        versions.move_alias(client, "m", "production", "3", None)
    assert versions.by_alias(client, "m", "production").number == "2"
    versions.move_alias(client, "m", "production", "2", "1")  # it is there already, as when run again after a kill


def test_one_of_concurrent_moves_wins(client):
    """When eight move the alias from the same version at once, it ends on one target and the others get an error."""
    client.set_registered_model_alias("m", "race", "1")
    errors = []

    def move(to):
        try:
            versions.move_alias(client, "m", "race", to, "1")
        except RegistryError as error:
            errors.append(error)

    threads = [threading.Thread(target=move, args=(to,)) for to in "2323"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winner = versions.by_alias(client, "m", "race").number
    assert winner in "23" and len(errors) == 2


def test_version_is_found_by_number_or_digest(client):
    """An unknown number is refused with a list of the versions."""
    assert versions.by_number(client, "m", "2").digest == "d2"
    assert versions.by_digest(client, "m", "d3").number == "3"
    assert versions.by_digest(client, "m", "other") is None
    with pytest.raises(RegistryError, match="no version 9") as refused:
        versions.by_number(client, "m", "9")
    assert refused.value.then == "versions in MLflow: 3, 2, 1"


def append(client, version, environment, result):
    """Record a deployment that has ended."""
    about = Deployment.of(versions.by_number(client, "m", version), environment, "deploy", "process", None)
    deployments.append(client, "m", replace(about, result=result))


def test_newest_successful_deployment_is_found(client):
    """Each deployment is a run; the last successful one in an environment is found with its time."""
    assert last_deployment(client, "m", "production") is None
    append(client, "1", "production", "deployed")
    append(client, "2", "production", "failed")
    append(client, "3", "staging", "deployed")
    found = last_deployment(client, "m", "production")
    assert found.version == "1" and found.before is None and found.actor == versions.actor()
    assert found.since > 1.7e9
    assert versions.timestamp(found.since)[:2] == "20"


def test_promotion_is_added_to_the_description_once(client):
    """A tag, and one line with the deployment record below a person's text; a second call adds nothing."""
    append(client, "3", "production", "deployed")
    client.update_model_version("m", "3", "A person's words.")
    for _ in range(2):
        promotion.promoted(client, "m", "3", "make promote")
    found = client.get_model_version("m", "3")
    record = last_deployment(client, "m", "production").run_id
    assert "promoted" in found.tags and found.description.startswith("A person's words.\n\n### Approvals\n\n- 20")
    assert found.description.count("put into production by") == 1 and record in found.description
    assert "nothing → version 3, deployed" in client.get_run(record).data.tags["mlflow.note.content"]


def test_scheduled_run_names_no_approver(client, monkeypatch):
    """GitHub gives a scheduled run some user's name, who did not approve it."""
    monkeypatch.setenv("GITHUB_EVENT_NAME", "schedule")
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    promotion.promoted(client, "m", "1", "MLflow alias")
    said = client.get_model_version("m", "1").description
    assert "put into production by `the schedule` (MLflow alias)" in said and "octocat" not in said


def test_version_without_bundle_is_refused(client, tmp_path):
    """A version registered by other means has no bundle, and the message says so."""
    with pytest.raises(RegistryError, match="m version 1 has no bundle"):
        versions.fetch_bundle(client, versions.by_number(client, "m", "1"), tmp_path)


def test_missing_experiment_is_created_once(client):
    """Asking for an experiment twice returns the same one."""
    assert versions.experiment(client, "e") == versions.experiment(client, "e")


def test_url_that_is_not_http_is_refused(server, monkeypatch):
    """A database or file URL is refused: MLflow is reached over HTTP only."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    with pytest.raises(RegistryError, match="not an http address"):
        mlflow_server.uri(server)


def test_server_that_does_not_start_shows_its_log(server, tmp_path, monkeypatch):
    """When the server exits instead of responding, the end of its log is in the error."""
    monkeypatch.setattr(mlflow_server, "LOG", tmp_path / "server.log")
    (tmp_path / "server.log").write_text("starting\nno space left on device\n")
    dead = {"uri": f"http://127.0.0.1:{processes.free_port()}", "pid": 2**22 + 1, "created": 0.0}
    with pytest.raises(RegistryError, match="no space left on device"):
        mlflow_server.wait(dead)


def test_server_with_a_lost_record_is_found(server, client, tmp_path, monkeypatch):
    """Two servers on one database would be an error: a running one is found by its command line and reused."""
    before = mlflow_server.running()
    monkeypatch.setattr(mlflow_server, "STATE", tmp_path / "server.json")
    found = mlflow_server.running()
    assert (found["pid"], found["uri"]) == (before["pid"], before["uri"])


def serve(home, monkeypatch, settings) -> tuple[dict, str]:
    """The record of this folder's embedded server, and an experiment written to it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow's client sets it
    for name, path in (("HOME", home), ("STATE", home / "server.json"), ("LOG", home / "server.log")):
        monkeypatch.setattr(mlflow_server, name, path)
    MlflowClient(mlflow_server.uri(settings)).create_experiment(home.name)
    return mlflow_server.running(), home.name


def knows(settings) -> set[str]:
    """The experiments on the current server."""
    return {found.name for found in MlflowClient(mlflow_server.uri(settings)).search_experiments()}


def test_server_of_a_deleted_folder_is_replaced(server, tmp_path, monkeypatch):
    """A server whose files are gone would write into a database that disappears with it."""
    before, experiment = serve(tmp_path / "deleted", monkeypatch, server)
    try:
        shutil.rmtree(mlflow_server.HOME)
        assert mlflow_server.running() is None
        assert experiment not in knows(server)
        assert processes.find(before) is None and (mlflow_server.HOME / "mlflow.db").exists()
    finally:
        mlflow_server.stop()


def test_server_of_a_moved_folder_is_replaced(server, tmp_path, monkeypatch):
    """The server that still uses the old path is stopped, and its data is served from the new one."""
    before, experiment = serve(tmp_path / "before", monkeypatch, server)
    try:
        mlflow_server.HOME.rename(tmp_path / "after")
        _, other = serve(tmp_path / "after", monkeypatch, server)
        assert {experiment, other} <= knows(server)
        assert processes.find(before) is None and not (tmp_path / "before").exists()
    finally:
        mlflow_server.stop()


def test_copied_folder_gets_its_own_server(server, client, tmp_path, monkeypatch):
    """The copied record names the server of the other folder, which is left alone."""
    before, home = mlflow_server.running(), mlflow_server.HOME
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(home / "server.json", copy)
    try:
        mine, experiment = serve(copy, monkeypatch, server)
        assert mine["pid"] != before["pid"] and processes.find(before)
        assert experiment in knows(server)
    finally:
        mlflow_server.stop()
    assert processes.find(before)


def test_user_and_password_are_not_shown():
    """A URL is printed, tagged and reported without its secrets."""
    assert mlflow_server.shown("https://me:secret@mlflow.example/x") == "https://mlflow.example/x"
    assert mlflow_server.shown("http://127.0.0.1:5000") == "http://127.0.0.1:5000"


def test_stopping_twice_is_no_error(server, tmp_path, monkeypatch):
    """With no server running there is nothing to stop; a damaged record counts as none."""
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path)
    monkeypatch.setattr(mlflow_server, "STATE", tmp_path / "server.json")
    assert not mlflow_server.stop()
    (tmp_path / "server.json").write_text("{")
    assert mlflow_server.running() is None


def test_actor_is_the_github_user_in_a_workflow(monkeypatch):
    """Outside a workflow it is the machine's user."""
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    assert versions.actor() == "octocat"
    monkeypatch.delenv("GITHUB_ACTOR")
    assert versions.actor()


def test_lineage_has_commit_and_changes(tmp_path, monkeypatch):
    """The commit of a checkout and whether tracked files differ from it; outside a checkout, none."""
    monkeypatch.setattr(lineage, "ROOT", tmp_path)
    assert lineage.commit() == ("none", True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit, dirty = lineage.commit()
    assert len(commit) == 40 and not dirty
    (tmp_path / "a").write_text("2")
    assert lineage.commit() == (commit, True)


def test_link_leads_to_the_workflow_run(monkeypatch):
    """Outside a workflow there is none."""
    for key, value in {"SERVER_URL": "https://github.com", "REPOSITORY": "o/r", "RUN_ID": "7"}.items():
        monkeypatch.setenv(f"GITHUB_{key}", value)
    assert lineage.link() == "https://github.com/o/r/actions/runs/7"
    monkeypatch.delenv("GITHUB_RUN_ID")
    assert lineage.link() == ""


def test_importing_the_registry_is_cheap():
    """The modules that every command imports do not import MLflow before it is needed."""
    code = "import sys, pipeline.registry.versions, pipeline.registry.mlflow_server, scripts.ship; sys.exit('mlflow' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": "."}).returncode == 0
