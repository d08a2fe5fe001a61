"""A usual prediction is answered on the fast path without a task, any other in a task; clients see no difference."""

import json
import re
import socket

import pytest

from serving.http.fast_path import FastPath

BODY = b'{"features": [12.5, -0.5, 4, true], "request_id": "x"}'
CHUNKED = b"20\r\n" + BODY[:32] + b"\r\n%x\r\n" % len(BODY[32:]) + BODY[32:] + b"\r\n0\r\n\r\n"
USUAL = "POST /predict HTTP/1.1", {"Content-Length": len(BODY)}, BODY
WAYS = {
    "usual": USUAL,
    "with a query": ("POST /predict?a=b HTTP/1.1", *USUAL[1:]),
    "in chunks": ("POST /predict HTTP/1.1", {"Transfer-Encoding": "chunked"}, CHUNKED),
    "told to close": (USUAL[0], {**USUAL[1], "Connection": "close"}, BODY),
    "the old protocol": ("POST /predict HTTP/1.0", *USUAL[1:]),
    "the old protocol kept": ("POST /predict HTTP/1.0", {**USUAL[1], "Connection": "keep-alive"}, BODY),
    "asking first": (USUAL[0], {**USUAL[1], "Expect": "100-continue"}, BODY),
    "with room": (USUAL[0], {"Content-Length": len(BODY) + 30_000}, BODY + b" " * 30_000),
}


def _ask(service, way, pieces=1):
    """Send a request, split into `pieces`; return (status line, headers, answer)."""
    line, headers, body = WAYS[way]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sent = f"{line}\r\nHost: localhost\r\n{head}\r\n".encode() + body
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        step = -(-len(sent) // pieces)
        for start in range(0, len(sent), step):
            connection.sendall(sent[start : start + step])
        arrived = b""
        while True:
            arrived += connection.recv(100_000)
            found = re.search(rb"(?s)(HTTP/1.1 [2-5].*?)\r\n\r\n(.*)", arrived)
            if found and len(found[2]) >= int(re.search(rb"content-length: (\d+)", found[1])[1]):
                break
    line, *lines = found[1].decode().split("\r\n")
    return line, dict(one.split(": ", 1) for one in lines), json.loads(found[2])


@pytest.mark.parametrize("way", WAYS)
def test_every_path_gives_the_same_response(binary, way):
    """Status, headers and answer are those of the fast path; only the connection may be closed."""
    line, headers, answer = _ask(binary, way)
    usual_line, usual_headers, usual = _ask(binary, "usual")
    changing = {"date": "", "connection": "", "content-length": ""}
    assert (line, headers | changing) == (usual_line, usual_headers | changing)
    assert answer | {"latency_ms": 0} == usual | {"latency_ms": 0}


@pytest.mark.parametrize("way", ["usual", "in chunks", "with room"])
def test_request_may_come_in_pieces(binary, way):
    """The answer is the same however the network splits the request."""
    whole = _ask(binary, way)[2]
    for pieces in (2, 3, 7, 50):
        assert _ask(binary, way, pieces)[2] | {"latency_ms": 0} == whole | {"latency_ms": 0}


def test_fast_path_has_no_task(bundle, monkeypatch):
    """Proves that the paths differ: a usual request does not reach the ASGI application."""
    from tests.serving.http.test_service_slow_callers import serving_here

    asked = []

    async def noted(self, scope, receive, send):
        asked.append(scope["path"])
        await original(self, scope, receive, send)

    original = FastPath.__call__
    monkeypatch.setattr(FastPath, "__call__", noted)
    with serving_here(bundle) as port:
        service = type("Service", (), {"url": f"http://127.0.0.1:{port}"})
        assert _ask(service, "usual")[0] == "HTTP/1.1 200 OK"
        assert asked == []
        assert _ask(service, "in chunks")[0] == "HTTP/1.1 200 OK"
        assert asked == ["/predict"]
