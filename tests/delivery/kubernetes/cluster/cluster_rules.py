"""Validation of objects: known fields of the right type, and the few rules that no schema expresses."""

import re
from typing import Any

from cluster_resources import DEPLOYMENTS, NAMESPACES, Resource
from cluster_schema import faults
from cluster_selectors import matches
from cluster_status import ApiError, bad_request, invalid, not_found
from cluster_store import Object, Store

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def check_fields(value: Object, applied: bool) -> None:
    """Raise ApiError when an object has unknown fields; with server-side apply's message if it was applied."""
    unknown, _ = faults(value)
    if not unknown:
        return
    kind, api_version = value["kind"], value["apiVersion"]
    if applied:
        meta = value["metadata"]
        what = f"{meta.get('namespace', '')}/{meta['name']}; {api_version}, Kind={kind}"
        raise ApiError(
            500, "", f"failed to create typed patch object ({what}): .{unknown[0]}: field not declared in schema"
        )
    said = ", ".join(f'unknown field "{path}"' for path in unknown)
    version = api_version.rpartition("/")[2]
    raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {said}')


def check(resource: Resource, value: Object, old: Object | None) -> None:
    """Raise ApiError 422 when an object breaks a rule."""
    meta = value["metadata"]
    _, wrong = faults({key: part for key, part in value.items() if key != "status"})
    if not NAME.fullmatch(meta["name"]) or len(meta["name"]) > 253:
        wrong.append(("metadata.name", f'Invalid value: "{meta["name"]}": a lowercase RFC 1123 subdomain must consist of '
                      "lower case alphanumeric characters, '-' or '.'"))  # fmt: skip
    if resource == DEPLOYMENTS and not wrong:
        wrong += _deployment(value, old)
    if wrong:
        raise invalid(resource.kind, resource.group, meta["name"], wrong)


def _deployment(value: Object, old: Object | None) -> list[tuple[str, str]]:
    spec = value["spec"]
    labels = spec["template"].get("metadata", {}).get("labels", {})
    wrong = []
    if not matches(spec["selector"], labels):
        wrong.append(("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"))
    if old and old["spec"]["selector"] != spec["selector"]:
        wrong.append(("spec.selector", "Invalid value: field is immutable"))
    return wrong


def check_namespace(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Raise ApiError when a namespace is missing or being deleted."""
    found: dict[str, Any] | None = store.peek(NAMESPACES, "", namespace)
    if found is None:
        raise not_found("namespaces", "", namespace)
    if found["metadata"].get("deletionTimestamp"):
        message = f'{resource.full_name} "{name}" is forbidden: unable to create new content in namespace {namespace} because it is being terminated'
        raise ApiError(403, "Forbidden", message, {"name": name, "kind": resource.plural})
