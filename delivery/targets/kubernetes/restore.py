"""The previous release and how to restore it, after a release that failed or a run that was killed.

The ConfigMap `slipway-release` has the record of the last successful release together with the objects applied for it,
so that restoring brings all of them back, also when the manifests have changed since.
"""

import json
from typing import Any

import msgspec

from delivery import signals
from delivery.release import CurrentRelease, Release
from delivery.targets.kubernetes import kubectl, manifests, pods, rollout
from delivery.targets.kubernetes.kubectl import Cluster
from delivery.targets.kubernetes.pods import Delivery
from pipeline.errors import BusyError, DeployError, SlipwayError

NAME = "slipway-release"
FIRST = "first"  # a marker in the ConfigMap until there is a record
SCALER = "horizontalpodautoscaler/model"
TRACES = ("deployment/model", "deployment/model-canary", SCALER)  # objects that show whether a run was interrupted
RECORDED = (
    "environment",
    "name",
    "version",
    "digest",
    "image",
    "url",
    "since",
    "bundle",
    "experiment",
)  # fields of CurrentRelease
REPLICAS = "slipway/stable-replicas"  # annotation of the canary: the number of stable pods before it


def remembered(cluster: Cluster) -> tuple[CurrentRelease | None, list[dict[str, Any]]]:
    """The record and the objects of the last successful release; None when there is none."""
    record, objects = read(kubectl.find(cluster, f"configmap/{NAME}").get(f"configmap/{NAME}"))
    _refuse_strangers(cluster, objects)
    return record, objects


def begin(cluster: Cluster) -> tuple[CurrentRelease | None, list[dict[str, Any]]]:
    """The last successful release, before anything is changed; without one, note that a first release began.

    Raises DeployError when a service runs that we did not start: it could not be restored, and is not ours to delete.
    """
    found = kubectl.find(cluster, f"configmap/{NAME}", "deployment/model")
    if f"configmap/{NAME}" not in found:
        serving = found.get("deployment/model", {}).get("status", {}).get("readyReplicas")
        if serving or any(map(pods.ready, pods.of_track(cluster, "stable"))):
            raise _unrecorded(cluster)
        _write(cluster, {FIRST: "the first release here began, and none has succeeded yet"})
    record, objects = read(found.get(f"configmap/{NAME}"))
    _refuse_strangers(cluster, objects)
    return record, objects


def _refuse_strangers(cluster: Cluster, objects: list[dict[str, Any]]) -> None:
    """Raise DeployError for foreign objects: write access to the ConfigMap must not give the deploying account's rights."""
    if found := manifests.strangers(objects, cluster.namespace):
        raise DeployError(
            f"ConfigMap {NAME} in namespace {cluster.namespace} holds {', '.join(found)}, which no release created",
            "somebody changed it: find out who, and remove that from it",
        )


def _unrecorded(cluster: Cluster) -> DeployError:
    return DeployError(
        f"a service without a record (ConfigMap {NAME}) runs in namespace {cluster.namespace}",
        "restore the ConfigMap if you have a copy; otherwise delete the service and deploy it again: "
        f"`kubectl --context {cluster.context} --namespace {cluster.namespace} delete deployment model`, then deploy again",
    )


def read(config_map: dict[str, Any] | None) -> tuple[CurrentRelease | None, list[dict[str, Any]]]:
    """Record and objects from the ConfigMap; raises DeployError when it is damaged."""
    if config_map is None or FIRST in (config_map.get("data") or {}):
        return None, []
    try:
        record, objects = json.loads(config_map["data"]["record"]), json.loads(config_map["data"]["objects"])
        current = msgspec.convert(record, CurrentRelease, dec_hook=lambda kind, value: kind(value))
        return current, msgspec.convert(objects, list[dict[str, Any]])
    except (KeyError, TypeError, ValueError, RecursionError, msgspec.ValidationError) as error:
        where = f"--namespace {config_map['metadata'].get('namespace')}"
        raise DeployError(
            f"ConfigMap {NAME} is damaged: {error}",
            "restore it if you have a copy; otherwise delete the service and deploy it again: "
            f"`kubectl --context CONTEXT {where} delete deployment/model configmap/{NAME}`, then deploy again",
        ) from error


def remember(cluster: Cluster, served: CurrentRelease, objects: list[dict[str, Any]]) -> None:
    """Delete objects that only the previous release needed, and record the new one."""
    _, earlier = remembered(cluster)
    kubectl.delete(cluster, without(earlier, objects))
    record = {key: getattr(served, key) for key in RECORDED}
    stored = [item for item in objects if item["kind"] not in manifests.KEPT]
    _write(cluster, {"record": json.dumps(record, default=str), "objects": json.dumps(stored)})


def _write(cluster: Cluster, data: dict[str, str]) -> None:
    about = {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "slipway"}}
    kubectl.apply(cluster, [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}])


