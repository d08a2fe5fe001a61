"""Sends random requests over many connections and checks each response.

`make fuzz` sets FUZZ=long. FUZZ_SEED repeats a run: with the same seed, a connection sends the same requests.
"""

import asyncio
import json
import math
import os
import random
import time
from collections import Counter

from tests.serving.random_bodies import random_request

LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("FUZZ_SEED") or (time.time_ns() % 1_000_000 if LONG else 1))
CONNECTIONS = 16
PATIENCE = 60  # seconds; longer than any response takes on a busy machine
REFUSALS = {400, 401, 404, 405, 413, 415, 422}


def fuzz(url: str, example: dict, key: str, requests: int) -> Counter:
    """Send a number of requests; return the count of responses by status. Raises AssertionError for the first wrong one."""
    print(f"\n{requests} random requests, seed {SEED}; FUZZ_SEED={SEED} repeats them", flush=True)
    host, port = url.removeprefix("http://").split(":")
    return asyncio.run(_all(host, int(port), example, key.encode(), requests))


async def _all(host, port, example, key, requests):
    seen: Counter = Counter()
    began = time.monotonic()

    async def connection(number):
        rng = random.Random(f"{SEED}/{number}")
        streams = None
        for place in range(number, requests, CONNECTIONS):
            request = random_request(rng, example, key)
            try:
                streams = streams or await asyncio.open_connection(host, port)
                if request.is_http:
                    status, closes = await asyncio.wait_for(_ask(*streams, request.raw), PATIENCE)
                else:
                    status, closes = await asyncio.wait_for(_send_noise(*streams, request.raw), PATIENCE), True
            except (AssertionError, OSError, EOFError, TimeoutError, ValueError) as error:
                raw = request.raw if len(request.raw) < 4000 else request.raw[:4000] + b" ..."
                raise AssertionError(f"connection {number}, request {place}: {error!r} for {raw!r}") from error
            seen[status] += 1
            if closes:
                streams[1].close()
                streams = None
            if (done := seen.total()) % 10_000 == 0:
                print(f"  {done} requests, {done / (time.monotonic() - began):.0f} a second", flush=True)
        if streams:
            streams[1].close()

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(connection(number))
    return seen


async def _ask(reader, writer, raw):
    """Send a request and check its response; return its status, and whether the connection closes."""
    writer.write(raw)
    head = await reader.readuntil(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100 "):
        head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    status = int(line.split()[1])
    body = b"" if raw.startswith(b"HEAD ") else await reader.readexactly(int(headers["content-length"]))
    if raw.startswith(b"HEAD "):
        assert status in {200, *REFUSALS}, head
    elif status == 200:
        if headers["content-type"] == "application/json":
            _check_finite(json.loads(body, parse_constant=_no_constant))
    else:
        _check_problem(status, headers, body)
    return status, headers.get("connection") == "close"


async def _send_noise(reader, writer, raw):
    """Send bytes that are not HTTP and read until the connection closes; return the last response's status, or 0 for none."""
    statuses = [0]
    try:
        writer.write(raw)
        writer.write_eof()
        answer = await reader.read(-1)
        statuses += [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    except ConnectionError:
        pass  # the service closed before reading everything
    assert max(statuses) < 500, statuses
    return statuses[-1]


def _check_problem(status, headers, body):
    assert status in REFUSALS, (status, body)
    assert headers["content-type"] == "application/problem+json", (headers, body)
    problem = json.loads(body)
    assert problem.keys() - {"errors"} == {"type", "title", "status", "detail", "request_id"}, problem
    assert problem["status"] == status and problem["detail"], problem
    assert problem["request_id"] == headers["x-request-id"], problem
    assert "Traceback" not in problem["detail"], problem
    assert (status == 405) == ("allow" in headers), headers
    assert (status == 401) == ("www-authenticate" in headers), headers
    assert all(error["detail"] for error in problem.get("errors", [])), problem


def _check_finite(value):
    """Assert that all numbers of a response are finite."""
    if isinstance(value, float):
        assert math.isfinite(value), value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_finite(part)


def _no_constant(name):
    raise AssertionError(f"the answer holds {name}, which is not JSON")
