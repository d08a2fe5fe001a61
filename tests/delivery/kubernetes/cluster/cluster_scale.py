"""The scale subresource of Deployments and ReplicaSets, which `kubectl scale` and the autoscaler write."""

from cluster_apply import updated
from cluster_ask import Ask
from cluster_resources import Resource
from cluster_status import ApiError, bad_request, conflict
from cluster_store import Object, Store, now
from cluster_writes import patched


def scale_of(value: Object) -> Object:
    """An object's Scale."""
    meta = {key: value["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")}
    selector = ",".join(f"{key}={text}" for key, text in value["spec"]["selector"].get("matchLabels", {}).items())
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": meta,
        "spec": {"replicas": value["spec"]["replicas"]},
        "status": {"replicas": value.get("status", {}).get("replicas", 0), "selector": selector},
    }


def write_scale(store: Store, ask: Ask) -> Object:
    """PUT or PATCH of a Scale; raises ApiError."""
    live = store.get(ask.resource, ask.namespace, ask.name)
    wanted = patched(scale_of(live), ask) if ask.method == "PATCH" else ask.content()
    replicas = wanted.get("spec", {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise bad_request(f"spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0")
    version = wanted.get("metadata", {}).get("resourceVersion")
    if version not in (None, "", live["metadata"]["resourceVersion"]):
        raise conflict(ask.resource.plural, ask.resource.group, ask.name)
    changed = scale(store, ask.resource, live, replicas, ask.manager)
    if changed is None:
        raise ApiError(500, "InternalError", "scaled while it went away")
    return scale_of(changed)


def scale(store: Store, resource: Resource, live: Object, replicas: int, manager: str) -> Object | None:
    """Set an object's number of replicas on behalf of a manager."""

    def write(value: Object) -> None:
        value["spec"]["replicas"] = replicas
        updated(live, value, manager, "scale", now())

    return store.change(resource, live["metadata"]["namespace"], live["metadata"]["name"], write)
