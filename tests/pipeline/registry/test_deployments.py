"""Deployment records in a real MLflow: checks before a release, bookkeeping after it, and who completes it after a failure."""

import os
import socket
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline import processes
from pipeline.errors import RegistryError
from pipeline.registry import deployments, mlflow_server, once, versions
from pipeline.registry.deployment_record import DUE, MARKS, Deployment, last_deployment
from pipeline.registry.model_version import ModelVersion
from tests.pipeline.registry.embedded_mlflow import embedded
from tests.spine.flaky_proxy import AFTER, BEFORE, flaky

NUMBERS = iter(range(10_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The URL of a real MLflow, whose client retries without pauses."""
    with embedded(tmp_path_factory.mktemp("mlflow")) as settings, pytest.MonkeyPatch.context() as patch:
        patch.setattr(once, "PAUSES", (0.01, 0.01))
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
        patch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0.01")
        yield mlflow_server.uri(settings)


@pytest.fixture
def client(server):
    """A client for it."""
    return MlflowClient(server, server)


@pytest.fixture
def name(client):
    """A model with two versions, the second in production."""
    name = f"m{next(NUMBERS)}"
    client.create_registered_model(name)
    run = client.create_run(versions.experiment(client, name)).info.run_id
    for number in "12":
        client.create_model_version(name, f"runs:/{run}/model", run_id=run, tags={"digest": f"d{number}"})
    client.set_registered_model_alias(name, "production", "2")
    return name


def about(client, name, version="1", action="rollback", **changed) -> Deployment:
    """The deployment of a version to production, in place of version 1."""
    before = versions.by_number(client, name, "1")
    found = versions.by_number(client, name, version)
    return replace(Deployment.of(found, "production", action, "process", None), before=before.number, **changed)


def begin(client, name, bookkeeping=DUE, alias_from="2", left="2") -> Deployment:
    """Begin the deployment of version 1, as a rollback does."""
    books = {"bookkeeping": bookkeeping, "alias_from": alias_from, "left": left}
    return deployments.begin(client, name, about(client, name, **books))


def serving(version):
    """A function that says that production serves a version."""
    return lambda: SimpleNamespace(version=version, digest=f"d{version}", experiment="")


def tags(client, record) -> dict[str, str]:
    """The tags of a record."""
    return client.get_run(record.run_id).data.tags


def records(client, name) -> list:
    """All records of a model's deployments."""
    return client.search_runs([client.get_experiment_by_name(f"{name}-deployments").experiment_id])


def alias(client, name) -> str:
    """The version in production."""
    return versions.by_alias(client, name, "production").number


def test_successful_deployment_is_recorded(client, name):
    """While it runs, the record does not count; afterwards it is the last deployment, and finished."""
    record = begin(client, name)
    assert last_deployment(client, name, "production") is None
    assert client.get_run(record.run_id).info.status == "RUNNING"
    deployments.end(client, record, "deployed", detail="forced: why")
    last = last_deployment(client, name, "production")
    assert (last.run_id, last.version, last.detail) == (record.run_id, "1", "forced: why")
    run = client.get_run(record.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "production: version 1 deployed")
    assert "version 1 → version 1, deployed" in run.data.tags["mlflow.note.content"]
    assert versions.by_number(client, name, "1").last_deployment == record.run_id


def test_failed_deployment_records_the_reason(client, name):
    """Its record is not the last deployment."""
    record = begin(client, name)
    deployments.fail(client, record, RegistryError("it broke"), image="i")
    assert (tags(client, record)["result"], tags(client, record)["detail"], tags(client, record)["image"]) == (
        "failed", "it broke", "i")  # fmt: skip
    assert client.get_run(record.run_id).info.status == "FAILED"
    assert last_deployment(client, name, "production") is None


def test_deleted_experiment_is_refused_with_the_command_to_restore_it(client, name, server):
    """A deployment cannot begin, and the command in the message restores the experiment."""
    deployments.end(client, begin(client, name), "deployed")
    client.delete_experiment(client.get_experiment_by_name(f"{name}-deployments").experiment_id)
    for ask in (lambda: begin(client, name), lambda: last_deployment(client, name, "production")):
        with pytest.raises(RegistryError, match=f"experiment {name}-deployments was deleted in MLflow") as refused:
            ask()
    command = refused.value.then.split("`")[1]
    assert os.system(f"{command} > /dev/null 2>&1") == 0
    assert last_deployment(client, name, "production").version == "1"


def test_read_only_server_is_refused_before_a_deployment(client, name, server, monkeypatch):
    """If the record, or a tag on the version, cannot be written, the deployment does not begin."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for part in ("runs/create", "model-versions/set-tag"):
        refuses = flaky(server, 1, kinds=BEFORE, fails=lambda method, path, part=part: path.endswith(part))
        with refuses as proxy, pytest.raises(MlflowException):
            begin(MlflowClient(proxy.url, proxy.url), name)


def test_next_command_completes_a_rollback_s_bookkeeping(client, name, capsys):
    """If the release serves but is neither recorded nor promoted, record, both aliases and both tags are completed, once."""
    record = begin(client, name)
    for _ in range(2):
        deployments.settle(client, name, "production", serving("1"))
    assert (tags(client, record)["result"], tags(client, record)["bookkeeping"]) == ("deployed", "done")
    assert (alias(client, name), versions.by_alias(client, name, "previous").number) == ("1", "2")
    assert "promoted" in client.get_model_version(name, "1").tags
    assert "rolled_back" in client.get_model_version(name, "2").tags
    assert capsys.readouterr().err.count("note: ") == 2


def test_alias_moved_since_is_kept(client, name):
    """A wish that came after the deployment counts: the next reconcile fulfils it."""
    record = begin(client, name)
    first = client.get_model_version(name, "1")
    client.create_model_version(name, first.source, run_id=first.run_id)
    client.set_registered_model_alias(name, "production", "3")
    deployments.settle(client, name, "production", serving("1"))
    assert (alias(client, name), tags(client, record)["bookkeeping"]) == ("3", "overtaken")
    assert tags(client, record)["result"] == "deployed"


def test_deployment_killed_before_its_release_is_recorded_as_failed(client, name):
    """Something else serves: the record ends as failed, and no alias moves."""
    record = begin(client, name)
    deployments.settle(client, name, "production", serving("2"))
    assert tags(client, record)["result"] == "failed" and alias(client, name) == "2"


def test_running_deployment_of_another_machine_is_left_alone(client, name, monkeypatch):
    """Only after hours without an end is it completed by others."""
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "another")
        record = begin(client, name)
    deployments.settle(client, name, "production", serving("2"))
    assert tags(client, record)["result"] == "begun"
    monkeypatch.setattr(deployments, "FORGOTTEN_SECONDS", -1)
    deployments.settle(client, name, "production", serving("2"))
    assert tags(client, record)["result"] == "failed"


def test_missing_promotion_tag_is_added(client, name):
    """If the alias names the current release, whose deployment promotes later, the version is tagged as promoted."""
    deployments.end(client, deployments.begin(client, name, about(client, name, "2", "deploy")), "deployed")
    deployments.settle(client, name, "production", serving("2"))
    assert "promoted" in client.get_model_version(name, "2").tags


def test_missing_tags_after_following_an_alias_are_added(client, name):
    """Production went back to a version by its alias, but the other version was not tagged: the next command does it."""
    client.set_registered_model_alias(name, "production", "1")
    record = begin(client, name, bookkeeping=MARKS)
    deployments.end(client, record, "deployed")
    deployments.settle(client, name, "production", serving("1"))
    assert "rolled_back" in client.get_model_version(name, "2").tags
    assert "promoted" in client.get_model_version(name, "1").tags and tags(client, record)["bookkeeping"] == "done"
    client.delete_model_version_tag(name, "2", "rolled_back")
    deployments.settle(client, name, "production", serving("1"))
    assert "rolled_back" not in client.get_model_version(name, "2").tags, "what a person takes away stays away"


def test_bookkeeping_failure_is_a_warning(capsys):
    """The command continues, and the warning says what is missing, why, and who completes it."""
    with deployments.afterwards("production serves version 1, but that could not be recorded"):
        raise MlflowException("Database is locked")
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: production serves version 1, but that could not be recorded: MLflow: Database is locked"
    )
    assert "the next `make status`" in said


@pytest.mark.parametrize("kinds", [BEFORE, AFTER], ids=["before", "after"])
@pytest.mark.parametrize("every", [3, 4])
def test_retries_create_nothing_twice(client, server, every, kinds):
    """Every third or fourth request fails before or after it was executed: one experiment, run, record, model and version."""
    name = f"f{next(NUMBERS)}"
    with flaky(server, every, kinds=kinds) as proxy:
        shaky = MlflowClient(proxy.url, proxy.url)
        run = once.run(shaky, versions.experiment(shaky, name), "r", {"a": "b"})
        model = once.logged_model(shaky, run, "model", {"p": 1})
        client.create_registered_model(name)
        version = once.make(
            lambda: ModelVersion.from_mlflow(
                shaky.create_model_version(
                    name, model.model_uri, run.info.run_id, tags={"digest": "d1"}, model_id=model.model_id
                )
            ),
            lambda: versions.by_digest(shaky, name, "d1"),
        )
        record = begin(shaky, name, alias_from=None, left="")
        deployments.end(shaky, record, "deployed")
        deployments.complete(shaky, name, record)
        assert len(proxy.failed) >= 4
    assert version.number == "1" and [one.number for one in versions.versions(client, name)] == ["1"]
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    assert [one.info.run_id for one in runs] == [run.info.run_id] and runs[0].data.tags["a"] == "b"
    assert [one.model_id for one in client.get_run(run.info.run_id).outputs.model_outputs] == [model.model_id]
    assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert [one.info.run_id for one in records(client, name)] == [record.run_id]
    assert tags(client, record)["result"] == "deployed" and alias(client, name) == "1"


def test_permanent_error_is_not_retried(client, server):
    """A request that MLflow refuses is sent once, and its message is kept."""
    with flaky(server, 1, fails=lambda *_: False) as proxy:
        shaky = MlflowClient(proxy.url, proxy.url)
        with pytest.raises(MlflowException, match="No Experiment with id=999999"):
            once.run(shaky, "999999", "r", {})
        assert len([path for _, path in proxy.asked if path.endswith("runs/create")]) == 1


@pytest.mark.parametrize("every", [2, 3])
def test_server_with_occasional_failures_is_usable(server, settings, monkeypatch, every):
    """One failure of its page /health, or of a first request, stops no command."""
    with flaky(server, every) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        for _ in range(4):
            assert mlflow_server.uri(settings) == proxy.url
    assert processes.find(mlflow_server.running())


@pytest.fixture(scope="module")
def settings():
    """Any settings."""
    from pipeline.settings import load_settings

    return load_settings()
