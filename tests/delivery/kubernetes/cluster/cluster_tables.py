"""The tables that `kubectl get` prints."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cluster_store import Object

Row = Callable[[Object], list[Any]]


def as_table(answer: Object) -> Object | None:
    """An object or a list of objects as a Table; None for anything else."""
    kind = answer.get("kind", "")
    if "metadata" not in answer or kind == "Status":
        return None
    items = answer.get("items", [answer])
    names, row = TABLES.get(kind.removesuffix("List"), ((), _nothing))
    columns = [
        {"name": name, "type": "string", "format": "name" if name == "Name" else ""} for name in ("Name", *names, "Age")
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": answer["metadata"].get("resourceVersion", "")},
        "columnDefinitions": columns,
        "rows": [_row(item, row(item)) for item in items],
    }


def _row(item: Object, cells: list[Any]) -> Object:
    meta = item["metadata"]
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    return {"cells": [meta["name"], *map(str, cells), _age(meta["creationTimestamp"])], "object": partial}


def _age(since: str) -> str:
    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    return f"{seconds}s" if seconds < 120 else f"{seconds // 60}m"


def _nothing(_: Object) -> list[Any]:
    return []


def _pod(pod: Object) -> list[Any]:
    containers = pod["status"].get("containerStatuses", [])
    ready = sum(one["ready"] for one in containers)
    waits = [one["state"]["waiting"]["reason"] for one in containers if "waiting" in one["state"]]
    status = "Terminating" if "deletionTimestamp" in pod["metadata"] else (*waits, pod["status"]["phase"])[0]
    return [f"{ready}/{len(pod['spec']['containers'])}", status, sum(one["restartCount"] for one in containers)]


def _deployment(value: Object) -> list[Any]:
    status = value.get("status", {})
    counts = [status.get(name, 0) for name in ("updatedReplicas", "availableReplicas")]
    return [f"{status.get('readyReplicas', 0)}/{value['spec']['replicas']}", *counts]


def _replica_set(value: Object) -> list[Any]:
    status = value.get("status", {})
    return [value["spec"]["replicas"], status.get("replicas", 0), status.get("readyReplicas", 0)]


def _event(event: Object) -> list[Any]:
    about = event["involvedObject"]
    return [event["type"], event["reason"], f"{about['kind'].lower()}/{about['name']}", event["message"]]


TABLES: dict[str, tuple[tuple[str, ...], Row]] = {
    "Pod": (("Ready", "Status", "Restarts"), _pod),
    "Deployment": (("Ready", "Up-to-date", "Available"), _deployment),
    "ReplicaSet": (("Desired", "Current", "Ready"), _replica_set),
    "Event": (("Type", "Reason", "Object", "Message"), _event),
    "Namespace": (("Status",), lambda value: [value["status"]["phase"]]),
}
