"""A fake engine on a real socket with scripted responses, for situations that a real one cannot be brought into."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

IMAGE = {"Id": "sha256:" + "a" * 64, "RepoTags": [], "Size": 350_000_000, "Config": {}}
CUT = object()  # in place of an event: the connection breaks here


class Server(ThreadingMixIn, UnixStreamServer):
    """The engine's socket; `streams` holds the scripted events of builds and pushes, `asked` the requests."""

    daemon_threads = True
    streams: dict[str, list[list]]
    asked: list[str]
    statuses: dict[str, tuple[int, str]]

    def handle_error(self, *_):
        """Ignore clients that disconnected."""


class Handler(BaseHTTPRequestHandler):
    """The few API calls needed to build an image."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(f"GET {path}")
        for part, (status, message) in self.server.statuses.items():
            if part in path:
                return self._send({"message": message}, status)
        if path.endswith("/images/json"):
            return self._send([])
        return self._send(IMAGE if "/images/" in path else {"ApiVersion": "1.41", "Version": "20.10"})

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        what = "push" if self.path.partition("?")[0].endswith("/push") else "build"
        self.server.asked.append(what)
        turns = self.server.streams[what]
        self._stream(turns.pop(0) if len(turns) > 1 else turns[0])

    def _stream(self, events: list) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            if event is CUT:
                self.close_connection = True
                return
            line = json.dumps(event).encode() + b"\r\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, value, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        """Unix sockets have no client address."""
        return "unix"

    def log_message(self, *_):
        """Log nothing."""


@contextmanager
def fake_engine(folder: Path, **streams: list[list]) -> Iterator[Server]:
    """Listen on folder/docker.sock and respond to builds and pushes with these streams, one after the other."""
    server = Server(str(folder / "docker.sock"), Handler)
    server.streams, server.asked, server.statuses = {"build": [[]], "push": [[]], **streams}, [], {}
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
