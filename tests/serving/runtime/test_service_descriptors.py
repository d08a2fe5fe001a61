"""Open files: connections up to the limit are answered, more get a 503."""

import contextlib
import json
import re
import resource
import socket
import subprocess
import sys

from tests.serving.bundles import make_bundle
from tests.serving.service import ROOT

BODY = b'{"features": [12.5, -0.5, 4, true]}'
REQUEST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def _started(bundle, soft, hard):
    """A service under these limits on open files, and its port."""
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


def _answer(connection):
    """Send a request over a connection and read the whole response."""
    with contextlib.suppress(OSError):  # the connection was refused already
        connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"}"):
        arrived = connection.recv(65_536)
        if not arrived:
            break
        answer += arrived
    return answer


def _metrics(port):
    """The whole response to a request for the metrics, over a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = bytearray()
        with contextlib.suppress(ConnectionResetError):  # one that is turned away is not read any more
            while arrived := connection.recv(65_536):
                answer += arrived
        return answer.decode()


def _end(process):
    process.terminate()
    process.wait(40)
    process.stdout.close()


def test_soft_limit_is_raised_to_the_hard_limit(tmp_path):
    """Under the usual soft limit, many more clients than it allows are answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process, port = _started(make_bundle("binary", tmp_path / "bundle"), 128, 2_048)
    connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(300)]
    try:
        assert {_answer(connection)[:12] for connection in connections} == {b"HTTP/1.1 200"}
    finally:
        for connection in connections:
            connection.close()
        _end(process)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_over_the_limit_get_503(tmp_path):
    """No connection is closed silently: each is answered, or gets a counted 503 with Retry-After; afterwards all works again."""
    process, port = _started(make_bundle("binary", tmp_path / "bundle"), 256, 256)
    connections = [socket.create_connection(("127.0.0.1", port), 60) for _ in range(400)]
    try:
        answers = [_answer(connection) for connection in connections]
        statuses = [answer[9:12] for answer in answers]
        assert set(statuses) == {b"200", b"503"} and statuses.count(b"200") >= 190
        refusal = answers[statuses.index(b"503")].decode()
        assert "retry-after: 1\r\n" in refusal and "connection: close\r\n" in refusal
        assert "application/problem+json" in refusal and "x-request-id" in refusal
        assert json.loads(refusal.partition("\r\n\r\n")[2])["detail"] == "there are too many connections; come again"
    finally:
        for connection in connections:
            connection.close()
    refused = statuses.count(b"503")
    while not (text := _metrics(port)).startswith("HTTP/1.1 200"):  # it has not noticed yet that all of them left
        assert text.startswith("HTTP/1.1 503")
        refused += 1
    assert float(re.search(r"^slipway_connections_refused_total (\S+)", text, re.M)[1]) == refused
    _end(process)
