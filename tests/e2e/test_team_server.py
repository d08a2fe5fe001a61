"""The team's server on one host: `make up` with logins for MLflow, backed up, destroyed, and restored."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from tests.conftest import forked
from tests.e2e.one_host import Host

pytestmark = pytest.mark.needs("engine", "compose")

NAME = "breast-cancer"


class Team(Host):
    """A host whose MLflow requires a login."""

    def secret(self, key: str) -> str:
        """A value from monitoring/.env."""
        lines = (self.fork.root / "monitoring/.env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)[key]

    def login(self) -> dict[str, str]:
        """The login variables that `make up` prints."""
        password = self.secret("SLIPWAY_MLFLOW_ADMIN_PASSWORD")
        return {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}

    def log_in(self) -> None:
        """Use the admin's login, here and for commands in the fork."""
        self.environment |= self.login() | {"MLFLOW_TRACKING_URI": self.url("mlflow")}
        os.environ.update(self.login())

    def backups(self) -> list[Path]:
        """All files in the folder of backups."""
        return sorted((self.fork.root / "backups").iterdir())

    def backup(self) -> Path:
        """`make backup`; returns the new folder."""
        said = self.fork.ok("-m", "scripts.host.backup", **self.environment)
        return self.fork.root / "backups" / said.split("BACKUP=")[-1].strip()

    def restore(self, *options: str) -> str:
        """`make restore-backup`; returns its output."""
        return self.fork.ok("-m", "scripts.host.restore_backup", *options, **self.environment)

    def refuses(self, script: str, *options: str, **more: str) -> str:
        """Run a command that must fail with a message; returns the message."""
        return self.fork.refused("-m", f"scripts.{script}", *options, **self.environment | more)


@pytest.fixture(scope="module")
def host(engine, tmp_path_factory):
    """A host on which `make up` ran with accounts, and `make ship` as admin; production is a process."""
    with forked(tmp_path_factory.mktemp("team")) as fork, pytest.MonkeyPatch.context() as patch:
        for key in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(key, "")  # restored at the end
        made = Team(fork)
        made.environment["SLIPWAY_MLFLOW_AUTH"] = "basic"
        try:
            made.said = made.up()
            made.log_in()
            fork.ok("-m", "scripts.ship", **made.environment)
            more(made)
            yield made
        finally:
            made.remove()


def client(host) -> MlflowClient:
    """A client of the host's MLflow, logged in."""
    return MlflowClient(host.url("mlflow"), host.url("mlflow"))


def more(host) -> None:
    """A second version, with an artifact of some megabytes, a tag and an alias."""
    mlflow = client(host)
    run = mlflow.create_run(mlflow.create_experiment("more"))
    file = host.fork.root / "build" / "größe.bin"
    file.write_bytes(os.urandom(3_000_000))
    mlflow.log_artifact(run.info.run_id, str(file))
    mlflow.log_metric(run.info.run_id, "log_loss", 0.125)
    made = mlflow.create_model_version(NAME, f"{run.info.artifact_uri}/größe.bin", run.info.run_id, tags={"a": "b"})
    mlflow.set_registered_model_alias(NAME, "candidate", made.version)


def everything(host, folder: Path) -> dict:
    """MLflow's whole content: versions with tags and aliases, runs, deployment records, accounts, the hash of each file."""
    mlflow = client(host)
    found = {"aliases": mlflow.get_registered_model(NAME).aliases, "files": {}, "runs": {}}
    found["versions"] = {
        one.version: (one.tags, one.source, one.run_id) for one in mlflow.search_model_versions(f"name='{NAME}'")
    }
    for experiment in mlflow.search_experiments():
        for run in mlflow.search_runs([experiment.experiment_id]):
            found["runs"][run.info.run_id] = (experiment.name, run.info.status, run.data.to_dictionary())
            found["files"] |= files(mlflow, run.info.run_id, folder)
    for version, (tags, *_) in found["versions"].items():
        if "bundle" in tags:
            found["files"] |= bundle(host, tags["bundle"], folder / version)
    users = requests.get(f"{host.url('mlflow')}/api/2.0/mlflow/users/list", auth=auth(host), timeout=30).json()
    found["users"] = sorted(user["username"] for user in users["users"])
    return found


def files(mlflow: MlflowClient, run: str, folder: Path) -> dict[str, str]:
    """The hash of each artifact of a run."""
    (folder / run).mkdir(parents=True)
    if mlflow.list_artifacts(run):
        mlflow.download_artifacts(run, "", str(folder / run))
    return hashes(folder / run)


