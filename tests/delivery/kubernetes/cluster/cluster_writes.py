"""Create, replace, patch, apply and delete: what happens to an object before it is stored."""

import random
from copy import deepcopy
from typing import Any

from cluster_apply import apply, updated
from cluster_ask import Ask
from cluster_defaults import fill
from cluster_merge import json_patch, merge_patch, strategic_patch
from cluster_resources import NAMESPACES, PODS, SERVICE_ACCOUNTS, Resource
from cluster_rules import check, check_fields, check_namespace
from cluster_schema import of_kind
from cluster_selectors import fields_match, matches, parse_fields, parse_labels
from cluster_status import ApiError, bad_request, not_found
from cluster_store import Object, Store, now

LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' letters for generated names: no vowels, so no words


def suffix(length: int = 5) -> str:
    """The random end of a generated name."""
    return "".join(random.choices(LETTERS, k=length))


def create(store: Store, ask: Ask) -> Object:
    """POST."""
    value = _placed(ask, ask.content())
    check_fields(value, applied=False)
    updated(None, value, ask.manager, "", now())
    return add(store, ask.resource, value, ask.dry)


def add(store: Store, resource: Resource, value: Object, dry: bool = False) -> Object:
    """Create an object that is complete except for defaults."""
    meta = value["metadata"]
    if resource.namespaced:
        check_namespace(store, resource, meta["namespace"], meta["name"])
    if resource.subresources:
        value.pop("status", None)
    _start(resource, value)
    fill(value)
    check(resource, value, None)
    made = value if dry else store.create(resource, value)
    if resource == NAMESPACES and not dry:
        account: Object = {"apiVersion": "v1", "kind": "ServiceAccount"}
        store.create(SERVICE_ACCOUNTS, account | {"metadata": {"name": "default", "namespace": meta["name"]}})
    return made


def replace(store: Store, ask: Ask) -> Object:
    """PUT."""
    value = _placed(ask, ask.content())
    check_fields(value, applied=False)
    return _save(store, ask, store.get(ask.resource, ask.namespace, ask.name), value)


def patch(store: Store, ask: Ask) -> tuple[Object, bool]:
    """PATCH of any kind; returns (the object, whether it is new)."""
    if "apply-patch" in ask.content_type:
        return _apply(store, ask)
    live = store.get(ask.resource, ask.namespace, ask.name)
    value = patched(live, ask)
    check_fields(value, applied=False)
    return _save(store, ask, live, value), False


def patched(live: Object, ask: Ask) -> Object:
    """An object after the patch in a request's body."""
    change = ask.content()
    if "json-patch" in ask.content_type:
        return json_patch(live, change)
    if "strategic-merge" in ask.content_type:
        return strategic_patch(live, change, of_kind(live["apiVersion"], live["kind"]))
    return merge_patch(live, change)


def _apply(store: Store, ask: Ask) -> tuple[Object, bool]:
    if not ask.query.get("fieldManager"):
        raise bad_request(
            'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
        )
    applied = _placed(ask, ask.content())
    check_fields(applied, applied=True)
    live = store.peek(ask.resource, ask.namespace, ask.name)
    if ask.subresource:
        applied = {key: applied[key] for key in applied if key in ("apiVersion", "kind", "metadata", ask.subresource)}
    elif ask.resource.subresources:
        applied.pop("status", None)
    value = apply(live, applied, ask.query["fieldManager"], ask.query.get("force") == "true", now())
    if live is None:
        return add(store, ask.resource, value, ask.dry), True
    fill(value)
    check(ask.resource, value, live)
    return value if ask.dry else store.update(ask.resource, value), False


def _save(store: Store, ask: Ask, live: Object, value: Object) -> Object:
    """Store what replaces `live`: everything but its status, or only its status."""
    value = deepcopy(value)
    if ask.subresource:
        value = deepcopy(live) | {key: value[key] for key in (ask.subresource,) if key in value}
    elif ask.resource.subresources:
        value.pop("status", None)
        value |= {"status": deepcopy(live["status"])} if "status" in live else {}
    for name in ("uid", "creationTimestamp", "deletionTimestamp", "generation"):
        if name in live["metadata"]:
            value["metadata"][name] = live["metadata"][name]
    fill(value)
    check(ask.resource, value, live)
    updated(live, value, ask.manager, ask.subresource, now())
    return value if ask.dry else store.update(ask.resource, value)


