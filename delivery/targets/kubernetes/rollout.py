"""Waits until a Deployment's pods serve, prints events as they come, and fails early when waiting cannot help."""

import json
import time
from collections.abc import Callable
from typing import Any

from delivery.release import Release
from delivery.targets.kubernetes import kubectl, manifests
from delivery.targets.kubernetes.kubectl import Cluster, KubectlError
from delivery.targets.kubernetes.pods import SELECTOR, Delivery, containers, of_track, prove_pod, ready, stays
from pipeline.errors import DeployError

POLL_SECONDS = 1
LEAVE_SECONDS = 60  # for pods of a deleted Deployment to terminate; they may take longer, without new requests
IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
MAY_HEAL = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")  # a Secret may still be created


def event_printer(cluster: Cluster) -> Callable[[], None]:
    """A function that prints the new events since its creation or last call, each text once."""
    seen = {_occurrence(event) for event in _events(cluster)}
    printed: set[str] = set()

    def show() -> None:
        for event in _events(cluster):
            about = event.get("involvedObject", {})
            message = " ".join(event.get("message", "").split())
            line = f"  {about.get('kind', '')} {about.get('name', '')}: {event.get('reason', '')}: {message}"
            if _occurrence(event) not in seen and line not in printed:
                print(line, flush=True)
            seen.add(_occurrence(event))
            printed.add(line)

    return show


def _events(cluster: Cluster) -> list[dict[str, Any]]:
    try:
        found = kubectl.listed(cluster, "events")
    except KubectlError as error:
        if error.reason != "Forbidden":
            raise
        return []  # events are shown only, they decide nothing
    return sorted(found, key=_moment)


def _moment(event: dict[str, Any]) -> tuple[str, int, str]:
    """A sort key: the time in seconds, then the cluster's own order."""
    version = event["metadata"].get("resourceVersion", "")
    return event.get("lastTimestamp") or event.get("eventTime") or "", len(version), version


def _occurrence(event: dict[str, Any]) -> tuple[str, int]:
    return event["metadata"].get("uid", ""), event.get("count", 1)


def settled(delivery: Delivery, objects: list[dict[str, Any]], release: Release, at_once: bool = False) -> None:
    """Wait until the applied objects serve and are tested: the Deployment's pods, or with Argo those of the Rollout.

    With `at_once`, Argo skips its steps.
    """
    if manifests.rolled_out_by_argo(objects):
        _wait_for_argo(delivery, at_once)
        for pod in filter(ready, of_track(delivery.cluster, "stable")):  # the autoscaler may just have added one
            prove_pod(delivery, release, pod["metadata"]["name"])
    else:
        wait(delivery, "model", release)


def wait(delivery: Delivery, name: str, release: Release | None = None) -> None:
    """Wait until all pods of a Deployment have its current template and are available; smoke-test each when it is ready.

    Raises DeployError at once when a pod cannot pull its image, crashes repeatedly or answers wrongly; when a running
    pod is not ready within `ready_seconds` of the settings; and when nothing changes at all (no room in the cluster),
    after the Deployment's own progress deadline.
    """
    refuse_late = _patience(delivery.settings.deploy.ready_seconds)
    proven: set[str] = set()
    while True:
        delivery.each_poll()
        deployment, found = _state(delivery.cluster, name)
        new = {pod["metadata"]["name"] for pod in found if ready(pod)} - proven
        if release:
            for pod_name in sorted(new):
                prove_pod(delivery, release, pod_name)
        proven |= new
        if complete(deployment):
            return
        for pod in found:
            _refuse_hopeless(pod)
        refuse_late(deployment, found)
        time.sleep(POLL_SECONDS)


def _patience(ready_seconds: float) -> Callable[[dict[str, Any], list[dict[str, Any]]], None]:
    """A function that checks the state of a Deployment at each poll and raises DeployError when it takes too long."""
    moved, numbers = time.monotonic(), None
    waiting_since: dict[str, float] = {}

    def refuse_late(deployment: dict[str, Any], found: list[dict[str, Any]]) -> None:
        nonlocal moved, numbers
        now, status, name = time.monotonic(), deployment.get("status", {}), deployment["metadata"]["name"]
        for pod in found:
            _refuse_late(pod, waiting_since, now, ready_seconds)
        if _seen(deployment):  # else they describe the previous release
            _refuse_conditions(name, status, found)
        present = [status.get(key) for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
        if present != numbers:
            moved, numbers = now, present
        limit = deployment["spec"].get("progressDeadlineSeconds", 600) + ready_seconds
        if now - moved > limit:
            raise DeployError(f"no progress in {name} for {limit:g} s{_why(found)}", "the events above say why")

    return refuse_late


def complete(deployment: dict[str, Any]) -> bool:
    """Whether all pods have the current template and are available, and no other is left."""
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    numbers = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return _seen(deployment) and numbers == {wanted}


def _seen(deployment: dict[str, Any]) -> bool:
    """Whether the status describes what was applied last."""
    return deployment.get("status", {}).get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)


