"""A container's environment: its own values, and those of Secrets, ConfigMaps and its pod."""

import base64
from typing import Any

from cluster_resources import CONFIG_MAPS, SECRETS
from cluster_store import Object, Store


class Missing(Exception):
    """What the environment needs is not there; says which."""


def environment(store: Store, pod: Object) -> dict[str, str]:
    """The variables of a pod's container; raises Missing."""
    container, namespace = pod["spec"]["containers"][0], pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        prefix = source.get("prefix", "")
        for kind in ("secretRef", "configMapRef"):
            if kind in source:
                content = _content(store, namespace, kind, source[kind])
                found |= {prefix + name: value for name, value in content.items()}
    for variable in container.get("env", []):
        value = _value(store, pod, variable)
        if value is not None:
            found[variable["name"]] = value
    return found


def _value(store: Store, pod: Object, variable: dict[str, Any]) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return variable.get("value", "")
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    kind = "secretKeyRef" if "secretKeyRef" in source else "configMapKeyRef"
    if kind not in source:
        return None  # resourceFieldRef: nothing of ours asks for it
    reference = source[kind]
    content = _content(store, pod["metadata"]["namespace"], kind, reference)
    if reference["key"] not in content and not reference.get("optional"):
        raise Missing(f"couldn't find key {reference['key']} in {reference['name']}")
    return content.get(reference["key"])


def _content(store: Store, namespace: str, kind: str, reference: dict[str, Any]) -> dict[str, str]:
    secret = kind.startswith("secret")
    found = store.peek(SECRETS if secret else CONFIG_MAPS, namespace, reference["name"])
    if found is None:
        if reference.get("optional"):
            return {}
        raise Missing(f'{"secret" if secret else "configmap"} "{reference["name"]}" not found')
    data = found.get("data") or {}
    return {name: base64.b64decode(text).decode() if secret else text for name, text in data.items()}


def _field(pod: Object, path: str) -> str:
    value: Any = pod
    for step in path.split("."):
        value = value.get(step, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, str) else ""
