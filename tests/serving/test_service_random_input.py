"""Nothing that can be sent makes the service fail."""

import random
import socket

import pytest

from tests.serving.random_bodies import random_body

BODIES = 600


@pytest.mark.parametrize("seed", [1, 2])
def test_random_bodies_are_answered_or_refused(service, seed):
    """Random and nearly right bodies give 200, 400 or 422, each seen at least once, and never a 5xx."""
    rng = random.Random(seed)
    seen = set()
    for _ in range(BODIES // 2):
        raw = random_body(rng, service.example)
        path = rng.choice(["/predict", "/predict/batch"])
        response = service.post(path, data=raw)
        assert response.status_code in (200, 400, 422), (path, raw, response.text)
        if response.status_code != 200:
            assert response.json()["detail"]
        seen.add(response.status_code)
    assert seen == {200, 400, 422}


def test_random_bytes_on_the_wire_do_not_end_the_service(binary):
    """Bytes that are not even HTTP leave the service alive."""
    rng = random.Random(3)
    host, port = binary.url.removeprefix("http://").split(":")
    for _ in range(30):
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n")
    assert binary.get("/readyz").status_code == 200
    assert binary.process.poll() is None
