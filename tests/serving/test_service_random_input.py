"""Nothing that can be sent makes the service fail."""

import json
import random
import socket

import pytest

BODIES = 600
ODD = ["", "text", "\ud800", "\x00", "9" * 400, "{}", "null"]
NUMBERS = [0, 1, -1, 3.5, 1e308, -1e308, 5e-324, 2**63, 10**400, float("nan"), float("inf"), -0.0]


def _value(rng, depth=0):
    """Any JSON value, odd ones first."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(ODD)
    if kind == 3:
        return rng.choice([True, False, None])
    if kind == 4:
        return rng.uniform(-200, 200)
    if kind < 7:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(ODD): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _near_miss(rng, example):
    """A right row with one thing changed, which reaches deeper than noise."""
    row = dict(example)
    name = rng.choice(list(row))
    change = rng.randrange(4)
    if change == 0:
        row[name] = _value(rng)
    elif change == 1:
        del row[name]
    elif change == 2:
        row[rng.choice(ODD)] = _value(rng)
    return row if rng.random() < 0.5 else list(row.values())


def _body(rng, example):
    roll = rng.random()
    if roll < 0.6:
        row = _near_miss(rng, example)
        return {"features": row if rng.random() < 0.5 else [row, dict(example)]}
    if roll < 0.8:
        return {"features": _value(rng), **({"request_id": _value(rng)} if rng.random() < 0.3 else {})}
    return _value(rng)


def _bytes(rng, example):
    """A body as bytes: mostly JSON, sometimes with a damaged byte."""
    raw = bytearray(json.dumps(_body(rng, example)).encode())
    if raw and rng.random() < 0.2:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(raw)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_bodies_are_answered_or_refused(service, seed):
    """Random and nearly right bodies give 200, 400 or 422, each seen at least once, and never a 5xx."""
    rng = random.Random(seed)
    seen = set()
    for _ in range(BODIES // 2):
        raw = _bytes(rng, service.example)
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
