"""The schemas of Kubernetes 1.32: the type of each field, and how its lists are merged.

They come with kubernetes-validate. Kinds that are not Kubernetes' own (routes, rollouts) are not validated: maps merge
by key, lists are replaced as a whole.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

FREE: dict[str, Any] = {}  # for anything without a schema
KEY_DEFAULTS = {"protocol": "TCP"}  # defaults of omitted merge keys


@cache
def _folder():
    return files("kubernetes_validate") / "kubernetes-json-schema" / "v1.32.0-local-strict"


@cache
def _definitions() -> dict[str, Any]:
    return json.loads((_folder() / "_definitions.json").read_text(encoding="utf-8"))


@cache
def of_kind(api_version: str, kind: str) -> dict[str, Any]:
    """The schema of a kind; FREE when Kubernetes does not have it."""
    group, _, version = api_version.rpartition("/")
    place = f"{group.split('.')[0]}-{version}" if group else version
    file = _folder() / f"{kind.lower()}-{place}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else FREE


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its reference resolved; keys beside the reference take precedence."""
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rpartition("/")[2]
    return _definitions()["$defs"][name] | {key: value for key, value in schema.items() if key != "$ref"}


def child(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of a field in a map."""
    known = resolve(schema)
    more = known.get("additionalProperties")
    return resolve(known.get("properties", {}).get(name) or (more if isinstance(more, dict) else FREE))


def item(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list's items."""
    return resolve(resolve(schema).get("items") or FREE)


def map_keys(schema: dict[str, Any]) -> list[str]:
    """The fields that identify an item of a list that merges by keys; none for other lists."""
    return schema.get("x-kubernetes-list-map-keys", []) if schema.get("x-kubernetes-list-type") == "map" else []


def is_set(schema: dict[str, Any]) -> bool:
    """Whether a list is a set of plain values."""
    return schema.get("x-kubernetes-list-type") == "set"


def is_atomic_map(schema: dict[str, Any]) -> bool:
    """Whether a map is replaced as a whole."""
    return schema.get("x-kubernetes-map-type") == "atomic"


def key_of(entry: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """What identifies an item among its siblings."""
    return {key: entry.get(key, KEY_DEFAULTS.get(key)) for key in keys if key in entry or key in KEY_DEFAULTS}


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator:
    schema = of_kind(api_version, kind)
    registry: Registry = Registry()
    for contents in (schema, _definitions()):
        if contents:
            registry = Resource.from_contents(contents) @ registry
    return Draft202012Validator(schema, registry=registry)


def faults(value: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """(paths of unknown fields, [(path, message)]) of an object."""
    unknown: list[str] = []
    wrong: list[tuple[str, str]] = []
    for error in _validator(value["apiVersion"], value["kind"]).iter_errors(value):
        if error.validator == "additionalProperties":
            unknown += [_path([*error.absolute_path, name]) for name in _strangers(error)]
        else:
            wrong.append(_fault(error))
    return sorted(unknown), sorted(wrong)


def _strangers(error: ValidationError) -> list[str]:
    return [name for name in error.instance if name not in error.schema.get("properties", {})]


def _fault(error: ValidationError) -> tuple[str, str]:
    path = list(error.absolute_path)
    if error.validator == "required":
        missing = re.match(r"'(.*)' is a required", error.message)
        return _path([*path, missing.group(1) if missing else ""]), "Required value"
    return _path(path), f"Invalid value: {json.dumps(error.instance)[:200]}: {error.message[:200]}"


def _path(steps: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")
