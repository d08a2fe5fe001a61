"""Field ownership: server-side apply, and managedFields after other writes."""

from copy import deepcopy
from typing import Any

from cluster_fields import Path, fields, from_v1, get, merge, remove, shown, to_v1
from cluster_schema import of_kind
from cluster_status import ApiError

NOT_OWNED = {  # maintained by the server itself
    ("f:apiVersion",),
    ("f:kind",),
    *(
        ("f:metadata", f"f:{name}")
        for name in (
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "selfLink",
        )
    ),
}
Owner = tuple[str, str, str]  # manager, operation, subresource
Owners = dict[Owner, set[Path]]


def owners(value: dict[str, Any] | None) -> Owners:
    """Each manager's fields, by (manager, operation, subresource)."""
    listed = (value or {}).get("metadata", {}).get("managedFields", [])
    return {(e["manager"], e["operation"], e.get("subresource", "")): from_v1(e["fieldsV1"]) for e in listed}


def record(value: dict[str, Any], held: Owners, times: dict[Owner, str], now: str) -> None:
    """Write the owners into managedFields; entries whose fields did not change keep their time."""
    entries = []
    for (manager, operation, subresource), paths in held.items():
        if paths:
            time = times.get((manager, operation, subresource), now)
            entry = {"manager": manager, "operation": operation, "apiVersion": value["apiVersion"], "time": time}
            entry |= {"fieldsType": "FieldsV1", "fieldsV1": to_v1(paths)}
            entries.append(entry | ({"subresource": subresource} if subresource else {}))
    value["metadata"]["managedFields"] = entries


def own(value: dict[str, Any], schema: dict[str, Any]) -> set[Path]:
    """The paths of an object that can have an owner."""
    return {path for path in fields(value, schema) if path[:2] not in NOT_OWNED and path[:1] not in NOT_OWNED}


def apply(live: dict[str, Any] | None, applied: dict[str, Any], manager: str, force: bool, now: str) -> dict[str, Any]:
    """The object after `manager` applied this; fields that it applied before and omits now are removed, unless another owns them.

    Raises ApiError 409 when another manager owns a field that would change, unless `force`.
    """
    schema = of_kind(applied["apiVersion"], applied["kind"])
    me = (manager, "Apply", "")
    held, named = owners(live), own(applied, schema)
    before = held.pop(me, set())
    if not force:
        _refuse_conflicts(live, applied, named, held, schema)
    held = {owner: _without(paths, live, applied, named, schema) for owner, paths in held.items()}
    merged = merge(live or {}, applied, schema)
    gone = {path for path in before - named if not _held_by_others(path, held, named)}
    merged = remove(merged, gone, schema) if gone else deepcopy(merged)
    merged.setdefault("metadata", {})
    times = {owner: time for owner, time in _times(live).items() if owner != me or before == named}
    record(merged, held | {me: named}, times, now)
    return merged


def _held_by_others(path: Path, held: Owners, named: set[Path]) -> bool:
    """Whether another manager (or the applied object) has this path, or one below it."""
    return any(other[: len(path)] == path for paths in (*held.values(), named) for other in paths)


def _times(live: dict[str, Any] | None) -> dict[Owner, str]:
    listed = (live or {}).get("metadata", {}).get("managedFields", [])
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["time"] for e in listed}


def _changes(live: dict[str, Any] | None, applied: dict[str, Any], path: Path, schema: dict[str, Any]) -> bool:
    """Whether applying changes the value at a path."""
    if path and path[-1].startswith("k:"):
        return False  # a list item: its fields are compared one by one
    try:
        return get(live or {}, path, schema) != get(applied, path, schema)
    except (KeyError, TypeError):
        return True


def _without(paths: set[Path], live, applied, named: set[Path], schema) -> set[Path]:
    return {path for path in paths if path not in named or not _changes(live, applied, path, schema)}


def _refuse_conflicts(live, applied, named: set[Path], held: Owners, schema) -> None:
    found = []
    for (manager, _, subresource), paths in held.items():
        for path in sorted(paths & named):
            if _changes(live, applied, path, schema):
                with_sub = f' with subresource "{subresource}"' if subresource else ""
                found.append((shown(path), f'conflict with "{manager}"{with_sub} using {applied["apiVersion"]}'))
    if not found:
        return
    count = "1 conflict" if len(found) == 1 else f"{len(found)} conflicts"
    said = f"{found[0][1]}: {found[0][0]}" if len(found) == 1 else _many(found)
    causes = [{"reason": "FieldManagerConflict", "message": what, "field": field} for field, what in found]
    raise ApiError(409, "Conflict", f"Apply failed with {count}: {said}", {"causes": causes})


def _many(found: list[tuple[str, str]]) -> str:
    lines: list[str] = []
    for what in dict.fromkeys(what for _, what in found):
        lines += [
            f"conflicts{what.removeprefix('conflict')}:",
            *(f"- {field}" for field, said in found if said == what),
        ]
    return "\n".join(lines)


def updated(live: dict[str, Any] | None, value: dict[str, Any], manager: str, subresource: str, now: str) -> None:
    """Record that a manager wrote `value` over `live` without apply: it owns what it changed."""
    schema = of_kind(value["apiVersion"], value["kind"])
    after = own(value, schema)
    changed = {path for path in after if _differs(live, value, path, schema)}
    held = {owner: (paths & after) - changed for owner, paths in owners(live).items()}
    me = (manager, "Update", subresource)
    if changed:
        held[me] = held.get(me, set()) | changed
    record(value, held, {owner: time for owner, time in _times(live).items() if owner != me or not changed}, now)


def _differs(live: dict[str, Any] | None, value: dict[str, Any], path: Path, schema: dict[str, Any]) -> bool:
    try:
        old = get(live or {}, path, schema)
    except (KeyError, TypeError):
        return True
    return not path[-1].startswith("k:") and old != get(value, path, schema)
