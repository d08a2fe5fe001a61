"""What served before, and the way back to it: after a release that failed, and after a run that was killed.

The ConfigMap `slipway-release` keeps the record of the last release that succeeded together with the objects that were
applied for it, so that going back brings back all of it, also when the manifests have changed since.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from delivery import signals
from delivery.release import Release
from delivery.targets.kubernetes import kubectl, manifests, pods, rollout
from delivery.targets.kubernetes.kubectl import Cluster
from delivery.targets.kubernetes.pods import Delivery
from pipeline.errors import BusyError, DeployError, SlipwayError

NAME = "slipway-release"
FIRST = "first"  # in the ConfigMap instead of a record, until there is one
SCALER = "horizontalpodautoscaler/model"
TRACES = ("deployment/model", "deployment/model-canary", SCALER)  # where a run that ended midway shows
REPLICAS = "slipway/stable-replicas"  # noted on the canary: how many stable pods there were before it


def remembered(cluster: Cluster) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The record of the last release that succeeded, and its objects; None when there is none."""
    record, objects = read(kubectl.find(cluster, f"configmap/{NAME}").get(f"configmap/{NAME}"))
    _refuse_strangers(cluster, objects)
    return record, objects


def begin(cluster: Cluster) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """What is remembered, before anything is changed; where that is nothing, note that a first release began.

    Raises DeployError when something serves that no run of ours began: it could not be restored, and is not ours to delete.
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
    """Whoever may write the ConfigMap must not get the deploying account to apply just anything."""
    if found := manifests.strangers(objects, cluster.namespace):
        raise DeployError(
            f"ConfigMap {NAME} in namespace {cluster.namespace} holds {', '.join(found)}, which no release of ours brought",
            "somebody changed it: find out who, and take that out of it",
        )


def _unrecorded(cluster: Cluster) -> DeployError:
    return DeployError(
        f"something serves in namespace {cluster.namespace} of which there is no record (ConfigMap {NAME})",
        "put the ConfigMap back where you have a copy; else the service must end there before it can be made anew: "
        f"`kubectl --context {cluster.context} --namespace {cluster.namespace} delete deployment model`, then deploy again",
    )


def read(config_map: dict[str, Any] | None) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Record and objects out of the ConfigMap; raises DeployError when somebody damaged it."""
    if config_map is None or FIRST in (config_map.get("data") or {}):
        return None, []
    try:
        record, objects = json.loads(config_map["data"]["record"]), json.loads(config_map["data"]["objects"])
        return msgspec.convert(record, dict[str, Any]), msgspec.convert(objects, list[dict[str, Any]])
    except (KeyError, TypeError, ValueError, RecursionError, msgspec.ValidationError) as error:
        where = f"--namespace {config_map['metadata'].get('namespace')}"
        raise DeployError(
            f"ConfigMap {NAME} is damaged: {error}",
            "put it back where you have a copy; else the service must end there before it can be made anew: "
            f"`kubectl --context CONTEXT {where} delete deployment/model configmap/{NAME}`, then deploy again",
        ) from error


def remember(cluster: Cluster, record: dict[str, Any], objects: list[dict[str, Any]]) -> None:
    """Delete what only the release before needed, and write down what serves from now on."""
    _, earlier = remembered(cluster)
    kubectl.delete(cluster, without(earlier, objects))
    stored = [item for item in objects if item["kind"] not in manifests.KEPT]
    _write(cluster, {"record": json.dumps(record), "objects": json.dumps(stored)})


def _write(cluster: Cluster, data: dict[str, str]) -> None:
    about = {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "slipway"}}
    kubectl.apply(cluster, [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}])


