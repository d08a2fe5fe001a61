"""What the end-to-end tests need of this machine: a Docker engine and an image registry; without them they are skipped."""

import os
from pathlib import Path

import pytest
import requests

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
