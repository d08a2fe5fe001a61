"""The choice of a target: the named one, else the first that is set up, and never quietly another one."""

import pytest

from delivery import targets
from delivery.targets import docker, process
from delivery.targets.kubernetes import target as kubernetes
from pipeline.errors import DeployError
from pipeline.settings import load_settings

VARIABLES = ("SLIPWAY_STAGING_CONTEXT", "SLIPWAY_PRODUCTION_CONTEXT", "IMAGE_REPOSITORY")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No cluster is configured, and no engine responds."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@pytest.fixture
def settings():
    """The shipped settings with another target."""
    shipped = load_settings("tests/example/pipeline.toml")
    return lambda target: shipped.model_copy(update={"deploy": shipped.deploy.model_copy(update={"target": target})})


def test_default_target_is_a_process(settings):
    """With neither cluster nor engine, releases run as a process on this machine."""
    assert targets.choose(settings("auto")) is process


def test_configured_cluster_is_chosen(settings, monkeypatch):
    """With both contexts and an image repository, auto chooses Kubernetes, without contacting the cluster."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")
    assert targets.choose(settings("auto")) is kubernetes
    assert targets.choose(settings("process")) is process


@pytest.mark.parametrize("missing", VARIABLES)
def test_partly_configured_cluster_is_refused(settings, monkeypatch, missing):
    """With one of the three missing, auto does not fall back to this machine but names it."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv(missing)
    with pytest.raises(DeployError, match=f"target kubernetes cannot be used here: {missing} not set"):
        targets.choose(settings("auto"))


def test_unavailable_named_target_is_refused(settings):
    """Target docker without an engine is refused with the reason, and doctor says the same."""
    with pytest.raises(DeployError, match="target docker cannot be used here: no Docker engine answers"):
        targets.choose(settings("docker"))


def test_dead_docker_host_is_refused_before_a_build(settings, monkeypatch):
    """With DOCKER_HOST set `auto` does not fall back to a process; a named target, or no DOCKER_HOST, does work."""
    with pytest.raises(
        DeployError, match="DOCKER_HOST is set, but no Docker engine answers at unix:///nowhere"
    ) as refused:
        targets.check(settings("auto"))
    assert "unset DOCKER_HOST" in refused.value.then
    assert targets.check(settings("process")) is process
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.setattr(docker, "unavailable", lambda settings: "no Docker engine answers")
    assert targets.check(settings("auto")) is process


def test_every_target_has_the_same_functions():
    """Each target implements everything that commands call."""
    for target in (process, docker, kubernetes):
        for function in ("unavailable", "serving", "release", "reach", "key", "key_in_shell", "on_log", "stop"):
            assert callable(getattr(target, function))
        assert isinstance(target.NAME, str) and isinstance(target.WHY, str) and isinstance(target.IMAGES, bool)
        assert isinstance(target.HERE, bool)
    assert {target.NAME for target in targets.TARGETS} | {"auto"} == {"process", "docker", "kubernetes", "auto"}