def without(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those objects that are not among the others, by kind and name."""
    names = {_name(item) for item in others}
    return [item for item in some if _name(item) not in names and item["kind"] not in manifests.KEPT]


def _name(item: dict[str, Any]) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def repair(delivery: Delivery, before: dict[str, Any] | None, objects: list[dict[str, Any]]) -> bool:
    """Put right what a killed run left; False when what served before cannot be had again, which is said."""
    left = leftovers(kubectl.find(delivery.cluster, *TRACES), before, objects)
    if not left:
        return True
    print(f"a run before this one ended midway and left {', '.join(left)}", flush=True)
    if before is None:
        rollout.remove_canary(delivery)
        return True
    print(f"going back to version {before['version']} first", flush=True)
    try:
        restore(delivery, before, objects, [])
    except BusyError:
        raise
    except SlipwayError as error:
        print(f"version {before['version']} cannot be restored ({error.what}); going on to the new release", flush=True)
        return False
    return True


def leftovers(
    found: dict[str, dict[str, Any]], before: dict[str, Any] | None, objects: list[dict[str, Any]]
) -> list[str]:
    """What is among those of TRACES which were found that a finished run would not have left there, in words."""
    left = ["canary pods"] if "deployment/model-canary" in found else []
    if before is None:
        return left
    live = manifests.image_of([found["deployment/model"]]) if "deployment/model" in found else None
    if live != before["image"]:
        left.append("a half finished rollout" if live else "no stable pods")
    wanted = manifests.find(objects, "HorizontalPodAutoscaler")
    if wanted and SCALER in found and _range(found[SCALER]) != _range(wanted):
        left.append("the autoscaler held fast")
    return left


def _range(scaler: dict[str, Any]) -> tuple[int, int]:
    return scaler["spec"].get("minReplicas", 1), scaler["spec"]["maxReplicas"]


def undo(
    delivery: Delivery,
    before: dict[str, Any] | None,
    earlier: list[dict[str, Any]],
    objects: list[dict[str, Any]],
    cause: BaseException,
) -> DeployError:
    """Show why a release failed, put what served before in its place, and return the error that tells both."""
    what, then = _in_words(cause)
    environment = delivery.cluster.environment
    signals.say(f"the release failed: {what}")
    try:
        with signals.ignored("what served before is being put back; this ends by itself"):
            _show_why(delivery, objects)
            delivery.still_ours()
            if before is None:
                kubectl.delete(delivery.cluster, without(objects, []))
                return DeployError(f"{what}; {environment} served nothing before, so it was taken away again", then)
            print(f"going back to version {before['version']}", flush=True)
            restore(delivery, before, earlier, objects)
            return DeployError(f"{what}; version {before['version']} was restored", then)
    except BusyError:
        raise
    except Exception as error:
        served = f"version {before['version']} could not be restored" if before else "it could not be taken away"
        return DeployError(
            f"{what}; and {served}: {_in_words(error)[0]}",
            f"mend that; then the next `make deploy` or `make rollback` of {environment} puts the rest right",
        )


def _show_why(delivery: Delivery, objects: list[dict[str, Any]]) -> None:
    """Print events and last lines while the pods are still there; only another run's lease keeps us from restoring."""
    try:
        delivery.each_poll()
        pods.explain(delivery.cluster, str(manifests.image_of(objects)))
    except BusyError:
        raise
    except Exception as error:
        print(f"its pods cannot be asked why: {_in_words(error)[0]}", flush=True)


def _in_words(cause: BaseException) -> tuple[str, str]:
    if isinstance(cause, SlipwayError):
        return cause.what, cause.then
    if isinstance(cause, KeyboardInterrupt):
        return "stopped by the keyboard or a signal", "deploy again when you are ready"
    return f"{type(cause).__name__}: {cause}", "the lines above say where"


def restore(
    delivery: Delivery,
    before: dict[str, Any],
    earlier: list[dict[str, Any]],
    objects: list[dict[str, Any]],
) -> None:
    """Have the cluster as it was before: image, weights, autoscaler, number of pods; then prove that it serves."""
    cluster = delivery.cluster
    delivery.still_ours()
    kubectl.apply(cluster, earlier)
    all_pods(cluster)
    try:
        rollout.settled(delivery, earlier, released(before))
    finally:
        # Only now, for it carried a share of the load; but also when a pod does not come back: it was found unfit.
        rollout.remove_canary(delivery)
    kubectl.delete(cluster, without(objects, earlier))
    pods.prove_service(delivery, released(before))


def all_pods(cluster: Cluster) -> None:
    """Have as many stable pods as there were before a canary that is still there."""
    canary = kubectl.find(cluster, "deployment/model-canary").get("deployment/model-canary", {"metadata": {}})
    if replicas := canary["metadata"].get("annotations", {}).get(REPLICAS):
        kubectl.run(cluster, "scale", "deployment/model", f"--replicas={replicas}")


def released(record: dict[str, Any]) -> Release:
    """The release that a record is about."""
    return Release(record["name"], record["version"], record["digest"], Path(record["bundle"]), record["image"])