def bundle(host, uri: str, folder: Path) -> dict[str, str]:
    """The hash of each file of a bundle, fetched by a client with only URL and login."""
    import mlflow

    mlflow.set_tracking_uri(host.url("mlflow"))
    folder.mkdir(parents=True)
    return hashes(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder))))


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder.parent)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def auth(host) -> tuple[str, str]:
    return tuple(host.login().values())


def destroy(host) -> None:
    """Remove the containers and every volume."""
    host.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def before(host, tmp_path_factory):
    """MLflow's content at the time of the backup, and the backup."""
    host.fork.ok("-m", "scripts.mlflow.mlflow_user", "--name", "anna", **host.environment)
    known = everything(host, tmp_path_factory.mktemp("before"))
    assert len(known["versions"]) == 2 and len(known["files"]) > 10 and known["users"] == ["admin", "anna"]
    return known, host.backup()


def test_login_is_explained_without_showing_the_password(host):
    """`make up` prints the lines that log a shell in; no password is on the screen, nor in a container's arguments."""
    assert "export MLFLOW_TRACKING_USERNAME=admin" in host.said and "make mlflow-user NAME=anna" in host.said
    line = next(line for line in host.said.splitlines() if "MLFLOW_TRACKING_PASSWORD=" in line)
    done = subprocess.run(
        ["sh", "-c", f'{line}; printf %s "$MLFLOW_TRACKING_PASSWORD"'],
        cwd=host.fork.root, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == host.secret("SLIPWAY_MLFLOW_ADMIN_PASSWORD")
    shown = host.said + host.compose("exec", "-T", "mlflow", "sh", "-c", "cat /proc/[0-9]*/cmdline")
    kept = (host.fork.root / "monitoring/.env").read_text(encoding="utf-8").splitlines()
    assert not [line for line in kept if "=" in line and line.split("=", 1)[1] in shown]


def test_login_is_required_but_not_for_the_health_check(host):
    """Without a login MLflow returns 401, a command says what to set, and the container is healthy all the same."""
    assert requests.get(f"{host.url('mlflow')}/api/2.0/mlflow/users/current", timeout=10).status_code == 401
    nobody = dict.fromkeys(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), "")
    said = host.refuses("status", HOME="/nonexistent", **nobody)
    assert "answers 401: it asks who we are" in said and "MLFLOW_TRACKING_USERNAME" in said
    assert host.containers()["mlflow"]["State"]["Health"]["Status"] == "healthy"


def test_accounts_are_in_postgresql(host):
    """They are in the database that is backed up, not in a file of the container."""
    sql = "select username, is_admin from users"
    rows = host.compose("exec", "-T", "postgres", "psql", "-U", "mlflow", "-d", "mlflow", "-At", "-c", sql)
    assert "admin|t" in rows.split()


def test_image_supports_s3(host):
    """It has the packages for artifacts in S3."""
    host.compose("exec", "-T", "mlflow", "python", "-c", "import boto3, flask_wtf")


def test_everything_is_restored_on_an_empty_host(host, before, tmp_path):
    """With volumes and passwords gone, MLflow has its content again, byte for byte; production is unaffected.

    The admin has the new password and not the old one; the webhooks' key was lost with the passwords, and a message
    says so.
    """
    known, copy = before
    old, answers, stop = auth(host), [], threading.Event()
    watching = threading.Thread(target=watch, args=(host, answers, stop))
    watching.start()
    try:
        destroy(host)
        (host.fork.root / "monitoring/.env").unlink()
        said = host.restore("--backup", copy.name)
    finally:
        stop.set()
        watching.join()
    host.log_in()
    assert "2 versions" in said and "the key of the webhooks is another one since" in said
    assert everything(host, tmp_path) == known
    assert len(answers) > 10 and set(answers) == {answers[0]} and answers[0] != "no answer"
    api = f"{host.url('mlflow')}/api/2.0/mlflow/users/current"
    assert requests.get(api, auth=old, timeout=30).status_code == 401


def watch(host, answers: list, stop: threading.Event) -> None:
    """Send production the same prediction until told to stop."""
    row = host.fork.json("build/bundle/golden.json")["inputs"][0]
    while not stop.wait(0.2):
        try:
            said = requests.post(f"{host.production()}/predict", json={"features": row}, timeout=10).json()
            answers.append(json.dumps({key: said[key] for key in ("prediction", "model_version") if key in said}))
        except (requests.RequestException, ValueError):
            answers.append("no answer")


