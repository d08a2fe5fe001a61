"""The Deployment controller: ReplicaSets by template, rolling updates, deadlines."""

import contextlib
import hashlib
import json
import math
import time
from copy import deepcopy
from typing import Any

from cluster_events import tell
from cluster_owners import adopt, owned, owner
from cluster_pods import Node, set_condition
from cluster_resources import DEPLOYMENTS, REPLICA_SETS
from cluster_status import ApiError
from cluster_store import Object, Store
from cluster_writes import add, begin_delete

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
SOURCE = "deployment-controller"


class Deployments:
    """Brings every Deployment one step closer to its specification in each pass."""

    def __init__(self, store: Store, node: Node):
        self._store = store
        self._node = node
        self._progress: dict[str, tuple[Any, float]] = {}

    def look(self) -> None:
        """Handle all Deployments."""
        for deployment in self._store.all(DEPLOYMENTS):
            if "deletionTimestamp" not in deployment["metadata"]:
                adopt(self._store, REPLICA_SETS, deployment)
                with contextlib.suppress(ApiError):  # its namespace is being deleted: nothing more to do
                    self._reconcile(deployment)

    def _reconcile(self, deployment: Object) -> None:
        sets = owned(self._store, REPLICA_SETS, deployment)
        new = next((one for one in sets if _template(one) == deployment["spec"]["template"]), None)
        if not deployment["spec"].get("paused"):
            new = self._current(deployment, sets, new)
            if new is None:
                return
            self._roll(deployment, new, [one for one in sets if one["metadata"]["uid"] != new["metadata"]["uid"]])
        elif new is not None:
            self._scale(deployment, new, deployment["spec"]["replicas"])
        self._report(deployment)

    def _current(self, deployment: Object, sets: list[Object], new: Object | None) -> Object | None:
        """The ReplicaSet of the current template, created if missing, with the highest revision."""
        revisions = [int(one["metadata"]["annotations"][REVISION]) for one in sets if one is not new]
        revision = str(max([*revisions, 0]) + 1)
        if new is None:
            return self._make(deployment, revision)
        if int(new["metadata"]["annotations"][REVISION]) < int(revision):
            new = self._annotate(REPLICA_SETS, new, revision)
        if new is not None:
            self._annotate(DEPLOYMENTS, deployment, new["metadata"]["annotations"][REVISION])
        return new

    def _annotate(self, resource, value: Object, revision: str) -> Object | None:
        def write(changed: Object) -> None:
            changed["metadata"].setdefault("annotations", {})[REVISION] = revision

        return self._store.change(resource, value["metadata"]["namespace"], value["metadata"]["name"], write)

    def _make(self, deployment: Object, revision: str) -> Object:
        meta, spec = deployment["metadata"], deployment["spec"]
        digest = template_hash(spec["template"])
        template = deepcopy(spec["template"])
        template["metadata"]["labels"][HASH] = digest
        selector = deepcopy(spec["selector"])
        selector.setdefault("matchLabels", {})[HASH] = digest
        wanted = {"replicas": 0, "selector": selector, "template": template}
        wanted |= {"minReadySeconds": spec["minReadySeconds"]} if "minReadySeconds" in spec else {}
        made = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{meta['name']}-{digest}",
                "namespace": meta["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {REVISION: revision},
                "ownerReferences": [owner(deployment)],
            },
            "spec": wanted,
        }
        return add(self._store, REPLICA_SETS, made)

    def _roll(self, deployment: Object, new: Object, old: list[Object]) -> None:
        spec = deployment["spec"]
        if spec["strategy"]["type"] == "Recreate":
            for one in old:
                self._scale(deployment, one, 0)
            if any(one.get("status", {}).get("replicas", 0) for one in old):
                return
            self._scale(deployment, new, spec["replicas"])
        else:
            surge, missing = allowed(spec)
            self._grow(deployment, new, old, surge)
            self._shrink(deployment, new, old, missing)
        self._forget(deployment, old)

    def _grow(self, deployment: Object, new: Object, old: list[Object], surge: int) -> None:
        wanted, has = deployment["spec"]["replicas"], new["spec"]["replicas"]
        room = wanted + surge - has - sum(one["spec"]["replicas"] for one in old)
        if has > wanted:
            self._scale(deployment, new, wanted)
        elif has < wanted and room > 0:
            self._scale(deployment, new, has + min(room, wanted - has))

    def _shrink(self, deployment: Object, new: Object, old: list[Object], missing: int) -> None:
        """Remove old pods, those that are not available first, without going below the minimum that must be available."""
        least = deployment["spec"]["replicas"] - missing
        total = sum(one["spec"]["replicas"] for one in (new, *old))
        new_missing = new["spec"]["replicas"] - available(new)
        spare = total - least - new_missing
        for one in old:
            unhealthy = min(spare, one["spec"]["replicas"] - min(available(one), one["spec"]["replicas"]))
            if unhealthy > 0:
                self._scale(deployment, one, one["spec"]["replicas"] - unhealthy)
                return
        spare = min(spare, available(new) + sum(available(one) for one in old) - least)
        for one in old:
            fewer = min(spare, one["spec"]["replicas"])
            if fewer > 0:
                self._scale(deployment, one, one["spec"]["replicas"] - fewer)
                spare -= fewer

    def _scale(self, deployment: Object, one: Object, replicas: int) -> None:
        has = one["spec"]["replicas"]
        if has == replicas:
            return
        meta = one["metadata"]
        self._store.change(
            REPLICA_SETS, meta["namespace"], meta["name"], lambda value: value["spec"].update(replicas=replicas)
        )
        word = "up" if replicas > has else "down"
        said = f"Scaled {word} replica set {meta['name']} from {has} to {replicas}"
        tell(self._store, deployment, "ScalingReplicaSet", said, source=SOURCE)

    def _forget(self, deployment: Object, old: list[Object]) -> None:
        """Keep at most the Deployment's limit of old ReplicaSets."""
        empty = [one for one in old if not one["spec"]["replicas"] and not one.get("status", {}).get("replicas")]
        empty.sort(key=lambda one: int(one["metadata"]["annotations"][REVISION]))
        for one in empty[: max(0, len(empty) - deployment["spec"]["revisionHistoryLimit"])]:
            begin_delete(self._store, REPLICA_SETS, one)

    def _report(self, deployment: Object) -> None:
        meta = deployment["metadata"]
        sets = owned(self._store, REPLICA_SETS, deployment)
        spec = deployment["spec"]
        counts = _counts(sets, next((one for one in sets if _template(one) == spec["template"]), None))
        complete = counts["updatedReplicas"] == counts["replicas"] == counts["availableReplicas"] == spec["replicas"]
        late = self._late(deployment, counts, complete)

        def write(value: Object) -> None:
            status = value["status"] = {"conditions": value.get("status", {}).get("conditions", [])}
            status |= {name: count for name, count in counts.items() if count}
            status["observedGeneration"] = deployment["metadata"]["generation"]
            missing = spec["replicas"] - counts["availableReplicas"]
            status |= {"unavailableReplicas": missing} if missing > 0 else {}
            _conditions(value, counts, complete, late)

        self._store.change(DEPLOYMENTS, meta["namespace"], meta["name"], write)

    def _late(self, deployment: Object, counts: dict[str, int], complete: bool) -> bool:
        """Whether there was no progress within the Deployment's deadline."""
        uid, spec = deployment["metadata"]["uid"], deployment["spec"]
        state = (template_hash(spec["template"]), tuple(counts.values()), complete)
        known, since = self._progress.get(uid, (None, 0.0))
        if known != state and not (known and known[2] and known[0] == state[0]):
            self._progress[uid] = (state, time.monotonic())
            return False
        if complete or (known and known[2]) or spec.get("paused"):
            return False
        return time.monotonic() - since > self._node.seconds(spec["progressDeadlineSeconds"])


