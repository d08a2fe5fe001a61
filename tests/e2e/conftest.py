"""Requirements of the end-to-end tests: a Docker engine and an image registry; without them the tests are skipped."""

import uuid
from pathlib import Path

import pytest

from tests import tools
from tests.e2e.carried_machine import Machine
from tests.e2e.registry_proxy import Proxy
from tests.serving.bundles import make_bundle


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A client of this machine's Docker engine; at the end this run's network and its checkouts' prediction logs are removed."""
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
    """The address (host:port) of an image registry that accepts images without a login."""
    tools.require("registry")
    return tools.REGISTRY


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A small real bundle (binary, version 3) that the test may damage."""
    return make_bundle("binary", tmp_path / "bundle")


@pytest.fixture
def repository(registry) -> str:
    """An empty repository for this test."""
    return f"{registry}/carried/{uuid.uuid4().hex}"


@pytest.fixture
def machine(tmp_path, repository):
    """Make machines with an embedded MLflow; their heartbeats stop with the test."""
    made = []

    def make(at: str = repository) -> Machine:
        made.append(Machine(tmp_path / f"machine {len(made)}" / "our model", at))
        return made[-1]

    yield make
    for one in made:
        one.run(
            "-c",
            "from pipeline.registry import mlflow_server; from pipeline.registry.embedded import heartbeat; heartbeat.end(); mlflow_server.stop()",
        )


@pytest.fixture
def proxy(registry):
    """A proxy for a registry, which can inject faults."""
    made = Proxy(registry)
    yield made
    made.close()
