"""The proxy in front of the releases, and the graceful shutdown of a service."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest
import requests

from pipeline.processes import free_port
from serving.http.server import DRAIN as DRAIN_SECONDS
from tests.serving.bundles import make_bundle
from tests.serving.load import call_until_refused, constant_load
from tests.serving.service import ROOT, serving


@contextmanager
def proxy(*options):
    """A proxy in a separate process; yields its address and the process."""
    port = free_port()
    command = [sys.executable, "-m", "serving.runtime.proxy", "--port", str(port), *map(str, options)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("proxy open")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def point(record, service) -> None:
    """Write a service's address to a record atomically."""
    new = record.with_suffix(".new")
    new.write_text(json.dumps({"address": service.url.removeprefix("http://")}), encoding="utf-8")
    new.replace(record)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The same model as version 1 and as version 2."""
    folder = tmp_path_factory.mktemp("versions")
    return [make_bundle("binary", folder / version, version) for version in ("1", "2")]


def test_no_request_is_lost_when_the_proxy_switches_releases(bundles, tmp_path):
    """Under constant load, the record switches to another release five times and the old one is stopped: every request is answered."""
    record = tmp_path / "record.json"
    with ExitStack() as stack:
        old = stack.enter_context(serving(bundles[0]))
        point(record, old)
        url, _ = stack.enter_context(proxy("--to-record", record))
        with constant_load(url, old.example) as load:
            for turn in range(5):
                new = stack.enter_context(serving(bundles[(turn + 1) % 2]))
                point(record, new)
                time.sleep(0.3)
                old.process.send_signal(signal.SIGTERM)
                assert old.process.wait(15) == 0
                old = new
    assert load.failures == []
    assert min(load.answers["1"], load.answers["2"]) > 50


def test_shutdown_answers_open_connections_with_connection_close(bundles):
    """After SIGTERM an open connection gets one more response with `Connection: close`; then the process exits with 0."""
    with serving(bundles[0]) as service:
        assert service.predict(service.example).headers.get("connection") is None
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        answer = service.predict(service.example)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert service.process.wait(5) == 0


def test_service_without_clients_stops_at_once(bundles):
    """With no open connection, SIGTERM ends the process long before the drain timeout."""

    def ends_at_once() -> bool:
        with serving(bundles[0]) as service:
            service.process.send_signal(signal.SIGTERM)
            try:
                return service.process.wait(DRAIN_SECONDS - 1) == 0
            except subprocess.TimeoutExpired:
                return False

    # Three attempts: a late request of another test to a reused port is a client, too.
    assert any(ends_at_once() for _ in range(3))


def test_idle_connection_does_not_delay_the_shutdown(bundles):
    """A connection without requests is closed by the keep-alive timeout, and the process exits."""
    with serving(bundles[0]) as service:
        service.predict(service.example)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(9) == 0


def test_proxy_answers_503_while_no_service_runs(tmp_path):
    """Clients wait, then get problem details instead of a broken connection."""
    with proxy("--to-record", tmp_path / "none.json") as (url, _):
        answer = requests.get(url, headers={"X-Request-ID": "order-1"}, timeout=20)
        other = requests.get(url, headers={"X-Request-ID": "no id"}, timeout=20)
    assert answer.status_code == 503 and answer.json()["status"] == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-1"
    assert len(other.headers["x-request-id"]) == 32 and other.headers["x-request-id"] == other.json()["request_id"]


def test_early_client_waits_for_the_service(bundles, tmp_path):
    """A request made before the service runs is answered once it does."""
    record = tmp_path / "record.json"
    with (
        serving(bundles[0]) as service,
        proxy("--to-record", record) as (url, _),
        constant_load(url, service.example, callers=3) as load,
    ):
        time.sleep(1)
        assert load.requests == 0
        point(record, service)
        time.sleep(1)
    assert load.failures == [] and load.answers["1"] > 3


def test_proxy_forwards_large_bodies_both_ways(bundles):
    """A batch of 10,000 rows arrives intact."""
    with serving(bundles[0]) as service, proxy("--to", service.url.removeprefix("http://")) as (url, _):
        rows = [list(service.example.values())] * 10_000
        answer = requests.post(f"{url}/predict/batch", json={"features": rows}, timeout=60)
    assert len(answer.json()["predictions"]) == 10_000


def test_proxy_supports_half_closed_connections(bundles):
    """A client that sends, closes its sending side and waits, gets its response."""
    with serving(bundles[0]) as service, proxy("--to", service.url.removeprefix("http://")) as (url, _):
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as caller:
            caller.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            caller.shutdown(socket.SHUT_WR)
            assert caller.recv(100).startswith(b"HTTP/1.1 200")


def test_proxy_stops_silently_with_open_connections(bundles):
    """SIGTERM with connected clients: they are disconnected, nothing is printed, and the exit status is 0."""
    with serving(bundles[0]) as service, proxy("--to", service.url.removeprefix("http://")) as (url, process):
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port)) as one, socket.create_connection(("127.0.0.1", port)) as two:
            one.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200")
            two.sendall(b"GET")
            process.terminate()
            assert process.wait(5) == 0
            assert process.stdout.read() == ""


def test_no_connection_is_lost_when_the_proxy_stops(bundles):
    """SIGTERM while clients keep opening connections: each accepted one is answered, the others are refused."""
    with (
        serving(bundles[0], SLIPWAY_RATE_LIMIT="0") as service,
        proxy("--to", service.url.removeprefix("http://")) as (url, process),
    ):
        lost = call_until_refused(int(url.rsplit(":", 1)[1]), process.terminate)
        assert process.wait(60) == 0
    assert lost == []


def test_proxy_that_cannot_listen_says_so():
    """A port in use is named in one line, with exit status 1; an address without a port is a usage error."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "serving.runtime.proxy", "--port", str(port), "--to", "127.0.0.1:1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
    command[-1] = "nowhere"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2 and "not HOST:PORT" in done.stderr