def _state(cluster: Cluster, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A Deployment, and its pods of the current template that are not being deleted."""
    found = kubectl.listed(cluster, "deployments,replicasets,pods", SELECTOR)
    deployment = next((o for o in found if o["kind"] == "Deployment" and o["metadata"]["name"] == name), None)
    if deployment is None:
        raise DeployError(f"Deployment {name} was deleted meanwhile", "run this again")
    if not _seen(deployment):
        return deployment, []
    newest = {
        o["metadata"]["name"]
        for o in found
        if o["kind"] == "ReplicaSet" and _owned(o, {name}) and _revision(o) == _revision(deployment)
    }
    return deployment, [o for o in found if o["kind"] == "Pod" and _owned(o, newest) and stays(o)]


def _owned(thing: dict[str, Any], names: set[str]) -> bool:
    return any(owner["name"] in names for owner in thing["metadata"].get("ownerReferences", []))


def _revision(thing: dict[str, Any]) -> str | None:
    return thing["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision")


def _refuse_hopeless(pod: dict[str, Any]) -> None:
    name = pod["metadata"]["name"]
    images = {container["name"]: container["image"] for container in pod["spec"]["containers"]}
    for container in containers(pod):
        reason, message = _waiting(container)
        if reason in IMAGE:
            raise DeployError(
                f"pod {name} cannot get its image {images.get(container['name'])}: {reason} {message}".strip(),
                "`make image` pushes it; the cluster must be allowed to pull from that registry",
            )
        if reason == "CrashLoopBackOff":
            raise DeployError(f"pod {name} crashes again and again: {message}", "its last lines are above")


def _waiting(container: dict[str, Any]) -> tuple[str, str]:
    """Why a container does not run, as (reason, message), or ""."""
    waiting = container.get("state", {}).get("waiting", {})
    return waiting.get("reason", ""), waiting.get("message", "")


def _refuse_late(pod: dict[str, Any], since: dict[str, float], now: float, ready_seconds: float) -> None:
    """Raise DeployError for a pod that is scheduled and has its image, but is not ready in time."""
    name = pod["metadata"]["name"]
    reasons = [_waiting(container) for container in containers(pod)]
    begun = any("running" in container.get("state", {}) for container in containers(pod))
    if ready(pod) or not (begun or any(reason in MAY_HEAL for reason, _ in reasons)):
        since.pop(name, None)
    elif now - since.setdefault(name, now) > ready_seconds:
        why = ": ".join(next(filter(any, reasons), ()))
        raise DeployError(
            f"pod {name} was not ready within {ready_seconds:g} s{f' ({why})' if why else ''}",
            "its last lines are above; pipeline.toml [deploy] ready_seconds is how long it may take",
        )


def _refuse_conditions(name: str, status: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    for condition in status.get("conditions", []):
        said = condition.get("message", "")
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            raise DeployError(f"the cluster refuses pods of {name}: {said}", "that is a matter of its quota or policy")
        if condition["type"] == "Progressing" and condition["status"] == "False":
            raise DeployError(f"{name} made no progress: {said}{_why(pods)}", "the events above say why")


def _why(pods: list[dict[str, Any]]) -> str:
    """What keeps the pods from starting, if known."""
    for pod in pods:
        for condition in pod.get("status", {}).get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return f"; pod {pod['metadata']['name']}: {condition.get('message', condition.get('reason', ''))}"
    return ""


def remove_canary(delivery: Delivery) -> None:
    """Delete the canary, and wait until its pods have left the Service."""
    delivery.still_ours()
    kubectl.run(delivery.cluster, "delete", "deployment/model-canary", "--ignore-not-found", "--wait=false")
    deadline = time.monotonic() + LEAVE_SECONDS
    while of_track(delivery.cluster, "canary"):
        delivery.each_poll()
        if time.monotonic() > deadline:
            raise DeployError("the canary's pods do not leave", "`kubectl get pods` shows what holds them")
        time.sleep(POLL_SECONDS)


def _wait_for_argo(delivery: Delivery, at_once: bool) -> None:
    """Wait until Argo reports the Rollout as healthy; raises DeployError when it is degraded or waits for a person."""
    canary = delivery.settings.canary
    deadline = time.monotonic() + (canary.hold_seconds + 180) * (len(canary.steps) + 1)
    shown = ""
    while True:
        delivery.each_poll()
        found = kubectl.find(delivery.cluster, "rollout/model", "deployment/model")
        status = found["rollout/model"].get("status", {})
        phase, said = status.get("phase", "not seen yet"), status.get("message", "")
        if _seen_by_argo(found) and phase == "Healthy":
            return
        if at_once and _seen_by_argo(found) and status.get("currentPodHash") != status.get("stableRS"):
            _promote(delivery)
            at_once = False
        if _seen_by_argo(found) and phase == "Degraded":
            raise DeployError(
                f"Argo aborted the release: {said}", "its AnalysisRun says why: `kubectl get analysisruns`"
            )
        if time.monotonic() > deadline:
            raise DeployError(
                f"the Rollout is still {phase}: {said}", "`kubectl argo rollouts get rollout model` says more"
            )
        if (line := f"  Rollout model: {phase} {said}".rstrip()) != shown:
            print(line, flush=True)
            shown = line
        time.sleep(POLL_SECONDS)


def _promote(delivery: Delivery) -> None:
    """Make Argo skip its steps and analyses, like `kubectl argo rollouts promote model --full`."""
    delivery.still_ours()
    change = json.dumps({"status": {"promoteFull": True}})
    kubectl.run(delivery.cluster, "patch", "rollout/model", "--subresource=status", "--type=merge", f"--patch={change}")


def _seen_by_argo(found: dict[str, dict[str, Any]]) -> bool:
    """Whether the status describes what was applied last: the Rollout's own fields and the Deployment's template."""
    status = found["rollout/model"].get("status", {})
    seen = (status.get("observedGeneration"), status.get("workloadObservedGeneration"))
    return seen == tuple(str(found[name]["metadata"]["generation"]) for name in ("rollout/model", "deployment/model"))
