"""Which target is taken: the one that is named, else the first that is set up; never another one quietly."""

import pytest

from delivery import targets
from delivery.targets import docker, process
from delivery.targets.kubernetes import target as kubernetes
from pipeline.errors import DeployError
from pipeline.settings import load_settings

VARIABLES = ("SLIPWAY_STAGING_CONTEXT", "SLIPWAY_PRODUCTION_CONTEXT", "IMAGE_REPOSITORY")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    """No cluster is set up, and no engine answers."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")


@pytest.fixture
def settings():
    """The shipped settings with another target."""
    shipped = load_settings("tests/example/pipeline.toml")
    return lambda target: shipped.model_copy(update={"deploy": shipped.deploy.model_copy(update={"target": target})})


def test_with_nothing_set_up_releases_run_as_processes(settings):
    """Neither cluster nor engine: a process on this machine."""
    assert targets.choose(settings("auto")) is process


def test_a_cluster_that_is_set_up_is_taken(settings, monkeypatch):
    """With both contexts and a place for images, auto is Kubernetes; no cluster is asked for that."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")
    assert targets.choose(settings("auto")) is kubernetes
    assert targets.choose(settings("process")) is process


@pytest.mark.parametrize("missing", VARIABLES)
def test_a_cluster_that_is_set_up_half_way_is_refused(settings, monkeypatch, missing):
    """With one of the three missing, auto does not fall back to this machine: the missing one is named."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv(missing)
    with pytest.raises(DeployError, match=f"target kubernetes cannot be used here: {missing} not set"):
        targets.choose(settings("auto"))


def test_a_named_target_that_cannot_be_used_is_refused(settings):
    """Docker asked for by name, without an engine: refused with the reason, and doctor's words are the same."""
    with pytest.raises(DeployError, match="target docker cannot be used here: no Docker engine answers"):
        targets.choose(settings("docker"))


def test_a_docker_host_that_is_dead_is_known_before_anything_is_built(settings, monkeypatch):
    """Who sets DOCKER_HOST means containers: `auto` does not take a process instead; a target by name, or no DOCKER_HOST, does."""
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
    """What commands ask of a target is there in each of them."""
    for target in (process, docker, kubernetes):
        for function in ("unavailable", "serving", "release", "reach", "key", "key_in_shell", "forget", "stop"):
            assert callable(getattr(target, function))
        assert isinstance(target.NAME, str) and isinstance(target.WHY, str) and isinstance(target.IMAGES, bool)
        assert isinstance(target.HERE, bool)
    assert {target.NAME for target in targets.TARGETS} | {"auto"} == {"process", "docker", "kubernetes", "auto"}
