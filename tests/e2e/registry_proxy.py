"""A proxy for a real image registry on loopback that injects faults: delays, cut connections, wrong bytes, refusals, tokens."""

import base64
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import requests

KEPT = ("Content-Type", "Docker-Content-Digest", "Location", "Content-Length")


class Proxy:
    """A registry at `address`; `fault(method, path)` returns a request's fault: None, "reset", "cut", "wrong", seconds to wait, or a status."""

    def __init__(self, behind: str):
        self.behind, self.fault = behind, lambda method, path: None
        self.tokens: Callable[[str, str], bool] | None = None  # (user:password, scope) -> whether a token is issued
        self.asked: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_any(self):
                proxy.answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # ignore clients that were killed or have disconnected
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request) -> None:
        """Forward one request, or inject its fault."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.asked.append((request.command, request.path))
        if self.tokens and not self.let_in(request):
            return
        fault = self.fault(request.command, request.path)
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault == "reset":
            request.close_connection = True
            return request.connection.close()
        elif isinstance(fault, int):
            return self.say(request, fault, b'{"errors": [{"code": "TEST", "message": "as the test says"}]}', {})
        headers = {key: request.headers[key] for key in ("Accept", "Content-Type", "Host") if key in request.headers}
        url = f"http://{self.behind}{request.path}"
        done = requests.request(request.command, url, data=body, headers=headers, allow_redirects=False, timeout=20)
        kept = {key: done.headers[key] for key in KEPT if key in done.headers}
        content = b"x" * len(done.content) if fault == "wrong" else done.content
        self.say(request, done.status_code, content[: len(content) // 2] if fault == "cut" else content, kept)
        request.close_connection = request.close_connection or fault == "cut"

    def let_in(self, request) -> bool:
        """Issue tokens, and check that a request's token allows it: pull, or pull and push."""
        url = urlsplit(request.path)
        if url.path == "/token":
            header = request.headers.get("Authorization", "Basic ").removeprefix("Basic ")
            login = base64.b64decode(header).decode()
            scope = parse_qs(url.query)["scope"][0]
            given = self.tokens(login, scope)
            self.say(request, 200 if given else 403, json.dumps({"token": scope} if given else {}).encode(), {})
            return False
        needed = "pull" if request.command in ("GET", "HEAD") else "pull,push"
        if request.headers.get("Authorization", "").endswith(("pull,push", needed)):
            return True
        realm = f'Bearer realm="http://{self.address}/token",service="test",scope="repository:x:{needed}"'
        self.say(request, 401, b"{}", {"Www-Authenticate": realm})
        return False

    def say(self, request, status: int, content: bytes, headers: dict[str, str]) -> None:
        """Send a response."""
        request.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
            request.wfile.flush()
