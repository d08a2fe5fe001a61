"""Decodes the few objects that kubectl sends as protobuf: `kubectl create namespace`, `kubectl auth can-i` and so on.

Only the fields of kubectl's own requests are read; responses are always JSON.
"""

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"
TEXT, NUMBER, MAP, SECRETS = "text", "number", "map", "secrets"
Shape = dict[int, tuple[str, Any]]

META: Shape = {
    1: ("name", TEXT),
    2: ("generateName", TEXT),
    3: ("namespace", TEXT),
    11: ("labels", MAP),
    12: ("annotations", MAP),
}
ATTRIBUTES: Shape = {
    1: ("namespace", TEXT),
    2: ("verb", TEXT),
    3: ("group", TEXT),
    4: ("version", TEXT),
    5: ("resource", TEXT),
    6: ("subresource", TEXT),
    7: ("name", TEXT),
}
PATH: Shape = {1: ("path", TEXT), 2: ("verb", TEXT)}
REVIEW: Shape = {1: ("resourceAttributes", ATTRIBUTES), 2: ("nonResourceAttributes", PATH)}
SHAPES: dict[str, Shape] = {
    "Namespace": {1: ("metadata", META)},
    "ServiceAccount": {1: ("metadata", META)},
    "ConfigMap": {1: ("metadata", META), 2: ("data", MAP)},
    "Secret": {1: ("metadata", META), 2: ("data", SECRETS), 3: ("type", TEXT), 4: ("stringData", MAP)},
    "SelfSubjectAccessReview": {1: ("metadata", META), 2: ("spec", REVIEW)},
    "SelfSubjectReview": {1: ("metadata", META)},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", NUMBER),
        2: ("preconditions", {1: ("uid", TEXT)}),
        4: ("propagationPolicy", TEXT),
    },
}


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body; raises ValueError for an unknown one."""
    if not body.startswith(MAGIC):
        raise ValueError("no protobuf of Kubernetes")
    envelope = dict(_fields(body[len(MAGIC) :]))
    kind = {name: value.decode() for name, value in zip(("apiVersion", "kind"), _type(envelope[1]), strict=True)}
    if kind["kind"] not in SHAPES:
        raise ValueError(f"{kind['kind']} in its binary form")
    return kind | _read(envelope[2], SHAPES[kind["kind"]])


def _type(message: bytes) -> tuple[bytes, bytes]:
    found = dict(_fields(message))
    return found[1], found[2]


def _read(message: bytes, shape: Shape) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(message):
        if number not in shape:
            continue
        name, kind = shape[number]
        if kind in (MAP, SECRETS):
            pair = dict(_fields(value))
            content = base64.b64encode(pair[2]) if kind == SECRETS else pair[2]
            found.setdefault(name, {})[pair[1].decode()] = content.decode()
        elif isinstance(kind, dict):
            found[name] = _read(value, kind)
        elif kind == NUMBER:
            found[name] = value
        elif value:
            found[name] = value.decode()
    return found


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: numbers, and bytes for everything else."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("unknown wire type")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
