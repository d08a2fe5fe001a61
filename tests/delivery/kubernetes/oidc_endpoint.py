"""A real HTTP endpoint that issues tokens like GitHub's, and the environment of a job."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BEARER = "bearer-of-this-job"


class Endpoint(ThreadingHTTPServer):
    """Responds with `token`, after the statuses in `faults`, each after `delay` seconds; counts the requests."""

    daemon_threads = True
    token, body, delay = "token-of-staging", "", 0.0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[int] = []
        self.audiences: list[str] = []

    def handle_error(self, *_):
        """Ignore clients that disconnected before the response."""

    def environment(self) -> dict[str, str]:
        """The environment of a job with `id-token: write`."""
        url = f"http://127.0.0.1:{self.server_port}/token?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": BEARER}


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    server: Endpoint

    def do_GET(self):  # the name is the library's
        """Return a token if the bearer is this job's."""
        query = parse_qs(urlsplit(self.path).query)
        self.server.audiences += query.get("audience", ["none"])
        time.sleep(self.server.delay)
        status = self.server.faults.pop(0) if self.server.faults else 200
        if self.headers["Authorization"] != f"Bearer {BEARER}" or query.get("api-version") != ["2.0"]:
            status = 401
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write((self.server.body or json.dumps({"value": self.server.token})).encode())

    def log_message(self, *_):
        """Log nothing."""


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """An endpoint for the duration of a test."""
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
