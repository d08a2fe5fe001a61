"""Sets of fields: the fields that a manifest names, in the format of managedFields.

A path is a tuple of steps as in FieldsV1: "f:replicas", 'k:{"name":"model"}' for an item identified by its keys,
'v:"x"' for a value of a set. A set of paths holds leaves, and list items themselves.
"""

import json
from typing import Any

from cluster_schema import child, is_atomic_map, is_set, item, key_of, map_keys

Path = tuple[str, ...]


def fields(value: Any, schema: dict[str, Any], at: Path = ()) -> set[Path]:
    """The paths that a value names."""
    if isinstance(value, dict) and value and not (at and is_atomic_map(schema)):
        steps = ((f"f:{name}", inner, child(schema, name)) for name, inner in value.items())
        return set().union(*(fields(inner, known, (*at, step)) for step, inner, known in steps))
    if isinstance(value, list) and map_keys(schema):
        found: set[Path] = set()
        for entry in value:
            place = (*at, item_step(entry, map_keys(schema)))
            found |= {place} | fields(entry, item(schema), place)
        return found
    if isinstance(value, list) and is_set(schema):
        return {(*at, f"v:{json.dumps(entry)}") for entry in value}
    return {at}


def item_step(entry: dict[str, Any], keys: list[str]) -> str:
    """The step to an item of a keyed list."""
    return "k:" + json.dumps(key_of(entry, keys), sort_keys=True, separators=(",", ":"))


def get(value: Any, path: Path, schema: dict[str, Any]) -> Any:
    """The value at a path; raises KeyError when there is none."""
    for step in path:
        if step.startswith("f:"):
            value, schema = value[step[2:]], child(schema, step[2:])
        elif step.startswith("k:"):
            value, schema = _find(value, step, schema), item(schema)
        elif json.loads(step[2:]) in value:
            value, schema = json.loads(step[2:]), item(schema)
        else:
            raise KeyError(step)
    return value


def _find(items: list[Any], step: str, schema: dict[str, Any]) -> dict[str, Any]:
    for entry in items:
        if item_step(entry, map_keys(schema)) == step:
            return entry
    raise KeyError(step)


def merge(value: Any, applied: Any, schema: dict[str, Any], top: bool = True) -> Any:
    """`applied` merged over `value`, lists by their keys."""
    if isinstance(applied, dict) and isinstance(value, dict) and (top or not is_atomic_map(schema)):
        merged = dict(value)
        for name, inner in applied.items():
            merged[name] = merge(value.get(name), inner, child(schema, name), False)
        return merged
    if isinstance(applied, list) and isinstance(value, list) and map_keys(schema):
        return _merge_items(value, applied, schema)
    if isinstance(applied, list) and isinstance(value, list) and is_set(schema):
        return value + [entry for entry in applied if entry not in value]
    return applied


def _merge_items(items: list[Any], applied: list[Any], schema: dict[str, Any]) -> list[Any]:
    """In the order of `applied`, then the items of others."""
    keys = map_keys(schema)
    old = {item_step(entry, keys): entry for entry in items}
    new = {item_step(entry, keys): entry for entry in applied}
    merged = [merge(old.get(step), entry, item(schema), False) for step, entry in new.items()]
    return merged + [entry for step, entry in old.items() if step not in new]


def remove(value: Any, gone: set[Path], schema: dict[str, Any]) -> Any:
    """A value without these paths; maps and lists that become empty are removed, too (None)."""
    if () in gone:
        return None
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            below = _below(gone, f"f:{name}")
            left = remove(inner, below, child(schema, name)) if below else inner
            if left is not None or not below:
                kept[name] = left
        return kept or None
    if isinstance(value, list):
        return _remove_items(value, gone, schema) or None
    return value


def _remove_items(items: list[Any], gone: set[Path], schema: dict[str, Any]) -> list[Any]:
    kept = []
    for entry in items:
        step = item_step(entry, map_keys(schema)) if map_keys(schema) else f"v:{json.dumps(entry)}"
        below = _below(gone, step)
        left = remove(entry, below, item(schema)) if below else entry
        if left is not None:
            kept.append(left)
    return kept


def _below(paths: set[Path], step: str) -> set[Path]:
    return {path[1:] for path in paths if path and path[0] == step}


def to_v1(paths: set[Path]) -> dict[str, Any]:
    """A set in the format of managedFields."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def from_v1(tree: dict[str, Any], at: Path = ()) -> set[Path]:
    """A set from managedFields."""
    if not tree:
        return {at}
    found: set[Path] = set()
    for step, below in tree.items():
        found |= {at} if step == "." else from_v1(below, (*at, step))
    return found


def shown(path: Path) -> str:
    """A path as in messages: .spec.template.spec.containers[name="model"].image"""
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += f".{step[2:]}"
        elif step.startswith("k:"):
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(step[2:]).items()) + "]"
        else:
            text += f"[={step[2:]}]"
    return text