def _placed(ask: Ask, value: Any) -> Object:
    """The object of a request, with the kind and place from its path."""
    if not isinstance(value, dict):
        raise bad_request("the object provided is unrecognized (must be of type object)")
    value = {"apiVersion": ask.resource.api_version, "kind": ask.resource.kind} | value
    meta = value["metadata"] = dict(value.get("metadata") or {})
    if value["kind"] != ask.resource.kind or value["apiVersion"] != ask.resource.api_version:
        raise bad_request(f"{value['apiVersion']}, Kind={value['kind']} in request is not {ask.resource.full_name}")
    if ask.resource.namespaced and meta.setdefault("namespace", ask.namespace) != ask.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if ask.name or "name" not in meta:
        meta.setdefault("name", ask.name or meta.get("generateName", "") + suffix())
    if ask.name and meta["name"] != ask.name:
        raise bad_request("the name of the object does not match the name on the URL")
    return value


def _start(resource: Resource, value: Object) -> None:
    """Set the fields that the server gives to a new object."""
    if resource == PODS:
        value["status"] = {"phase": "Pending", "qosClass": "Burstable"}
    elif resource == NAMESPACES:
        value.setdefault("spec", {})
        value["status"] = {"phase": "Active"}
        value["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = value["metadata"]["name"]
    elif resource.plural in ("services", "horizontalpodautoscalers", "deployments", "replicasets"):
        value["status"] = {"loadBalancer": {}} if resource.plural == "services" else {}


def chosen(store: Store, ask: Ask) -> list[Object]:
    """The objects that match a request's selectors."""
    labels, wanted = parse_labels(ask.query.get("labelSelector", "")), parse_fields(ask.query.get("fieldSelector", ""))
    found = store.all(ask.resource, ask.namespace)
    return [v for v in found if matches(labels, v["metadata"].get("labels") or {}) and fields_match(wanted, v)]


def delete(store: Store, ask: Ask) -> Object:
    """DELETE of one object; dependents are handled by the request's propagation policy."""
    options = ask.content() or {}
    found = store.get(ask.resource, ask.namespace, ask.name)
    expected = (options.get("preconditions") or {}).get("uid")
    if expected and expected != found["metadata"]["uid"]:
        message = (
            f"Precondition failed: UID in precondition: {expected}, UID in object meta: {found['metadata']['uid']}"
        )
        raise ApiError(409, "Conflict", message)
    if ask.dry or options.get("dryRun"):
        return found
    policy = options.get("propagationPolicy") or ask.query.get("propagationPolicy")
    grace = options.get("gracePeriodSeconds", ask.query.get("gracePeriodSeconds"))
    return begin_delete(store, ask.resource, found, policy, None if grace is None else int(grace))


def begin_delete(
    store: Store, resource: Resource, found: Object, policy: str | None = None, grace: int | None = None
) -> Object:
    """Remove an object, or mark it when something must be finished first."""
    value = deepcopy(found)
    meta = value["metadata"]
    if resource == PODS:
        grace = value["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        meta["deletionGracePeriodSeconds"] = min(grace, meta.get("deletionGracePeriodSeconds", grace))
    if resource == NAMESPACES:
        value["status"] = {"phase": "Terminating"}
    if policy in ("Foreground", "Orphan"):
        mark = "foregroundDeletion" if policy == "Foreground" else "orphan"
        meta["finalizers"] = [*meta.get("finalizers", []), *([mark] if mark not in meta.get("finalizers", []) else [])]
    if not meta.get("finalizers") and resource not in (PODS, NAMESPACES):
        return store.remove(resource, meta.get("namespace", ""), meta["name"])
    meta.setdefault("deletionTimestamp", now())
    return store.update(resource, value)


def delete_all(store: Store, ask: Ask) -> list[Object]:
    """DELETE of a collection."""
    found = chosen(store, ask)
    if ask.resource.namespaced and not ask.namespace:
        raise not_found(ask.resource.plural, ask.resource.group, "")
    policy = (ask.content() or {}).get("propagationPolicy")
    return [begin_delete(store, ask.resource, value, policy) for value in found]
