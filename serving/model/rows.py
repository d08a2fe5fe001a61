"""Rows from clients, converted to the values that the model takes."""

import difflib
import heapq
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serving.model.contract import Contract
from serving.model.features import shown

Row = Sequence[float | str | None]  # checked, in contract order
MANY = 10  # faults reported at once; more would make the response larger than the request
COPIED = 500  # rows converted to numbers at once
COMPARED = 100  # names compared to find the nearest; each takes about 20 µs


@dataclass(frozen=True)
class Fault:
    """What is wrong with one feature of one row; `row` counts from 0 and is set for batches only."""

    feature: str | None
    detail: str
    row: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that are set."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class RowError(Exception):
    """A row breaks the contract."""

    def __init__(self, faults: list[Fault]):
        super().__init__(faults[0].detail)
        self.faults = faults


def read_row(contract: Contract, features: Any) -> Row:
    """Convert one row, a list in contract order or {name: value}; raises RowError naming each wrong feature."""
    if isinstance(features, list):
        values = _listed(contract, features)
    elif isinstance(features, dict):
        values = _named(contract, features)
    else:
        raise RowError([Fault(None, f"a row is a list or an object of features, not {shown(features)}")])
    row: list[float | str] = []
    faults = []
    for column, value in zip(contract.inputs, values, strict=True):
        try:
            row.append(column.read(value, contract.largest))
        except ValueError as error:
            faults.append(Fault(column.name, f"feature {column.name!r}: {error}"))
    if faults:
        raise RowError(faults[:MANY])
    return row


def read_rows(contract: Contract, batch: list[Any]) -> list[Row]:
    """Convert many rows; raises RowError for the first row that breaks the contract."""
    rows: list[Row] = []
    for number, features in enumerate(batch):
        try:
            rows.append(read_row(contract, features))
        except RowError as error:
            raise RowError([Fault(f.feature, f"row {number}: {f.detail}", number) for f in error.faults]) from None
    return rows


def matrix(rows: Sequence[Row], dtype: str) -> np.ndarray:
    """The rows as an array (rows, columns). Many are copied in pieces, because numpy holds the GIL while it reads lists."""
    if len(rows) <= COPIED:
        return np.array(rows, dtype)
    filled = np.empty((len(rows), len(rows[0])), dtype)
    for start in range(0, len(rows), COPIED):
        filled[start : start + COPIED] = rows[start : start + COPIED]
    return filled


def _listed(contract: Contract, features: list[Any]) -> list[Any]:
    given, needed = len(features), len(contract.inputs)
    if given < needed:
        name = contract.inputs[given].name
        raise RowError([Fault(name, f"{given} values were given, {needed} are needed: feature {name!r} is missing")])
    if given > needed:
        name = contract.inputs[-1].name
        raise RowError([Fault(name, f"{given} values were given, {needed} are needed: feature {name!r} is the last")])
    return features


def _named(contract: Contract, features: dict[str, Any]) -> list[Any]:
    missing = [name for name in contract.names if name not in features]
    faults = [Fault(name, f"feature {name!r} is missing") for name in missing]
    if len(features) + len(missing) > len(contract.names):
        unknown = [name for name in features if name not in contract.names][:MANY]
        faults += [
            Fault(name[:100], _unknown(name[:100], missing or list(contract.names), COMPARED // len(unknown)))
            for name in unknown
        ]
    if faults:
        raise RowError(faults[:MANY])
    return [features[name] for name in contract.names]


def _unknown(name: str, names: list[str], most: int) -> str:
    """The message for an unknown name, suggesting the nearest of at most `most` of these names."""
    candidates = heapq.nsmallest(most, names, key=lambda other: abs(len(other) - len(name)))
    near = difflib.get_close_matches(name, candidates, n=1)
    return f"feature {name!r} is unknown" + (f"; did you mean {near[0]!r}?" if near else "")
