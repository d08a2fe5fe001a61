"""The relay's image: small, without MLflow, working, and hardened as in a cluster."""

import os
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from pipeline.processes import free_port
from tests.delivery.relay.relays import SECRET, TOKEN, event, metric, registry, server, signed, wait

ROOT = Path(__file__).resolve().parents[2]

LIMIT = 60e6  # bytes that the image may add to its base
RELAY = ("__init__", "alerts", "app", "metrics", "remote", "server", "worker")


@pytest.fixture(scope="module")
def image(engine):
    """The image, built from its Dockerfile; removed at the end."""
    name = f"slipway-relay-{uuid.uuid4().hex[:8]}"
    base = os.environ.get("PYTHON_IMAGE")
    given = ["--build-arg", f"PYTHON_IMAGE={base}"] if base else []
    command = ["docker", "build", "-q", "-f", "monitoring/relay.Dockerfile", "-t", name, *given, "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    yield engine.images.get(name)
    engine.images.remove(name, force=True)


@pytest.fixture
def run(engine, image):
    """Start a container of it with this environment, on this machine's own network."""
    made = []

    def start(**environment: str):
        container = engine.containers.run(
            image.id,
            ["--host", "127.0.0.1"],
            detach=True,
            network_mode="host",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            environment=environment,
        )
        made.append(container)
        return container

    yield start
    for container in made:
        container.remove(force=True)


def test_relay_image_has_only_its_imports(engine, image):
    """No MLflow, no pandas, nothing of the repository but the relay's modules; not root; no secret in its configuration."""
    script = (
        "import importlib.util as u, pathlib, os\n"
        "names = ['mlflow', 'pandas', 'sklearn', 'requests', 'psutil', 'yaml', 'pip']\n"
        "print([n for n in names if u.find_spec(n)])\n"
        "print(sorted(str(p.relative_to('/app')) for p in pathlib.Path('/app').rglob('*') if p.is_file()))\n"
        "print(os.getuid())\n"
    )
    said = engine.containers.run(
        image.id, ["-c", script], entrypoint="python", remove=True, read_only=True, environment={"PYTHONPATH": ""}
    )
    found, files, user = said.decode().splitlines()
    assert (found, user) == ("[]", "10001")
    assert set(eval(files)) == {
        *(f"pipeline/{name}.py" for name in ("__init__", "artifacts", "errors")),
        *(f"pipeline/ci/{name}.py" for name in ("__init__", "chat", "outputs")),
        *(f"pipeline/registry/{name}.py" for name in ("__init__", "webhooks")),
        *(f"scripts/{name}.py" for name in ("__init__", "mlflow/__init__", "mlflow/webhook_relay")),
        *(f"delivery/{name}.py" for name in ("__init__", *(f"relay/{one}" for one in RELAY))),
    }
    base = engine.images.get(os.environ.get("PYTHON_IMAGE") or "python:3.11-slim-bookworm")
    assert image.attrs["Size"] - base.attrs["Size"] < LIMIT
    assert not any("SLIPWAY" in line for line in image.attrs["Config"]["Env"])


def test_relay_image_forwards_a_signed_delivery(run):
    """Healthy within seconds; a delivery starts the workflow; it stops in time, and its log has no secret."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with server(204) as github, server(200, registry(production="3")) as mlflow:
        container = run(
            SLIPWAY_RELAY_SECRET=SECRET,
            SLIPWAY_RELAY_TOKEN=TOKEN,
            SLIPWAY_RELAY_MODEL="cars",
            SLIPWAY_RELAY_REPOSITORY="octo/cars",
            SLIPWAY_RELAY_PORT=str(port),
            MLFLOW_TRACKING_URI=mlflow.url,
            GITHUB_API_URL=github.url,
        )
        wait(lambda: _healthy(url), 30)
        assert (
            requests.post(f"{url}/webhook", data=event(), headers=signed(event(), "another-one"), timeout=5).status_code
            == 401
        )
        assert requests.post(f"{url}/webhook", data=event(), headers=signed(event()), timeout=5).status_code == 202
        wait(lambda: metric(url, "slipway_relay_promotions_total", result="started") == 1)
        assert [request[1] for request in github.got] == ["/repos/octo/cars/actions/workflows/promote.yml/dispatches"]
        began = time.monotonic()
        container.stop(timeout=20)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0 and time.monotonic() - began < 10
        log = container.logs().decode()
        assert "started promote.yml in octo/cars" in log and SECRET not in log and TOKEN not in log


def test_relay_image_names_missing_settings(run):
    """Without settings it exits at once and names the first missing one, including the model's name: it has no pipeline.toml."""
    container = run()
    assert container.wait(timeout=30)["StatusCode"] == 1 and b"SLIPWAY_RELAY_SECRET" in container.logs()
    container = run(SLIPWAY_RELAY_SECRET=SECRET)
    assert container.wait(timeout=30)["StatusCode"] == 1
    assert (
        b"SLIPWAY_RELAY_MODEL, MLFLOW_TRACKING_URI, SLIPWAY_RELAY_REPOSITORY, SLIPWAY_RELAY_TOKEN" in container.logs()
    )


def _healthy(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/healthz", timeout=5).ok
    return False