def _conditions(value: Object, counts: dict[str, int], complete: bool, late: bool) -> None:
    enough = counts["availableReplicas"] >= value["spec"]["replicas"] - allowed(value["spec"])[1]
    word = "Available" if enough else "Unavailable"
    having = "has" if enough else "does not have"
    set_condition(value, "Available", enough, f"MinimumReplicas{word}", f"Deployment {having} minimum availability.")
    name = value["metadata"]["name"]
    digest = template_hash(value["spec"]["template"])
    reason, said = "ReplicaSetUpdated", f'ReplicaSet "{name}-{digest}" is progressing.'
    if complete:
        reason, said = "NewReplicaSetAvailable", f'ReplicaSet "{name}-{digest}" has successfully progressed.'
    if late:
        reason, said = "ProgressDeadlineExceeded", f'ReplicaSet "{name}-{digest}" has timed out progressing.'
    set_condition(value, "Progressing", not late, reason, said)
    for one in value["status"]["conditions"]:
        one["lastUpdateTime"] = one["lastTransitionTime"]


def _counts(sets: list[Object], new: Object | None) -> dict[str, int]:
    def total(name: str) -> int:
        return sum(one.get("status", {}).get(name, 0) for one in sets)

    return {
        "replicas": total("replicas"),
        "updatedReplicas": (new or {}).get("status", {}).get("replicas", 0),
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
    }


def template_hash(template: Object) -> str:
    """The hash of a pod template in its ReplicaSet's name."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _template(replica_set: Object) -> Object:
    """The pod template of a ReplicaSet."""
    template = deepcopy(replica_set["spec"]["template"])
    template["metadata"]["labels"].pop(HASH, None)
    return template


def allowed(spec: Object) -> tuple[int, int]:
    """(surge, unavailable) pods allowed during an update."""
    rolling = spec["strategy"].get("rollingUpdate", {"maxSurge": 0, "maxUnavailable": 0})
    surge = _number(rolling["maxSurge"], spec["replicas"], math.ceil)
    missing = _number(rolling["maxUnavailable"], spec["replicas"], math.floor)
    return surge, missing if surge or missing else 1


def _number(value: int | str, replicas: int, whole) -> int:
    return whole(int(value.rstrip("%")) * replicas / 100) if isinstance(value, str) else value


def available(replica_set: Object) -> int:
    """Number of available pods of a ReplicaSet."""
    return replica_set.get("status", {}).get("availableReplicas", 0)
