"""Label selectors and field selectors."""

import re
from typing import Any

from cluster_status import bad_request

Labels = dict[str, str]


def matches(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """Whether labels match a LabelSelector object (matchLabels, matchExpressions)."""
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_expression(one, labels) for one in selector.get("matchExpressions") or [])


def _expression(one: dict[str, Any], labels: Labels) -> bool:
    present, value = one["key"] in labels, labels.get(one["key"])
    fits = {
        "In": value in one.get("values", []),
        "NotIn": value not in one.get("values", []),
        "Exists": present,
        "DoesNotExist": not present,
    }
    return fits[one["operator"]]


def parse_labels(text: str) -> dict[str, Any]:
    """The LabelSelector object of a query's labelSelector: a=b, a!=b, a in (b,c), a, !a."""
    expressions = [_parse(part.strip()) for part in re.split(r",(?![^(]*\))", text) if part.strip()]
    return {"matchExpressions": expressions}


def _parse(part: str) -> dict[str, Any]:
    if found := re.fullmatch(r"([\w./-]+)\s+(in|notin)\s*\(([^)]*)\)", part):
        key, operator, values = found.groups()
        listed = [value.strip() for value in values.split(",")]
        return {"key": key, "operator": "In" if operator == "in" else "NotIn", "values": listed}
    if found := re.fullmatch(r"([\w./-]+)\s*(!=|==|=)\s*([\w.-]*)", part):
        key, operator, value = found.groups()
        return {"key": key, "operator": "NotIn" if operator == "!=" else "In", "values": [value]}
    if found := re.fullmatch(r"(!?)\s*([\w./-]+)", part):
        return {"key": found.group(2), "operator": "DoesNotExist" if found.group(1) else "Exists"}
    raise bad_request(f"unable to parse requirement: found '{part}'")


def parse_fields(text: str) -> list[tuple[list[str], bool, str]]:
    """A query's fieldSelector as (path, whether it must be equal, value)."""
    found = []
    for part in filter(None, text.split(",")):
        name, unequal, value = re.fullmatch(r"([^!=]+)(!?)==?(.*)", part).groups()  # type: ignore[union-attr]
        found.append((name.split("."), not unequal, value))
    return found


def fields_match(wanted: list[tuple[list[str], bool, str]], value: dict[str, Any]) -> bool:
    """Whether an object matches all of these fields."""
    return all((_field(value, path) == text) == equal for path, equal, text in wanted)


def _field(value: Any, path: list[str]) -> str:
    for step in path:
        value = value.get(step, "") if isinstance(value, dict) else ""
    return str(value)
