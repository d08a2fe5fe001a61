"""Ownership between objects: ownerReferences."""

from cluster_selectors import matches
from cluster_store import Object, Store


def owner(value: Object) -> Object:
    """An ownerReference to an object."""
    meta = value["metadata"]
    reference = {"apiVersion": value["apiVersion"], "kind": value["kind"], "name": meta["name"], "uid": meta["uid"]}
    return reference | {"controller": True, "blockOwnerDeletion": True}


def owned(store: Store, resource, value: Object) -> list[Object]:
    """The dependents of an object."""
    uid = value["metadata"]["uid"]
    found = store.all(resource, value["metadata"]["namespace"])
    return [one for one in found if any(ref["uid"] == uid for ref in one["metadata"].get("ownerReferences", []))]


def adopt(store: Store, resource, value: Object) -> None:
    """Adopt objects that match an object's selector and have no owner."""
    for one in store.all(resource, value["metadata"]["namespace"]):
        meta = one["metadata"]
        if not meta.get("ownerReferences") and matches(value["spec"]["selector"], meta.get("labels") or {}):

            def write(found: Object) -> None:
                found["metadata"]["ownerReferences"] = [owner(value)]

            store.change(resource, meta["namespace"], meta["name"], write)
