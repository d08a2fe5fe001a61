"""Golden requests to the pods of both sides of a canary, and what those pods count meanwhile."""

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
TIMEOUT = (3, 10)  # seconds to connect, and to answer
TRIES = 3  # of a pod's metrics
LOOK_SECONDS = 20  # for the requests of one look, however slow the answers are: then it is judged
POLL_SECONDS = 2

Counted = dict[tuple[str, str], Side | None]  # by track and pod; None of a stable pod that does not say


def send(delivery: Delivery, rows: list[Any], number: int) -> Counter[str]:
    """Send this number of requests to each side, in turn and over all its pods; count those that no pod answered.

    After LOOK_SECONDS there are no more, and both sides have had equally many.
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
    session.headers.update(keys.header(key))
    session.trust_env = False  # a proxy named in the environment cannot reach the loopback of this machine
    return session


def _answers(session: requests.Session, url: str, row: Any) -> bool:
    """Whether the pod answered, be it with an error, which it counts itself; the API server speaks when it did not."""
    try:
        answer = session.post(f"{url}/predict", json={"features": row}, timeout=TIMEOUT)
        return answer.json().get("kind") != "Status"
    except requests.RequestException:
        return False


def counters(delivery: Delivery) -> Counted:
    """What each pod has counted since it started; raises DeployError when a canary pod does not say."""
    counted: Counted = {}
    with _session(delivery.key) as session:
        for track in TRACKS:
            for pod in pods.of_track(delivery.cluster, track):
                name = pod["metadata"]["name"]
                if track == "canary" and pods.restarts(pod):
                    raise DeployError(f"canary pod {name} fell over", "its last lines are above")
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
    """Take what was counted `now` into `latest`, where pods that left stay with their last counts.

    What a pod says first becomes its base if it was there when the step began: its history is not of the step.
    """
    for key, side in now.items():
        if side is not None:
            latest[key] = side
            if key in base and base[key] is None:
                base[key] = side


def growth(base: Counted, latest: Counted, lost: Counter[str]) -> tuple[Side, Side]:
    """What the stable and the canary pods did since `base`; a request that no pod answered is an error of its side."""
    sides = {track: verdict.lost(lost[track]) for track in TRACKS}
    for key, side in latest.items():
        if side is not None:
            before = base.get(key)
            sides[key[0]] += side - before if before is not None else side
    return sides["stable"], sides["canary"]
