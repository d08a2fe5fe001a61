"""Validation by the schemas of Kubernetes and its extensions: every fault of an object, including unknown keys."""

import functools
import json
from typing import Any

import jsonschema
import kubernetes_validate
import referencing
from kubernetes_validate import utils as shipped
from manifest_crds import CRDS

OLDEST = "1.32"  # the oldest Kubernetes that the manifests support
NEWEST = shipped.major_minor(kubernetes_validate.latest_version())


def schema_faults(item: dict, version: str) -> list[str]:
    """All faults of one object, each with its path; kubernetes_validate itself stops at the first."""
    return list(_faults(json.dumps(item, sort_keys=True), version))


@functools.cache  # combinations of components consist of the same objects over and over
def _faults(text: str, version: str) -> tuple[str, ...]:
    item = json.loads(text)
    errors = _validator(item["kind"], item["apiVersion"], version).iter_errors(item)
    return tuple(f"{item['kind']} {item['metadata']['name']}: {error.json_path}: {error.message}" for error in errors)


@functools.cache
def _validator(kind: str, api: str, version: str) -> jsonschema.Draft202012Validator:
    if kind in CRDS:
        return jsonschema.Draft202012Validator(CRDS[kind])
    group, _, number = api.rpartition("/")
    file = "-".join(part for part in (kind.lower(), group.split(".")[0], number) if part)
    schema = shipped.schema_contents(f"{_folder(version)}/{file}.json", version)
    resource = referencing.Resource.from_contents(schema)
    return jsonschema.Draft202012Validator(schema, registry=resource @ _definitions(version))


@functools.cache
def _definitions(version: str) -> Any:
    contents = shipped.schema_contents(f"{_folder(version)}/_definitions.json", version)
    return referencing.Resource.from_contents(contents) @ referencing.Registry()


def _folder(version: str) -> str:
    full = next(known for known in kubernetes_validate.utils.all_versions() if shipped.major_minor(known) == version)
    return f"kubernetes-json-schema/v{full}-local-strict"
