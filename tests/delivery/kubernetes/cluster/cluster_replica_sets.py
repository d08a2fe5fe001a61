"""The ReplicaSet controller: keeps the specified number of pods."""

import time
from copy import deepcopy

from cluster_events import tell
from cluster_owners import adopt, owned, owner
from cluster_pods import Node
from cluster_proxy import is_ready
from cluster_resources import PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from cluster_status import ApiError
from cluster_store import Object, Store
from cluster_writes import add, begin_delete, suffix

SOURCE = "replicaset-controller"
AGAIN = 10.0  # seconds until a pod that could not be created is tried again


class ReplicaSets:
    """Creates, deletes and counts pods."""

    def __init__(self, store: Store, node: Node):
        self._store = store
        self._node = node
        self._failed: dict[str, float] = {}

    def look(self) -> None:
        """Handle all ReplicaSets."""
        for one in self._store.all(REPLICA_SETS):
            if "deletionTimestamp" not in one["metadata"]:
                adopt(self._store, PODS, one)
                self._fill(one)
                self._count(one)

    def _pods(self, one: Object) -> list[Object]:
        return [pod for pod in owned(self._store, PODS, one) if "deletionTimestamp" not in pod["metadata"]]

    def _fill(self, one: Object) -> None:
        pods = self._pods(one)
        missing = one["spec"]["replicas"] - len(pods)
        for _ in range(missing):
            if not self._make(one):
                break
        for pod in sorted(pods, key=_worth)[: max(0, -missing)]:
            begin_delete(self._store, PODS, pod)
            tell(self._store, one, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}", source=SOURCE)

    def _make(self, one: Object) -> bool:
        meta = one["metadata"]
        if time.monotonic() - self._failed.get(meta["uid"], 0.0) < self._node.seconds(AGAIN):
            return False
        try:
            self._check_account(one)
            pod = add(self._store, PODS, _pod(one))
        except ApiError as error:
            self._failed[meta["uid"]] = time.monotonic()
            tell(self._store, one, "FailedCreate", f"Error creating: {error}", True, SOURCE)
            return False
        tell(self._store, one, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", source=SOURCE)
        return True

    def _check_account(self, one: Object) -> None:
        meta = one["metadata"]
        account = one["spec"]["template"]["spec"].get("serviceAccountName", "default")
        if self._store.peek(SERVICE_ACCOUNTS, meta["namespace"], account):
            return
        looked = f'error looking up service account {meta["namespace"]}/{account}: serviceaccount "{account}" not found'
        raise ApiError(403, "Forbidden", f'pods "{meta["name"]}-" is forbidden: {looked}')

    def _count(self, one: Object) -> None:
        pods, meta = self._pods(one), one["metadata"]
        ready = [pod for pod in pods if is_ready(pod)]
        after = self._node.seconds(one["spec"].get("minReadySeconds", 0))
        since = [self._node.ready_since.get(pod["metadata"]["uid"]) for pod in ready]
        available = [moment for moment in since if moment and time.monotonic() - moment >= after]
        counts = {"fullyLabeledReplicas": len(pods), "readyReplicas": len(ready), "availableReplicas": len(available)}
        status = {"replicas": len(pods), "observedGeneration": meta["generation"]}
        status |= {name: count for name, count in counts.items() if count}
        if one.get("status") != status:
            self._store.change(REPLICA_SETS, meta["namespace"], meta["name"], lambda value: value.update(status=status))


def _worth(pod: Object) -> tuple[bool, int]:
    """A sort key: pods that are not ready are deleted first, then the newest."""
    return is_ready(pod), -int(pod["metadata"]["resourceVersion"])


def _pod(one: Object) -> Object:
    meta = one["metadata"]
    template = deepcopy(one["spec"]["template"])
    name = {"name": f"{meta['name']}-{suffix()}", "namespace": meta["namespace"], "generateName": f"{meta['name']}-"}
    template["metadata"] |= name | {"ownerReferences": [owner(one)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]}
