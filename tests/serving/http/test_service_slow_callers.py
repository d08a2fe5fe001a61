"""Slow, endless or silent clients do not keep a connection forever."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from serving.app import create_app
from serving.config import read_config
from serving.http import server

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 35\r\n\r\n"
BODY = b'{"features": [12.5, -0.5, 4, true]}'


@contextmanager
def serving_here(bundle, app=None):
    """Serve a bundle, or an application that was made of one, in this process, and yield the port."""
    app, up = app or create_app(bundle, read_config({})), threading.Event()
    running = server.Server(app, up.set, lambda: None)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(running.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        assert up.wait(20)
        yield port
    finally:
        running.should_exit = running.force_exit = True
        thread.join(20)


@pytest.fixture
def impatient(bundle, monkeypatch):
    """The port of a service in this process that waits half a second for a request."""
    monkeypatch.setattr(server, "PATIENCE", 0.5)
    monkeypatch.setattr(server, "LOOK", 0.1)
    with serving_here(bundle) as port:
        yield port


@pytest.fixture
def brisk(bundle, monkeypatch):
    """The port of a service in this process with a keep-alive timeout of half a second."""
    configure = server.uvicorn.Config
    monkeypatch.setattr(
        server.uvicorn, "Config", lambda *args, **more: configure(*args, **more, timeout_keep_alive=0.5)
    )
    with serving_here(bundle) as port:
        yield port


def _answered(connection, request=HEAD + BODY):
    """Ask, and read the answer."""
    connection.sendall(request)
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200"), answer


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("request_", [HEAD + BODY, HEALTH], ids=["direct", "task"])
def test_keep_alive_timeout_restarts_with_each_response(brisk, request_):
    """A connection in use stays open for many timeouts; it is closed one timeout after its last response."""
    with _connect(brisk) as connection:
        for _ in range(8):
            _answered(connection, request_)
            time.sleep(0.25)
        _answered(connection, request_)
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert 0.4 < time.monotonic() - began < 5


def test_slow_request_is_not_cut_by_the_keep_alive_timeout(brisk):
    """The timer of an earlier response does not close a connection on which a request arrives slowly."""
    with _connect(brisk) as connection:
        _answered(connection)
        connection.sendall(HEAD)
        time.sleep(1.2)
        _answered(connection, BODY)


def test_closed_connection_leaves_no_timer(bundle, monkeypatch):
    """When a client disconnects, the keep-alive timer of its connection is gone, too."""
    made = []
    set_up = server.Protocol.connection_made
    monkeypatch.setattr(
        server.Protocol, "connection_made", lambda self, transport: made.append(self) or set_up(self, transport)
    )
    with serving_here(bundle) as port:
        with _connect(port) as connection:
            _answered(connection)
            _wait_until(lambda: made[0].timeout_keep_alive_task is not None)
            assert not made[0].timeout_keep_alive_task.cancelled()
        _wait_until(lambda: made[0].timeout_keep_alive_task.cancelled())


def _wait_until(holds):
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def _connect(port):
    return socket.create_connection(("127.0.0.1", port), 10)


@pytest.mark.parametrize(
    "sent", [b"", b"POST /pre", HEAD, HEAD + BODY[:10]], ids=["nothing", "half a head", "a head", "half a body"]
)
def test_incomplete_request_times_out(impatient, sent):
    """Whatever part of a request came, the connection is closed when the rest does not come."""
    with _connect(impatient) as connection:
        connection.sendall(sent)
        assert connection.recv(1000) == b""


def test_trickling_body_times_out(impatient):
    """A byte now and then does not count as progress."""
    with _connect(impatient) as connection:
        connection.sendall(HEAD)
        with pytest.raises(OSError):
            for byte in BODY:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)


def test_keep_alive_connection_lasts_while_used(impatient):
    """It stays open as long as whole requests come over it."""
    with _connect(impatient) as connection:
        for _ in range(8):
            connection.sendall(HEAD + BODY)
            answer = b""
            while not answer.endswith(b"}"):  # head and body may arrive separately
                arrived = connection.recv(10_000)
                assert arrived
                answer += arrived
            time.sleep(0.15)


def test_endless_head_closes_the_connection(impatient):
    """More than 64 KB of headers are not read."""
    with _connect(impatient) as connection, pytest.raises(OSError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        for number in range(100_000):
            connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))


def test_many_pipelined_requests_are_answered(impatient):
    """Requests sent without waiting are answered in order, however long they are in total."""
    with _connect(impatient) as connection:
        connection.sendall((HEAD + BODY) * 1000)
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 1000:
            arrived = connection.recv(1 << 20)
            assert arrived
            seen += arrived


def test_trailers_are_not_headers(impatient):
    """Lines after a chunked body set no request id and pass no key."""
    with _connect(impatient) as connection:
        head = HEAD.replace(b"Content-Length: 35", b"Transfer-Encoding: chunked")
        connection.sendall(head + b"23\r\n" + BODY + b"\r\n0\r\nX-Request-ID: trailer\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(10_000)
        assert b"HTTP/1.1 200" in answer and b"trailer" not in answer


def test_endless_trailers_close_the_connection(impatient):
    """More than 64 KB of them are not read, be it one line or many."""
    for line in (b"a:b\r\n" * 200, b"a" * 1000):
        with _connect(impatient) as connection, pytest.raises(OSError):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
            for _ in range(100_000):
                connection.sendall(line)


def test_client_that_does_not_read_is_disconnected(impatient):
    """A response that the client does not read does not hold its connection."""
    with _connect(impatient) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        time.sleep(3)
        with pytest.raises(OSError):
            while True:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                time.sleep(0.05)
