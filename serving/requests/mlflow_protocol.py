"""MLflow's scoring protocol: what a client of `mlflow models serve` sends is taken as it is.

JSON with one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`, or CSV with a line of names. As there,
columns may come in any order, those that the model does not know are left out, and a class is answered by its number.
https://mlflow.org/docs/latest/deployment/deploy-model-locally
"""

import csv
import io
import re
from typing import Any

from serving.model.contract import Contract
from serving.model.features import Input, shown
from serving.model.rows import Fault, Row, RowError, read_rows
from serving.problems import Problem
from serving.requests.body import LARGEST_BATCH, check_batch, check_number, parse_json
from serving.requests.other_forms import FORMS

# No two parts can take the same digits: a number of many digits that ends in a letter must not be tried at each of them.
NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d{1,3})?")
EMPTY = {"", "na", "n/a", "nan", "null", "none"}  # as pandas reads a CSV


def read_invocation(contract: Contract, raw: bytes, content_type: str) -> list[Row]:
    """The rows of a body; raises Problem 400, 415 or 422, or RowError."""
    kind = content_type.split(";")[0].strip().lower()
    if kind in ("text/csv", "application/csv"):
        rows = _csv(contract, raw)
    elif kind in ("", "application/json"):
        rows = _json(contract, parse_json(raw))
    else:
        raise Problem(415, f"{kind[:60]!r} is not read here; send application/json or text/csv")
    check_batch(rows)
    return read_rows(contract, rows)


def _json(contract: Contract, body: Any) -> list[Any]:
    if not isinstance(body, dict) or len(given := [form for form in FORMS if form in body]) != 1:
        raise Problem(422, f"the body must be an object with one of {', '.join(FORMS)}")
    if unknown := body.keys() - {*FORMS, "params"}:
        raise Problem(422, f"the body has an unknown field {shown(min(unknown))}")
    if given == ["dataframe_split"]:
        return _split(contract, body["dataframe_split"])
    if given == ["dataframe_records"] and not isinstance(body["dataframe_records"], list):
        raise Problem(422, f"dataframe_records must be a list of objects, not {shown(body['dataframe_records'])}")
    return _tensor(contract, body[given[0]], given[0])


def _split(contract: Contract, frame: Any) -> list[Any]:
    """{"columns": […], "data": [[…]]}; without columns a row is in the contract's order."""
    data = frame.get("data") if isinstance(frame, dict) else None
    if not isinstance(data, list):
        raise Problem(422, 'dataframe_split must be an object like {"columns": […], "data": [[…], …]}')
    columns = frame.get("columns")
    if columns is None:
        return data
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise Problem(422, "dataframe_split: columns must be a list of names")
    if len(set(columns)) < len(columns):
        raise Problem(422, "dataframe_split: a name stands in columns twice")
    check_batch(data)  # before anything is made of the rows
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise Problem(422, f"dataframe_split: row {number} must be a list of {len(columns)} values, as columns has")
    return [_known(contract, dict(zip(columns, row, strict=True))) for row in data]


def _tensor(contract: Contract, given: Any, form: str) -> list[Any]:
    """Rows as objects or lists, or one list for each name."""
    if isinstance(given, dict):
        columns = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
        lengths = {len(values) for values in columns.values()}
        if len(lengths) != 1:
            raise Problem(422, f"{form}: each name must have a list of the same length")
        check_batch(next(iter(columns.values())))
        return [_known(contract, dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    if not isinstance(given, list):
        raise Problem(422, f"{form} must be a list of rows, not {shown(given)}")
    check_batch(given)
    if len(contract.inputs) == 1:
        given = [row if isinstance(row, dict | list) else [row] for row in given]
    return [_known(contract, row) if isinstance(row, dict) else row for row in given]


def _known(contract: Contract, row: dict[str, Any]) -> dict[str, Any]:
    """What the model knows of a row; a feature that may be empty may also be left out."""
    known = {name: row[name] for name in contract.names if name in row}
    return {column.name: None for column in contract.inputs if column.nullable} | known


def _csv(contract: Contract, raw: bytes) -> list[Any]:
    try:
        lines, number = [], 0
        for line in csv.reader(io.StringIO(raw.decode("utf-8-sig")), strict=True):
            number += bool(line)
            if line and number <= LARGEST_BATCH + 1:  # more are counted, not kept
                lines.append(line)
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not CSV: byte {error.start} is not UTF-8") from None
    except csv.Error as error:
        raise Problem(400, f"the body is not CSV: {error}") from None
    if not lines:
        raise Problem(422, "the body has no line of names")
    head, *body = lines
    if len(set(head)) < len(head):
        raise Problem(422, "a name stands in the first line twice")
    check_number(number - 1)
    columns = [
        (place, contract.inputs[contract.names[name]]) for place, name in enumerate(head) if name in contract.names
    ]
    rows = []
    for number, line in enumerate(body):
        if len(line) != len(head):
            raise RowError(
                [Fault(None, f"row {number}: {len(line)} values were given, the first line has {len(head)}", number)]
            )
        rows.append(_known(contract, {column.name: _cell(line[place], column) for place, column in columns}))
    return rows


def _cell(text: str, column: Input) -> Any:
    """A value of a CSV; what cannot be read stays a text, which the contract then refuses by name."""
    if column.type == "text":
        return text or None if column.nullable else text
    bare = text.strip().lower()
    if bare in EMPTY:
        return None
    if column.type == "boolean" and bare in ("true", "false"):
        return bare == "true"
    return float(bare) if NUMBER.fullmatch(bare) else text
