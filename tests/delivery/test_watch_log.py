"""Which prediction log is read: that of the target, or, where its service is out of reach, that of SLIPWAY_DATABASE_URL."""

import pytest

from delivery import watch
from pipeline.errors import DeployError
from pipeline.settings import Settings, load_settings
from serving.log.store import Store

COMMAND = ["serving.log.store", "delete-subject", "--subject=nobody"]  # works on any log, also an empty one


@pytest.fixture(params=["docker", "kubernetes"])
def settings(request, monkeypatch) -> Settings:
    """The settings of a model that serves on another machine: here is neither an engine nor a cluster."""
    for name in ("SLIPWAY_DATABASE_URL", "SLIPWAY_STAGING_CONTEXT", "SLIPWAY_PRODUCTION_CONTEXT", "IMAGE_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    shipped = load_settings()
    return shipped.model_copy(update={"deploy": shipped.deploy.model_copy(update={"target": request.param})})


def test_database_is_read_where_the_target_is_out_of_reach(settings, tmp_path, monkeypatch):
    """A job of a workflow, a CronJob and a service beside the model need only the address."""
    url = f"sqlite:///{tmp_path}/log.db"
    Store(url).close()
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    assert watch.lacking("production", settings) == ""
    assert watch.on_log("production", settings, COMMAND) == b"0 predictions deleted\n"


def test_without_an_address_there_is_a_reason_and_no_error(settings):
    """A fork's workflow is green and says what it lacks; only a command that needs the log is refused."""
    assert "SLIPWAY_DATABASE_URL is not set" in (said := watch.lacking("production", settings))
    assert "cannot be used here" in said
    with pytest.raises(DeployError, match="cannot be used here"):
        watch.on_log("production", settings, COMMAND)
