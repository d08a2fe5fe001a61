"""An environment's pods: which exist, which serve, and whether they answer as their release should."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from delivery.release import Release
from delivery.smoke import replay
from delivery.targets.kubernetes import kubectl
from delivery.targets.kubernetes.kubectl import Cluster, KubectlError
from pipeline.errors import SmokeTestError
from pipeline.settings import Settings

SELECTOR = "app.kubernetes.io/name=model"
PORT = 8000
LOG_LINES = 15
TRIES = 5  # attempts through the Service, a second apart: nodes learn of new pods with a delay


@dataclass(frozen=True)
class Delivery:
    """What the steps of one delivery share: place, settings, access to pods, and what to do at each poll."""

    cluster: Cluster
    settings: Settings
    api: str  # URL of `kubectl proxy`
    each_poll: Callable[[], None]  # prints events; raises BusyError when the lease is lost
    still_ours: Callable[[], None] = lambda: None  # raises BusyError when the lease is lost; called before every change
    key: str = field(default="", repr=False)  # for requests to pods

    def url(self, kind: str, name: str, port: int = PORT) -> str:
        """The URL, on this machine, of a service or pod in the cluster."""
        return f"{self.api}{path(self.cluster, kind, name, port)}"


def path(cluster: Cluster, kind: str, name: str, port: int) -> str:
    """The API server's proxy path of a service or a pod."""
    return f"/api/v1/namespaces/{cluster.namespace}/{kind}/{name}:{port}/proxy"


def of_track(cluster: Cluster, track: str) -> list[dict[str, Any]]:
    """The pods of a track, stable or canary, without those being deleted."""
    return [pod for pod in kubectl.listed(cluster, "pods", f"{SELECTOR},slipway/track={track}") if stays(pod)]


def stays(pod: dict[str, Any]) -> bool:
    """Whether the pod is not being deleted."""
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") not in (
        "Failed",
        "Succeeded",
    )


def ready(pod: dict[str, Any]) -> bool:
    """Whether the pod gets traffic."""
    conditions = pod.get("status", {}).get("conditions", [])
    return stays(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The status of each container of the pod."""
    return pod.get("status", {}).get("containerStatuses", [])


def restarts(pod: dict[str, Any]) -> int:
    """The number of restarts of the pod's containers."""
    return sum(container.get("restartCount", 0) for container in containers(pod))


def prove_pod(delivery: Delivery, release: Release, pod: str) -> None:
    """Smoke-test one pod; raises DeployError naming what differs. A pod deleted meanwhile is ignored."""
    why = _differs(delivery.url("pods", pod), release, delivery.key)
    if why and any(map(stays, kubectl.find(delivery.cluster, f"pod/{pod}").values())):
        _refuse(f"pod {pod}", why)


def prove_service(delivery: Delivery, release: Release) -> None:
    """Smoke-test through the Service, as clients reach it; raises DeployError naming what differs."""
    for tries_left in reversed(range(TRIES)):
        why = _differs(delivery.url("services", "model", 80), release, delivery.key)
        if not why or not tries_left:
            return _refuse("the Service", why)
        time.sleep(1)


def _refuse(who: str, why: str) -> None:
    if why:
        raise SmokeTestError(
            f"smoke test of {who} failed: {why}",
            "the image answers otherwise than its bundle; its last lines are above",
        )


def _differs(url: str, release: Release, key: str) -> str:
    """How a response differs from the release, or "".

    If the bundle is not on this machine, because another one deployed it, name, version and digest are compared.
    """
    if release.bundle.is_dir():
        return replay(url, release.bundle, release.version, key).reason
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy from the environment cannot reach this machine's loopback
            info = session.get(f"{url}/model/info", timeout=(3, 10)).json()
    except requests.RequestException as error:
        return f"/model/info cannot be read ({type(error).__name__})"
    expected = {"name": release.name, "version": release.version, "digest": release.digest}
    different = [
        f"{key} {info.get(key)} instead of {value}" for key, value in expected.items() if info.get(key) != value
    ]
    return "it serves " + ", ".join(different) if different else ""


def explain(cluster: Cluster, image: str) -> None:
    """Print the last log lines of this image's pods: those that are not ready, or of one when all are."""
    pods = [pod for pod in kubectl.listed(cluster, "pods", SELECTOR) if _runs(pod, image)]
    for pod in [pod for pod in pods if not ready(pod)][:3] or pods[:1]:
        name = pod["metadata"]["name"]
        for which in ["--previous=true", "--previous=false"][not restarts(pod) :]:
            if lines := _log(cluster, name, which):
                when = " before it was started again" if which == "--previous=true" else ""
                print(f"last lines of pod {name}{when}:", *lines, sep="\n  | ", flush=True)


def _runs(pod: dict[str, Any], image: str) -> bool:
    return any(container["image"] == image for container in pod["spec"]["containers"])


def _log(cluster: Cluster, pod: str, which: str) -> list[str]:
    try:
        return kubectl.run(cluster, "logs", pod, f"--tail={LOG_LINES}", which, patient=False).strip().splitlines()
    except KubectlError:
        return []  # a container that never started has no log
