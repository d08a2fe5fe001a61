"""A relay under test, a fake GitHub API and an MLflow that may be down: all on loopback, each with its own handle."""

import json
import re
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests
import uvicorn

from delivery.relay import app
from delivery.relay import server as relay_server
from delivery.relay.metrics import Metrics
from delivery.relay.worker import Pace
from pipeline.processes import free_port
from pipeline.registry.webhooks import sign

SECRET = "9f2c5b7de01a4e6c8d3b"
TOKEN = "ghp_never-in-a-log"
BEARER = "4d1e8a6b90c7f2533e5a"
QUICK = Pace(quiet=0.2, first=0.05, longest=0.2, after=0.5, tries=6)


class Handler(BaseHTTPRequestHandler):
    """Stores requests and responds as its server says."""

    def answer(self):
        """Handle a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.got.append((self.command, self.path, dict(self.headers), json.loads(body or b"null")))
        time.sleep(self.server.seconds)
        status = self.server.statuses.pop(0) if self.server.statuses else self.server.status
        said = json.dumps(self.server.body).encode() if status != 204 else b""
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = answer

    def log_message(self, *_):
        """Log nothing."""


@contextmanager
def server(status: int = 204, body=None, port: int = 0):
    """A server on loopback; a test reads and sets its `got`, `status`, `statuses`, `headers` and `seconds`."""
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as made:
        made.got, made.statuses, made.headers, made.seconds = [], [], {}, 0
        made.status, made.body, made.daemon_threads = status, body or {}, True
        made.url = f"http://127.0.0.1:{made.server_port}"
        threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield made
        finally:
            made.shutdown()


def registry(**aliases: str) -> dict:
    """MLflow's response for a model with these aliases."""
    listed = [{"alias": alias, "version": version} for alias, version in aliases.items()]
    return {"registered_model": {"name": "cars", "aliases": listed}}


class Relay:
    """A relay in this process, and MLflow's requests to it."""

    def __init__(
        self,
        worker,
        metrics: Metrics,
        seen=None,
        model: str = "cars",
        secret: str = SECRET,
        host: str = "127.0.0.1",
        heard=None,
    ):
        self.worker = worker
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.heard = heard
        made = app.make(secret, model, worker, metrics, seen, heard)
        config = uvicorn.Config(
            made, host=host, port=self.port, log_level="warning", access_log=False, limit_concurrency=64
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        wait(lambda: self.server.started)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(30)

    def send(self, body: bytes | None = None, **changed: str | None) -> requests.Response:
        """Send a delivery as MLflow does; arguments replace the valid values, and None omits a header."""
        body = event() if body is None else body
        return requests.post(f"{self.url}/webhook", data=body, headers=signed(body, **changed), timeout=20)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, 0 when it is missing."""
        return metric(self.url, name, **labels)

    def deliveries(self, result: str, reason: str = "") -> float:
        """Number of deliveries with this result."""
        return self.metric("slipway_relay_deliveries_total", result=result, reason=reason)

    def promotions(self, result: str) -> float:
        """Number of promotions with this result."""
        return self.metric("slipway_relay_promotions_total", result=result)

    def settled(self, after: float = 0.0) -> None:
        """Wait until nothing is pending."""
        time.sleep(after)
        wait(lambda: self.metric("slipway_relay_pending") == 0)


def metric(url: str, name: str, **labels: str) -> float:
    """A metric of the relay at this URL."""
    for line in requests.get(f"{url}/metrics", timeout=20).text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.split("{")[0] == name and dict(re.findall(r'(\w+)="([^"]*)"', series)) == labels:
            return float(value)
    return 0.0


def signed(body: bytes, secret: str = SECRET, **changed: str | None) -> dict[str, str]:
    """The headers of a delivery."""
    when, delivery = changed.get("timestamp") or str(int(time.time())), changed.get("delivery") or str(uuid.uuid4())
    right = {"signature": sign(secret, delivery, when, body), "timestamp": when, "delivery": delivery} | changed
    names = {"signature": "X-MLflow-Signature", "timestamp": "X-MLflow-Timestamp", "delivery": "X-MLflow-Delivery-Id"}
    return {names[key]: value for key, value in right.items() if value is not None}


def event(alias: str = "production", model: str = "cars", action: str = "created", entity: str = "model_version_alias"):
    """The body of a delivery."""
    data = {"name": model, "alias": alias} | ({"version": "99"} if action == "created" else {})
    return json.dumps({"entity": entity, "action": action, "timestamp": "2026-11-28T00:00:00", "data": data}).encode()


def wait(condition, seconds: float = 20) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def relay_to(
    github,
    mlflow: str,
    pace: Pace = QUICK,
    seen=None,
    model: str = "cars",
    secret: str = SECRET,
    host: str = "127.0.0.1",
    bearer: str = BEARER,
):
    """A relay that dispatches to this GitHub and reads this MLflow."""
    metrics = Metrics()
    config = relay_server.Config(secret, model, mlflow, "octo/cars", TOKEN, "main", github.url, bearer=bearer)
    worker, heard = relay_server.elsewhere(config, metrics, pace), relay_server.alerts(config, metrics, pace)
    with Relay(worker, metrics, seen, model, secret, host, heard) as relay:
        yield relay
