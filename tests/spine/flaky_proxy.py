"""A proxy for a real MLflow that fails every n-th request, like an unreliable server or network.

A failure is a response 500 or 503, or a dropped connection; either before the request has reached MLflow, or after
MLflow has executed it. The second kind is the hard one: a retry asks for something that exists already.
"""

import http.client
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BEFORE = ("500 before", "drop before", "503 before")
AFTER = ("500 after", "drop after", "503 after")
KINDS = tuple(itertools.chain(*zip(BEFORE, AFTER, strict=True)))
HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class FlakyProxy(ThreadingHTTPServer):
    """Fails every `every`-th request that `fails` selects, with one kind of failure after the other; `asked` and `failed` count."""

    daemon_threads = True

    def __init__(self, upstream: str, every: int, kinds=KINDS, fails=lambda method, path: True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.every, self.fails = urlsplit(upstream).netloc, every, fails
        self.kinds, self.lock = itertools.cycle(kinds), threading.Lock()
        self.count, self.asked, self.failed = 0, [], []

    @property
    def url(self) -> str:
        """The URL to use instead of MLflow's."""
        return f"http://127.0.0.1:{self.server_port}"

    def failure(self, method: str, path: str) -> str:
        """The kind of failure for this request; "" for none."""
        with self.lock:
            self.asked.append((method, path))
            if not self.fails(method, path):
                return ""
            self.count += 1
            if self.count % self.every:
                return ""
            kind = next(self.kinds)
            self.failed.append((kind, method, path))
            return kind

    def handle_error(self, *_) -> None:
        """Ignore clients that disconnected."""


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: FlakyProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Forward the request and its response, unless it must fail."""
        body = self.body()
        kind = self.server.failure(self.command, self.path.partition("?")[0])
        if kind.endswith("before"):
            return self.fail(kind)
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP | {"host"}}
            upstream.request(self.command, self.path, body, headers)
            got = upstream.getresponse()
            content = got.read()
        finally:
            upstream.close()
        if kind:
            return self.fail(kind)
        self.send_response(got.status)
        for key, value in got.getheaders():
            if key.lower() not in HOP:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

    def body(self) -> bytes:
        """The request's body, of declared length or chunked."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def fail(self, kind: str) -> None:
        """Respond with the status of this kind of failure, or drop the connection."""
        if kind.startswith("drop"):
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send_response(int(kind.split()[0]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        """Log nothing."""


@contextmanager
def flaky(upstream: str, every: int, **options) -> Iterator[FlakyProxy]:
    """A proxy for the MLflow at `upstream` while the context lasts."""
    with FlakyProxy(upstream, every, **options) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
