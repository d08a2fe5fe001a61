"""What the end-to-end tests need of this machine: a Docker engine and an image registry; without them they are skipped."""

import uuid
from pathlib import Path

import pytest

from tests import tools
from tests.e2e.carried_machine import Machine
from tests.e2e.registry_proxy import Proxy
from tests.serving.bundles import make_bundle


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A client of the Docker engine of this machine; at the end this run's network and the prediction logs of its checkouts are removed."""
    import docker

    tools.require("engine")
    client = docker.from_env(timeout=60)
    yield client
    for volume in client.volumes.list(filters={"label": "slipway.checkout"}):
        if volume.attrs["Labels"]["slipway.checkout"].startswith(f"{tmp_path_factory.getbasetemp()}/"):
            volume.remove()
    for network in client.networks.list(names=[f"^{tools.NETWORK}$"]):
        network.remove()
    client.close()


@pytest.fixture(scope="session")
def registry() -> str:
    """The address (host:port) of an image registry that takes images without log-in."""
    tools.require("registry")
    return tools.REGISTRY


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A small real bundle (binary, version 3) that the test may damage."""
    return make_bundle("binary", tmp_path / "bundle")


@pytest.fixture
def repository(registry) -> str:
    """A repository of this test's own, empty."""
    return f"{registry}/carried/{uuid.uuid4().hex}"


@pytest.fixture
def machine(tmp_path, repository):
    """Make machines that carry MLflow; their heartbeats end with the test."""
    made = []

    def make(at: str = repository) -> Machine:
        made.append(Machine(tmp_path / f"machine {len(made)}" / "our model", at))
        return made[-1]

    yield make
    for one in made:
        one.run("-c", "from pipeline import heartbeat, mlflow_server; heartbeat.end(); mlflow_server.stop()")


@pytest.fixture
def proxy(registry):
    """A registry that can be spoiled."""
    made = Proxy(registry)
    yield made
    made.close()
