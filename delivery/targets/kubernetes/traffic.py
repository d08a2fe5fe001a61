"""Golden requests to the pods on both sides of a canary, and the pods' own counters meanwhile."""

import itertools
import time
from collections import Counter
from typing import Any

import requests

from delivery import keys
from delivery.canary import verdict
from delivery.canary.verdict import Side
from delivery.targets.kubernetes import pods
from delivery.targets.kubernetes.pods import Delivery
from pipeline.errors import DeployError

TRACKS = ("stable", "canary")
TIMEOUT = (3, 10)  # seconds to connect, and to get a response
TRIES = 3  # to read a pod's metrics
LOOK_SECONDS = 20  # for the requests of one look, however slow the responses are; then it is judged
POLL_SECONDS = 2

Counted = dict[tuple[str, str], Side | None]  # by track and pod; None for a stable pod without metrics


def send(delivery: Delivery, rows: list[Any], number: int) -> Counter[str]:
    """Send this many requests to each side, alternating and over all pods; count those without a response.

    After LOOK_SECONDS it stops, with equally many for both sides.
    """
    lost: Counter[str] = Counter()
    began = polled = time.monotonic()
    targets = {track: itertools.cycle(_urls(delivery, track)) for track in TRACKS}
    with _session(delivery.key) as session:
        for row in itertools.islice(itertools.cycle(rows), number):
            for track in TRACKS:
                lost[track] += not _answers(session, next(targets[track]), row)
            if (now := time.monotonic()) - began > LOOK_SECONDS:
                break
            if now - polled > POLL_SECONDS:
                delivery.each_poll()
                polled = time.monotonic()
    return lost


def _urls(delivery: Delivery, track: str) -> list[str]:
    there = pods.of_track(delivery.cluster, track)
    if not there:
        raise DeployError(f"there are no {track} pods any more", "`kubectl get events` may say why")
    return [delivery.url("pods", pod["metadata"]["name"]) for pod in there]


def _session(key: str) -> requests.Session:
    session = requests.Session()
    session.headers.update(keys.headers(key))
    session.trust_env = False  # a proxy from the environment cannot reach this machine's loopback
    return session


def _answers(session: requests.Session, url: str, row: Any) -> bool:
    """Whether the pod responded, also with an error, which it counts itself; otherwise the API server did."""
    try:
        answer = session.post(f"{url}/predict", json={"features": row}, timeout=TIMEOUT)
        return answer.json().get("kind") != "Status"
    except requests.RequestException:
        return False


def counters(delivery: Delivery) -> Counted:
    """Each pod's counters since its start; raises DeployError when a canary pod does not report them."""
    counted: Counted = {}
    with _session(delivery.key) as session:
        for track in TRACKS:
            for pod in pods.of_track(delivery.cluster, track):
                name = pod["metadata"]["name"]
                if track == "canary" and pods.restarts(pod):
                    raise DeployError(f"canary pod {name} crashed", "its last lines are above")
                text = _metrics(session, delivery.url("pods", name))
                if text is None and track == "canary":
                    raise DeployError(f"canary pod {name} does not answer", "its last lines are above")
                counted[track, name] = None if text is None else verdict.read(text)
    return counted


def _metrics(session: requests.Session, url: str) -> str | None:
    for _ in range(TRIES):
        try:
            answer = session.get(f"{url}/metrics", timeout=TIMEOUT)
            if answer.status_code == 200:
                return answer.text
        except requests.RequestException:
            pass
        time.sleep(1)
    return None


def update(base: Counted, latest: Counted, now: Counted) -> None:
    """Merge the counters `now` into `latest`; pods that are gone keep their last counts.

    The first counts of a pod that existed when the step began become its base: they precede the step.
    """
    for key, side in now.items():
        if side is not None:
            latest[key] = side
            if key in base and base[key] is None:
                base[key] = side


def growth(base: Counted, latest: Counted, lost: Counter[str]) -> tuple[Side, Side]:
    """The increase of the stable and of the canary pods' counters since `base`; a request without a response is an error of its side."""
    sides = {track: verdict.lost(lost[track]) for track in TRACKS}
    for key, side in latest.items():
        if side is not None:
            before = base.get(key)
            sides[key[0]] += side - before if before is not None else side
    return sides["stable"], sides["canary"]
