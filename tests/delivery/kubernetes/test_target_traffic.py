"""Golden requests to both sides of a canary, including those that no pod answers."""

import threading
import time
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from delivery.canary.verdict import Counts, Side
from delivery.targets.kubernetes import kubectl, traffic
from delivery.targets.kubernetes.kubectl import Cluster
from delivery.targets.kubernetes.pods import Delivery

ANSWERS = {
    "good": (200, b'{"label": "yes"}'),
    "failing": (500, b'{"title": "the service failed", "status": 500}'),
    "gone": (503, b'{"kind": "Status", "code": 503, "message": "error trying to reach service"}'),
}


class Api(BaseHTTPRequestHandler):
    """An API server that forwards requests to pods, which respond according to their names."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_POST(self):
        """Respond as the pod in the path would."""
        self.rfile.read(int(self.headers["Content-Length"]))
        pod = self.path.split("/")[6].partition(":")[0]
        self.asked[pod] += 1
        kind = pod.partition("-")[0]
        time.sleep(0.4 if kind == "slow" else 0)
        status, body = ANSWERS.get(kind, ANSWERS["good"])
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def delivery(monkeypatch):
    """A delivery whose pods' names say how they respond: deliver(stable=[...], canary=[...])."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Api.asked.clear()

    def made(**tracks):
        pods = {track: [{"metadata": {"name": name}} for name in names] for track, names in tracks.items()}
        monkeypatch.setattr(kubectl, "listed", lambda _, __, selector: pods[selector.rpartition("=")[2]])
        return Delivery(Cluster("production", "c", "n"), None, f"http://127.0.0.1:{server.server_port}", lambda: None)

    yield made
    server.shutdown()
    server.server_close()


def test_requests_are_spread_evenly(delivery):
    """Twelve to each side, over three stable pods and two of the canary."""
    lost = traffic.send(delivery(stable=["good-1", "good-2", "good-3"], canary=["good-4", "good-5"]), [[1], [2]], 12)
    assert not lost.total()
    assert Api.asked == {"good-1": 4, "good-2": 4, "good-3": 4, "good-4": 6, "good-5": 6}


def test_unanswered_requests_are_counted_here(delivery):
    """A pod counts its own errors; a request that the API server could not forward is counted here."""
    lost = traffic.send(delivery(stable=["failing-1"], canary=["gone-1", "good-1"]), [[1]], 10)
    assert lost == {"stable": 0, "canary": 5}


def test_look_is_limited_in_time(delivery, monkeypatch):
    """With slow responses, both sides get equally many requests, and lease and events are checked meanwhile."""
    polls = []
    slow = replace(delivery(stable=["good-1"], canary=["slow-1"]), each_poll=lambda: polls.append(True))
    monkeypatch.setattr(traffic, "LOOK_SECONDS", 1.5)
    monkeypatch.setattr(traffic, "POLL_SECONDS", 0.5)
    began = time.monotonic()
    traffic.send(slow, [[1]], 100)
    assert time.monotonic() - began < 4
    assert Api.asked["good-1"] == Api.asked["slow-1"] < 10
    assert polls


def side(requests, errors):
    """A pod's counters."""
    return Side({"/predict": Counts(requests, errors, requests / 1000, {float("inf"): requests})})


def test_late_counters_do_not_include_their_history():
    """The first report is a pod's base; a new pod counts from its start, and one that is gone keeps its counts."""
    base = {("stable", "mute"): None, ("stable", "leaves"): side(10, 0), ("canary", "b"): side(5, 0)}
    latest = dict(base)
    traffic.update(base, latest, {("stable", "mute"): None, ("stable", "leaves"): side(30, 1)})
    assert traffic.growth(base, latest, Counter())[0].requests == 20
    traffic.update(base, latest, {("stable", "mute"): side(100_000, 900), ("stable", "new"): side(7, 0)})
    traffic.update(base, latest, {("stable", "mute"): side(100_004, 900), ("canary", "b"): side(8, 0)})
    stable, canary = traffic.growth(base, latest, Counter())
    assert (stable.requests, stable.errors, canary.requests) == (20 + 4 + 7, 1, 3)


def test_lost_requests_are_errors_of_their_side():
    """They are added as failed requests to what the pods counted in the step."""
    base = {("stable", "a"): side(100, 1), ("canary", "b"): side(50, 0)}
    now = {("stable", "a"): side(150, 2), ("stable", "new"): side(7, 0), ("canary", "b"): side(90, 3)}
    stable, canary = traffic.growth(base, now, Counter({"canary": 5}))
    assert (stable.requests, stable.errors) == (57, 1)
    assert (canary.requests, canary.errors) == (45, 8)
