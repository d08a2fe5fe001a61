"""Events of controllers and the node about objects; a repeated one only increases its count."""

import hashlib
from typing import Any

from cluster_resources import EVENTS, NAMESPACES
from cluster_store import Object, Store, now


def tell(
    store: Store, about: Object, reason: str, message: str, warning: bool = False, source: str = "kubelet"
) -> None:
    """Record an event about an object, unless its namespace is being deleted."""
    meta = about["metadata"]
    namespace = store.peek(NAMESPACES, "", meta["namespace"])
    if namespace is None or namespace["metadata"].get("deletionTimestamp"):
        return
    same = hashlib.sha256(f"{meta['uid']}{reason}{message}".encode()).hexdigest()[:16]
    name = f"{meta['name']}.{same}"
    if store.peek(EVENTS, meta["namespace"], name):
        store.change(EVENTS, meta["namespace"], name, _again)
    else:
        store.create(EVENTS, _event(about, name, reason, message, warning, source))


def _again(event: Object) -> None:
    event["count"] += 1
    event["lastTimestamp"] = now()


def _event(about: Object, name: str, reason: str, message: str, warning: bool, source: str) -> Object:
    meta, moment = about["metadata"], now()
    involved: dict[str, Any] = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": meta["namespace"]},
        "involvedObject": {"apiVersion": about["apiVersion"], "kind": about["kind"], **involved},
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "source": {"component": source},
        "reportingComponent": source,
        "reportingInstance": "",
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "eventTime": None,
    }