def without(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The objects that are not among the others, by kind and name."""
    names = {_name(item) for item in others}
    return [item for item in some if _name(item) not in names and item["kind"] not in manifests.KEPT]


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def repair(delivery: Delivery, before: CurrentRelease | None, objects: list[dict[str, Any]]) -> bool:
    """Repair what a killed run left; when the previous release cannot be restored, say so and return False."""
    left = leftovers(kubectl.find(delivery.cluster, *TRACES), before, objects)
    if not left:
        return True
    print(f"an earlier run was interrupted and left {', '.join(left)}", flush=True)
    if before is None:
        rollout.remove_canary(delivery)
        return True
    print(f"going back to version {before.version} first", flush=True)
    try:
        restore(delivery, before, objects, [])
    except BusyError:
        raise
    except SlipwayError as error:
        print(f"version {before.version} cannot be restored ({error.what}); going on to the new release", flush=True)
        return False
    return True


def leftovers(
    found: dict[str, dict[str, Any]], before: CurrentRelease | None, objects: list[dict[str, Any]]
) -> list[str]:
    """What a finished run would not have left among the TRACES found, in words."""
    left = ["canary pods"] if "deployment/model-canary" in found else []
    if before is None:
        return left
    live = manifests.image_of([found["deployment/model"]]) if "deployment/model" in found else None
    if live != before.image:
        left.append("a half-finished rollout" if live else "no stable pods")
    wanted = manifests.find(objects, "HorizontalPodAutoscaler")
    if wanted and SCALER in found and _range(found[SCALER]) != _range(wanted):
        left.append("an autoscaler with fixed bounds")
    return left


def _range(scaler: dict[str, Any]) -> tuple[int, int]:
    return scaler["spec"].get("minReplicas", 1), scaler["spec"]["maxReplicas"]


def undo(
    delivery: Delivery,
    before: CurrentRelease | None,
    earlier: list[dict[str, Any]],
    objects: list[dict[str, Any]],
    cause: BaseException,
) -> DeployError:
    """Show why a release failed, restore the previous one, and return the error that describes both."""
    what, then = _in_words(cause)
    environment = delivery.cluster.environment
    try:
        with signals.ignored("the previous release is being restored; please wait"):
            print(f"the release failed: {what}", flush=True)
            _show_why(delivery, objects)
            delivery.still_ours()
            if before is None:
                kubectl.delete(delivery.cluster, without(objects, []))
                return DeployError(f"{what}; {environment} served nothing before, so the release was removed", then)
            print(f"going back to version {before.version}", flush=True)
            restore(delivery, before, earlier, objects)
            return DeployError(f"{what}; version {before.version} was restored", then)
    except BusyError:
        raise
    except Exception as error:
        served = f"version {before.version} could not be restored" if before else "it could not be removed"
        return DeployError(
            f"{what}; and {served}: {_in_words(error)[0]}",
            f"fix that; then the next `make deploy` or `make rollback` of {environment} repairs the rest",
        )


def _show_why(delivery: Delivery, objects: list[dict[str, Any]]) -> None:
    """Print events and last log lines while the pods exist; only losing the lease prevents restoring."""
    try:
        delivery.each_poll()
        pods.explain(delivery.cluster, str(manifests.image_of(objects)))
    except BusyError:
        raise
    except Exception as error:
        print(f"the reason cannot be read from its pods: {_in_words(error)[0]}", flush=True)


def _in_words(cause: BaseException) -> tuple[str, str]:
    if isinstance(cause, SlipwayError):
        return cause.what, cause.then
    if isinstance(cause, KeyboardInterrupt):
        return "stopped by the keyboard or a signal", "deploy again when you are ready"
    return f"{type(cause).__name__}: {cause}", "the lines above say where"


def restore(
    delivery: Delivery,
    before: CurrentRelease,
    earlier: list[dict[str, Any]],
    objects: list[dict[str, Any]],
) -> None:
    """Restore image, weights, autoscaler and number of pods, then test the service."""
    cluster = delivery.cluster
    delivery.still_ours()
    kubectl.apply(cluster, earlier)
    all_pods(cluster)
    try:
        rollout.settled(delivery, earlier, released(before))
    finally:
        # Not earlier, because it served part of the load; but also if a pod does not come back, because the canary was
        # rejected.
        rollout.remove_canary(delivery)
    kubectl.delete(cluster, without(objects, earlier))
    pods.prove_service(delivery, released(before))


def all_pods(cluster: Cluster) -> None:
    """Scale the stable pods to their number before a canary that still exists."""
    canary = kubectl.find(cluster, "deployment/model-canary").get("deployment/model-canary", {"metadata": {}})
    if replicas := canary["metadata"].get("annotations", {}).get(REPLICAS):
        kubectl.run(cluster, "scale", "deployment/model", f"--replicas={replicas}")


def released(served: CurrentRelease) -> Release:
    """The release that is current."""
    return Release(served.name, served.version, served.digest, served.bundle, served.image, served.experiment)
