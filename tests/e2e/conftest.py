"""What the end-to-end tests need of this machine: a Docker engine and an image registry; without them they are skipped."""

import os
import uuid
from pathlib import Path

import pytest
import requests

from tests.e2e.carried_machine import Machine
from tests.e2e.registry_proxy import Proxy
from tests.serving.bundles import make_bundle

REGISTRY = "127.0.0.1:5050"


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A client of the Docker engine of this machine; at the end the prediction logs of this run's checkouts are removed."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers: {str(error).splitlines()[0][:200]}")
    yield client
    for volume in client.volumes.list(filters={"label": "slipway.checkout"}):
        if volume.attrs["Labels"]["slipway.checkout"].startswith(f"{tmp_path_factory.getbasetemp()}/"):
            volume.remove()
    client.close()


@pytest.fixture(scope="session")
def registry() -> str:
    """The address (host:port) of an image registry that takes images without log-in."""
    address = os.environ.get("SLIPWAY_TEST_REGISTRY", REGISTRY)
    try:
        requests.get(f"http://{address}/v2/", timeout=3).raise_for_status()
    except requests.RequestException:
        pytest.skip(f"no image registry answers at {address}; SLIPWAY_TEST_REGISTRY names one (host:port)")
    return address


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
