"""A container's environment: literal values, values from Secrets, ConfigMaps and the pod, and Secrets mounted as files."""

import base64
from pathlib import Path
from typing import Any

from cluster_resources import CONFIG_MAPS, SECRETS
from cluster_store import Object, Store


class Missing(Exception):
    """A source of the environment is missing; the message says which."""


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


def mounts(store: Store, pod: Object, folder: Path) -> dict[str, str]:
    """Write the Secrets that a pod's container mounts into a folder; returns their places by path. Raises Missing."""
    secrets = {one["name"]: one["secret"] for one in pod["spec"].get("volumes", []) if "secret" in one}
    found = {}
    for mount in pod["spec"]["containers"][0].get("volumeMounts", []):
        if (name := mount["name"]) in secrets:
            reference = {"name": secrets[name]["secretName"], "optional": secrets[name].get("optional", False)}
            try:
                content = _content(store, pod["metadata"]["namespace"], "secretRef", reference)
            except Missing as error:
                raise Missing(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error
            (folder / name).mkdir(parents=True, exist_ok=True)
            for file, text in content.items():
                _write(folder / name / file, text)
            found[mount["mountPath"]] = str(folder / name)
    return found


def _write(file: Path, text: str) -> None:
    """Write a file atomically, if its text differs."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        new = file.with_name(f".{file.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(file)


def _value(store: Store, pod: Object, variable: dict[str, Any]) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return variable.get("value", "")
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    kind = "secretKeyRef" if "secretKeyRef" in source else "configMapKeyRef"
    if kind not in source:
        return None  # resourceFieldRef: not used by our manifests
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