def test_existing_data_is_not_overwritten_unasked(host, before):
    """A restore onto an MLflow with content is refused, names the content, and changes nothing."""
    mlflow = client(host)
    mlflow.set_registered_model_alias(NAME, "production", "2")
    run = mlflow.create_run(mlflow.get_experiment_by_name("more").experiment_id)
    mlflow.log_text(run.info.run_id, "later", "later.txt")
    said = host.refuses("host.restore_backup")
    assert "MLflow here holds" in said and "2 versions" in said and "REPLACE=yes" in said
    assert mlflow.get_registered_model(NAME).aliases["production"] == "2"


def test_killed_restore_changes_nothing_or_can_be_repeated(host, before, tmp_path):
    """Killed while it loads, `make up` starts the previous MLflow; run again, the backup replaces it, and later data is gone."""
    known, copy = before
    chosen = ("--backup", copy.name, "--replace")
    killed(host, "host.restore_backup", "restoring the database", *chosen)
    host.up()
    assert client(host).get_registered_model(NAME).aliases["production"] == "2"
    killed(host, "host.restore_backup", "switching to the restored data", *chosen)
    time.sleep(2)  # until the engine has finished what the killed command requested
    host.restore(*chosen)
    assert everything(host, tmp_path) == known
    left = ("find", "/artifacts", "-name", "later.txt", "-o", "-name", ".restoring")
    assert host.compose("exec", "-T", "mlflow", *left) == ""


def test_damaged_backup_is_refused_before_any_change(host, before):
    """A wrong byte, a short file or a missing one is found by the checksums; MLflow keeps its content."""
    _, copy = before
    for name, damaged in (
        ("mlflow.dump", lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])),
        ("artifacts.tar.gz", lambda whole: whole[:-1]),
        ("backup.json", lambda whole: whole[:-20]),
    ):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(damaged(whole))
        assert "is damaged" in host.refuses("host.restore_backup", "--backup", copy.name, "--replace")
        (copy / name).write_bytes(whole)
    assert "there is no backup of-never" in host.refuses("host.restore_backup", "--backup", "of-never")
    assert len(client(host).search_model_versions(f"name='{NAME}'")) == 2


def test_artifacts_in_s3_are_not_copied(host, before):
    """With a bucket the backup has the database alone and says who must keep the artifacts; restoring it without the bucket is refused."""
    said = host.fork.ok("-m", "scripts.host.backup", **host.environment, SLIPWAY_ARTIFACTS="s3://bucket/prefix")
    made = host.fork.root / "backups" / said.split("BACKUP=")[-1].strip()
    assert "not copied: they are in s3://bucket/prefix, whose bucket is to keep versions" in said
    assert sorted(path.name for path in made.iterdir()) == ["backup.json", "mlflow.dump"]
    assert "belong into s3://bucket/prefix" in host.refuses("host.restore_backup", "--backup", made.name, "--replace")
    shutil.rmtree(made)


def test_full_disk_leaves_no_partial_backup(host, before):
    """A backup without enough room fails with a message and leaves nothing; the older ones stay."""
    there = host.backups()
    done = subprocess.run(
        [sys.executable, "-m", "scripts.host.backup"],
        cwd=host.fork.root, env=os.environ | host.environment, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "could not be copied" in said and "Traceback" not in said
    assert host.backups() == there


def test_killed_backup_does_not_count(host, before, tmp_path):
    """It leaves nothing that looks like a backup; the next one is complete and cleans up, and only the newest are kept."""
    _, copy = before
    killed(host, "host.backup", "database ")
    assert [path.name for path in host.backups() if not path.name.startswith(".")] == [copy.name]
    host.environment["SLIPWAY_BACKUPS_KEPT"] = "1"
    made = host.backup()
    assert host.backups() == [made]
    assert {path.stat().st_mode & 0o077 for path in (made, *made.iterdir())} <= {0, 0o044}
    assert made.stat().st_mode & 0o777 == 0o700


def killed(host, script: str, after: str, *options: str) -> None:
    """Start a command and kill it as soon as it printed a line with this beginning."""
    process = host.fork.start("-u", "-m", f"scripts.{script}", *options, **host.environment)
    for line in process.stdout:
        if line.startswith(after):
            process.send_signal(signal.SIGKILL)
            break
    else:
        raise AssertionError(f"{script} never said {after!r}")
    process.communicate(timeout=60)
