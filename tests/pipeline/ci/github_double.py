"""A server that speaks as much of GitHub's REST API as issues, workflows and environments need, on loopback."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATH = "octo/cars"
PAGE = 2  # entries of a page, whatever is asked for: so that a list has pages


class Github(ThreadingHTTPServer):
    """The repository octo/cars: its issues, comments, workflows with their states and runs, and environments; `got` are the requests that change something."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.issues: list[dict[str, Any]] = []
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.environments: dict[str, Any] = {}
        self.states: dict[str, str] = {}
        self.got: list[tuple[str, str, Any]] = []
        self.tokens: set[str] = set()
        self.refuse: list[tuple[str, str, int, dict[str, str]]] = []  # method, pattern, status, headers: each once
        self.off = False
        self.drops_labels = False
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a job that may ask it."""
        return {"GITHUB_REPOSITORY": PATH, "GITHUB_API_URL": self.url, "GITHUB_TOKEN": "hunter2"} | more

    def issue(self, **given: Any) -> dict[str, Any]:
        """Add an issue as somebody would."""
        number = len(self.issues) + 1
        labels = [{"name": name} for name in given.pop("labels", [])]
        made = {
            "number": number,
            "state": "open",
            "body": "",
            "title": "",
            "html_url": f"https://github.com/{PATH}/issues/{number}",
        }
        self.issues.append(made | given | {"labels": labels})
        return self.issues[-1]


class Handler(BaseHTTPRequestHandler):
    """Answers as GitHub does."""

    server: Github

    def handle_any(self) -> None:
        """Answer one request."""
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        rest = parts.path.removeprefix(f"/repos/{PATH}")
        with self.server.lock:
            self.server.tokens.add(self.headers.get("Authorization", ""))
            for rule in self.server.refuse:
                if rule[0] == self.command and re.search(rule[1], rest):
                    self.server.refuse.remove(rule)
                    return self.reply(rule[2], {"message": "no"}, rule[3])
            if self.command != "GET":
                self.server.got.append((self.command, rest, body))
            self.answer(rest, parse_qs(parts.query), body)

    do_GET = do_POST = do_PATCH = do_PUT = handle_any

    def answer(self, rest: str, query: dict[str, list[str]], body: Any) -> None:
        """Find what is asked for."""
        server = self.server
        if rest.startswith("/issues") and server.off:
            return self.reply(410, {"message": "Issues has been disabled in this repository."})
        match self.command, rest.strip("/").split("/"):
            case "GET", [""]:
                self.reply(200, {"default_branch": "trunk"})
            case "GET", ["issues"]:
                label = query.get("labels", [""])[0]
                self.page([one for one in server.issues if label in [each["name"] for each in one["labels"]]], query)
            case "POST", ["issues"]:
                labels = [] if server.drops_labels else body["labels"]
                self.reply(201, server.issue(**(body | {"labels": labels})))
            case "PATCH", ["issues", number]:
                server.issues[int(number) - 1].update(body)
                self.reply(200, server.issues[int(number) - 1])
            case "POST", ["issues", number, "labels"]:
                server.issues[int(number) - 1]["labels"] += [{"name": name} for name in body["labels"]]
                self.reply(200, [])
            case "GET", ["issues", number, "comments"]:
                self.page(server.comments.get(int(number), []), query)
            case "POST", ["issues", number, "comments"]:
                server.comments.setdefault(int(number), []).append(body)
                self.reply(201, body)
            case "GET", ["actions", "workflows", name] if name in server.states:
                self.reply(200, {"state": server.states[name]})
            case "GET", ["actions", "workflows", name, "runs"]:
                self.reply(200, {"workflow_runs": server.runs.get(name, [])})
            case "POST" | "PUT", ["actions", "workflows", _, "dispatches" | "enable"]:
                self.reply(204, None)
            case "GET", ["environments", name] if name in server.environments:
                self.reply(200, server.environments[name])
            case _:
                self.reply(404, {"message": "Not Found"})

    def page(self, found: list[Any], query: dict[str, list[str]]) -> None:
        """A page of a list, with a link to the next."""
        number = int(query.get("page", ["1"])[0])
        more = number * PAGE < len(found)
        parts = urlsplit(self.path)
        kept = "&".join(one for one in parts.query.split("&") if not one.startswith("page="))
        link = f'<{self.server.url}{parts.path}?{kept}&page={number + 1}>; rel="next"'
        self.reply(200, found[(number - 1) * PAGE : number * PAGE], {"Link": link} if more else {})

    def reply(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        """Send an answer."""
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def github() -> Iterator[Github]:
    """GitHub on loopback, with nothing in it."""
    with Github() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
