"""Images with faults for a real cluster, tested on a real engine."""

import json
import re

import pytest
import requests

from tests import tools
from tests.delivery.kubernetes import cluster_real_images

SERVE = ["--bundle", "/app/bundle", "--host", "0.0.0.0", "--port", "8000", "--open"]


@pytest.fixture
def engine():
    """A client of this machine's Docker engine."""
    import docker

    client = docker.from_env(timeout=120)
    yield client
    client.close()


@pytest.mark.needs("registry")
def test_image_with_a_fault_is_the_service_with_that_fault(engine, pod_bundle, monkeypatch):
    """The image for `errors` is pushed by digest, serves the bundle, and fails every twentieth prediction."""
    monkeypatch.setenv("SLIPWAY_TEST_REGISTRY", tools.REGISTRY)
    image = cluster_real_images.build(pod_bundle, "errors")
    assert re.fullmatch(rf"{tools.REGISTRY}/slipway-test/[0-9a-f]{{32}}@sha256:[0-9a-f]{{64}}", image)
    container = engine.containers.run(
        image, SERVE, detach=True, read_only=True, ports={"8000/tcp": ("127.0.0.1", None)}
    )
    try:
        statuses = answers(container, json.loads((pod_bundle / "golden.json").read_text(encoding="utf-8"))["inputs"][0])
    finally:
        container.remove(force=True)
        engine.images.remove(engine.images.get(image).id, force=True)
    assert statuses.count(200) == 38 and statuses.count(500) == 2


def answers(container, row) -> list[int]:
    """The statuses of 40 predictions, once the container is ready."""
    container.reload()
    port = container.ports["8000/tcp"][0]["HostPort"]
    with requests.Session() as session:
        retries = requests.adapters.Retry(total=8, backoff_factor=0.2)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        session.get(f"http://127.0.0.1:{port}/readyz", timeout=5).raise_for_status()
        url = f"http://127.0.0.1:{port}/predict"
        return [session.post(url, json={"features": row}, timeout=10).status_code for _ in range(40)]
