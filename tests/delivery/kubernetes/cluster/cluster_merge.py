"""The three kinds of patch besides server-side apply: JSON patch, merge patch, strategic merge patch."""

from copy import deepcopy
from typing import Any

from cluster_schema import child, item
from cluster_status import ApiError, bad_request


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386: maps are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def strategic_patch(value: Any, patch: Any, schema: dict[str, Any]) -> Any:
    """Like a merge patch, but lists with merge keys merge item by item; `$patch: delete` and `$patch: replace` are supported."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: deepcopy(change) for name, change in patch.items() if name != "$patch"}
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        elif not name.startswith("$"):
            merged[name] = _strategic_field(merged.get(name), change, child(schema, name))
    return merged


def _strategic_field(value: Any, change: Any, schema: dict[str, Any]) -> Any:
    key = schema.get("x-kubernetes-patch-merge-key")
    if isinstance(change, list) and key and "merge" in schema.get("x-kubernetes-patch-strategy", ""):
        return _strategic_list(value or [], change, key, item(schema))
    return strategic_patch(value, change, schema)


def _strategic_list(items: list[Any], changes: list[Any], key: str, schema: dict[str, Any]) -> list[Any]:
    if {"$patch": "replace"} in changes:
        return [deepcopy(change) for change in changes if change != {"$patch": "replace"}]
    merged = {entry.get(key): entry for entry in items}
    for change in changes:
        if change.get("$patch") == "delete":
            merged.pop(change.get(key), None)
        else:
            merged[change.get(key)] = strategic_patch(merged.get(change.get(key)), change, schema)
    return list(merged.values())


def json_patch(value: Any, operations: Any) -> Any:
    """RFC 6902; raises ApiError when an operation cannot be applied."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    changed = deepcopy(value)
    for operation in operations:
        try:
            changed = _operate(changed, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            path = operation.get("path") if isinstance(operation, dict) else operation
            raise ApiError(422, "Invalid", f"the server rejected our request: {path}: {error}") from error
    return changed


def _operate(value: Any, operation: dict[str, Any]) -> Any:
    op, path = operation["op"], _steps(operation["path"])
    if op in ("move", "copy"):
        moved = deepcopy(_at(value, _steps(operation["from"])))
        if op == "move":
            value = _operate(value, {"op": "remove", "path": operation["from"]})
        return _operate(value, {"op": "add", "path": operation["path"], "value": moved})
    if op == "test":
        if _at(value, path) != operation["value"]:
            raise ValueError("testing value failed")
        return value
    if not path:
        return deepcopy(operation["value"])
    _put(_at(value, path[:-1]), path[-1], op, operation)
    return value


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _put(holder: Any, step: str, op: str, operation: dict[str, Any]) -> None:
    place: Any = step
    if isinstance(holder, list):
        place = len(holder) if step == "-" else int(step)
    if op == "remove":
        del holder[place]
    elif op == "replace" and isinstance(holder, dict) and place not in holder:
        raise KeyError(place)
    elif isinstance(holder, list) and op == "add":
        holder.insert(place, deepcopy(operation["value"]))
    else:
        holder[place] = deepcopy(operation["value"])
