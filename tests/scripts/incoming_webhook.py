"""An incoming webhook of a chat, as a real HTTP server on loopback."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Stores requests and responds with the server's status."""

    def do_POST(self):  # the name is the library's
        """Handle one message."""
        self.server.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_):
        """Log nothing."""


@contextmanager
def webhook(status: int = 200):
    """An incoming webhook on loopback that responds with a status."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.got, server.status, server.daemon_threads = [], status, True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}/services/hunter2"
        try:
            yield server
        finally:
            server.shutdown()
