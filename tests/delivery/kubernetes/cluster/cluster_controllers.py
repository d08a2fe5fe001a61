"""The other controllers: autoscalers, namespaces, garbage collection, endpoints, routes."""

import asyncio
import contextlib
from typing import Any

from cluster_deployments import Deployments
from cluster_events import tell
from cluster_owners import owner
from cluster_pods import Node, set_condition
from cluster_proxy import ready_pods
from cluster_replica_sets import ReplicaSets
from cluster_resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    ENDPOINTS,
    NAMESPACES,
    PODS,
    ROUTES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from cluster_scale import scale
from cluster_store import Object, Store
from cluster_writes import begin_delete

PAUSE = 0.2  # seconds between two passes without changes: the delay of anything that depends on time alone
BREATH = 0.02  # seconds to collect changes


async def control(store: Store, node: Node) -> None:
    """Reconcile repeatedly; each pass brings the cluster one step closer to its specification."""
    deployments, replica_sets = Deployments(store, node), ReplicaSets(store, node)
    while True:
        store.changed.clear()
        node.look()
        autoscale(store)
        deployments.look()
        replica_sets.look()
        endpoints(store)
        routes(store)
        collect(store)
        namespaces(store)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(store.changed.wait(), PAUSE)
        await asyncio.sleep(BREATH)


def autoscale(store: Store) -> None:
    """Keep each autoscaler's target between its bounds; it measures nothing."""
    for scaler in store.all(AUTOSCALERS):
        spec, meta = scaler["spec"], scaler["metadata"]
        target = store.peek(DEPLOYMENTS, meta["namespace"], spec["scaleTargetRef"]["name"])
        replicas = target["spec"]["replicas"] if target else 0
        if target and replicas:
            wanted = min(max(replicas, spec["minReplicas"]), spec["maxReplicas"])
            if wanted != replicas:
                scale(store, DEPLOYMENTS, target, wanted, "kube-controller-manager")
                reason = "Current number of replicas below Spec.MinReplicas"
                if wanted < replicas:
                    reason = "Current number of replicas above Spec.MaxReplicas"
                said = f"New size: {wanted}; reason: {reason}"
                tell(store, scaler, "SuccessfulRescale", said, source="horizontal-pod-autoscaler")
            replicas = wanted
        _set(store, AUTOSCALERS, meta, "status", {"currentReplicas": replicas, "desiredReplicas": replicas})


def endpoints(store: Store) -> None:
    """Each service's ready pods."""
    for service in store.all(SERVICES):
        meta = service["metadata"]
        ips = [{"ip": pod["status"]["podIP"]} for pod in ready_pods(store, service)]
        subsets = [{"addresses": ips}] if ips else []
        value: Object = {"apiVersion": "v1", "kind": "Endpoints", "subsets": subsets}
        value["metadata"] = {"name": meta["name"], "namespace": meta["namespace"]}
        value["metadata"]["ownerReferences"] = [owner(service)]
        if not store.peek(ENDPOINTS, meta["namespace"], meta["name"]):
            store.create(ENDPOINTS, value)
        _set(store, ENDPOINTS, meta, "subsets", subsets)


def _set(store: Store, resource: Resource, meta: Object, field: str, content: Any) -> None:
    """Set one field of an object, if it differs."""

    def write(value: Object) -> None:
        value[field] = content

    store.change(resource, meta["namespace"], meta["name"], write)


def routes(store: Store) -> None:
    """Mark every HTTPRoute as accepted by its gateways."""
    for route in store.all(ROUTES):
        meta = route["metadata"]

        def write(value: Object) -> None:
            parents = []
            for reference in value["spec"].get("parentRefs", []):
                parent: Object = {"parentRef": reference, "controllerName": "example.com/gateway", "status": {}}
                for kind, reason in (("Accepted", "Accepted"), ("ResolvedRefs", "ResolvedRefs")):
                    set_condition(parent, kind, True, reason, "")
                parents.append({**{k: v for k, v in parent.items() if k != "status"}, **parent["status"]})
            if [one["parentRef"] for one in value.get("status", {}).get("parents", [])] != value["spec"].get(
                "parentRefs", []
            ):
                value["status"] = {"parents": parents}

        store.change(ROUTES, meta["namespace"], meta["name"], write)


def collect(store: Store) -> None:
    """Garbage collection: delete dependents of deleted objects, and owners that wait for their dependents."""
    living = {value["metadata"]["uid"] for _, value in store.everything()}
    held = {ref["uid"] for _, value in store.everything() for ref in value["metadata"].get("ownerReferences", [])}
    leaving = {
        value["metadata"]["uid"]: value for _, value in store.everything() if "deletionTimestamp" in value["metadata"]
    }
    for resource, value in store.everything():
        meta = value["metadata"]
        marks = meta.get("finalizers", []) if "deletionTimestamp" in meta else []
        owners = meta.get("ownerReferences", [])
        if "orphan" in marks or ("foregroundDeletion" in marks and meta["uid"] not in held):
            _let_go(store, resource, value)
        elif "deletionTimestamp" not in meta and owners and all(_gone(ref["uid"], living, leaving) for ref in owners):
            foreground = any(ref["uid"] in leaving for ref in owners)
            begin_delete(store, resource, value, "Foreground" if foreground and resource != PODS else None)


def _gone(uid: str, living: set[str], leaving: dict[str, Object]) -> bool:
    marks = leaving.get(uid, {}).get("metadata", {}).get("finalizers", [])
    return uid not in living or "foregroundDeletion" in marks


def _let_go(store: Store, resource, value: Object) -> None:
    meta = value["metadata"]
    if "orphan" in meta["finalizers"]:
        for kind, other in list(store.everything()):
            if any(ref["uid"] == meta["uid"] for ref in other["metadata"].get("ownerReferences", [])):
                store.change(
                    kind,
                    other["metadata"].get("namespace", ""),
                    other["metadata"]["name"],
                    lambda found: found["metadata"].pop("ownerReferences"),
                )

    def write(found: Object) -> None:
        found["metadata"]["finalizers"] = [
            mark for mark in found["metadata"]["finalizers"] if mark not in ("foregroundDeletion", "orphan")
        ]

    store.change(resource, meta.get("namespace", ""), meta["name"], write)


def namespaces(store: Store) -> None:
    """Empty the namespaces that are being deleted, and remove the empty ones."""
    for namespace in store.all(NAMESPACES):
        if "deletionTimestamp" not in namespace["metadata"]:
            continue
        name = namespace["metadata"]["name"]
        inside = [(kind, value) for kind, value in store.everything() if value["metadata"].get("namespace") == name]
        for kind, value in inside:
            if "deletionTimestamp" not in value["metadata"] and store.peek(kind, name, value["metadata"]["name"]):
                begin_delete(store, kind, value)
        if not inside:
            store.remove(NAMESPACES, "", name)


def first_objects(store: Store) -> None:
    """The objects of every new cluster."""
    for name in ("default", "kube-system"):
        meta = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
        value: Object = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": meta,
            "spec": {"finalizers": ["kubernetes"]},
        }
        store.create(NAMESPACES, value | {"status": {"phase": "Active"}})
        account: Object = {"apiVersion": "v1", "kind": "ServiceAccount"}
        store.create(SERVICE_ACCOUNTS, account | {"metadata": {"name": "default", "namespace": name}})
