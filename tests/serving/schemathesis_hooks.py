"""Hooks for schemathesis: rules that JSON Schema cannot express. BUNDLE names the served bundle."""

import csv
import io
import json
import math
import os
import random
from pathlib import Path

import schemathesis

CONTRACT = json.loads((Path(os.environ["BUNDLE"]) / "contract.json").read_text(encoding="utf-8"))


@schemathesis.serializer("text/csv")
def _csv_as_it_is(context, value):
    return str(value).encode()


@schemathesis.hook("map_case").apply_to(path="/invocations")
def what_the_words_say(context, case):
    """Make text bodies real CSV, and cut columns of different lengths to the shortest."""
    if case.media_type == "text/csv":
        if case.meta.generation.mode.is_positive:
            case.body = _csv(random.Random(str(case.body)))
        return case
    for form in ("instances", "inputs"):
        columns = case.body.get(form) if isinstance(case.body, dict) else None
        if isinstance(columns, dict) and columns:
            shortest = min(len(values) if isinstance(values, list) else 1 for values in columns.values())
            if shortest:
                short = {name: v[:shortest] if isinstance(v, list) else v for name, v in columns.items()}
                case.body = {**case.body, form: short}
    return case


@schemathesis.hook("map_case")
def beyond_what_a_double_can_tell(context, case):
    """Increase a number that exceeds a limit by less than a double's precision, such as 2**1024 - 2**970 + 1, by a hundredth.

    The service reads JSON's numbers as doubles (RFC 8259, 6), and as a double such a number is within the limit.
    """
    if case.meta.generation.mode.is_negative:
        case.body = _told_apart(case.body)
    return case


def _told_apart(value):
    if isinstance(value, dict):
        return {key: _told_apart(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_told_apart(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return value + value // 100
    return value


def _csv(rng):
    """A CSV with its columns in any order, sometimes with an unknown column."""
    columns = {column["name"]: column for column in CONTRACT["inputs"]} | {"unknown": None}
    names = rng.sample(list(columns), len(columns) - (rng.random() < 0.5))
    names += columns.keys() - {"unknown"} - set(names)
    lines = io.StringIO()
    rows = [[_cell(rng, columns[name]) for name in names] for _ in range(rng.randint(1, 5))]
    csv.writer(lines).writerows([names, *rows])
    return lines.getvalue()


def _cell(rng, column):
    """A valid value for a cell."""
    if column is None or (column["nullable"] and rng.random() < 0.2):
        return ""
    if column["values"]:
        return rng.choice(column["values"])
    if column["type"] == "text":
        return "".join(chr(rng.choice([*range(32, 127), 228, 8364, 0x1F600])) for _ in range(rng.randint(1, 20)))
    if column["type"] == "boolean":
        return rng.choice(["true", "False", "0", "1"])
    low = -1e38 if column["minimum"] is None else column["minimum"]
    high = 1e38 if column["maximum"] is None else column["maximum"]
    if (above := column.get("exclusive_minimum")) is not None:
        low = max(low, math.nextafter(above, math.inf))
    if (below := column.get("exclusive_maximum")) is not None:
        high = min(high, math.nextafter(below, -math.inf))
    if column["type"] == "integer":
        return rng.randint(int(low), int(high))
    return rng.choice([low, high, rng.uniform(low, high), rng.uniform(max(low, -100), min(high, 100))])
