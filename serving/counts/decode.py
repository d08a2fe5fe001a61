"""Logged requests as columns: what was asked, and what was answered, for many requests at once."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from serving.counts.records import MODEL
from serving.model.contract import Contract

_numbers = msgspec.json.Decoder(list[list[float]])
_values = msgspec.json.Decoder(list[list[float | bool | str | None]])
Columns = list[
    np.ndarray | list[str]
]  # one per input of the contract: numbers (n,), NaN where empty, or texts, "" where empty


class _Answer(msgspec.Struct, gc=False):
    probabilities: dict[str, float] | None = None
    value: float | None = None
    rule: str | None = None


_answers = msgspec.json.Decoder(list[_Answer])


class Unreadable(Exception):
    """A logged request does not fit the contract of its version."""


def features(contract: Contract, requests: Sequence[bytes]) -> Columns:
    """The rows of the requests, each a JSON list of rows; raises Unreadable."""
    text = [column.type == "text" for column in contract.inputs]
    raw = _joined(requests)
    try:
        if not any(text):
            try:
                return list(_matrix(_numbers.decode(raw), len(text)).T)
            except msgspec.ValidationError:  # null, true and false
                return list(_matrix(_values.decode(raw), len(text)).T)
        rows = _values.decode(raw)
        if any(len(row) != len(text) for row in rows):
            raise ValueError("rows of another length")
        columns: list[Any] = list(map(list, zip(*rows, strict=True))) if rows else [[] for _ in text]
        return [_texts(column) if kind else _floats(column) for kind, column in zip(text, columns, strict=True)]
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise Unreadable(str(error)) from None


def answers(contract: Contract, requests: Sequence[bytes]) -> np.ndarray:
    """The answers to the requests, each a JSON list: probabilities (n, k) in the contract's order, or values (n,); raises Unreadable."""
    classes = contract.classes
    try:
        found = _answers.decode(_joined(requests))
        if not classes:
            return np.array([float(one.value) for one in found], dtype=np.float64)  # type: ignore[arg-type]
        return _matrix([[(one.probabilities or {})[name] for name in classes] for one in found], len(classes))
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        raise Unreadable(str(error)) from None


def deciders(requests: Sequence[bytes]) -> list[str]:
    """What decided each row of the answers, each a JSON list that can be read: a rule by its name, or the model."""
    return [one.rule or MODEL for one in _answers.decode(_joined(requests))]


def _joined(requests: Sequence[bytes]) -> bytes:
    """Lists in JSON as one list."""
    return b"[%b]" % b",".join(inner for one in requests if (inner := one.strip()[1:-1].strip()))


def _matrix(rows: Sequence[Sequence[Any]], width: int) -> np.ndarray:
    found = np.array(rows, dtype=np.float64).reshape(len(rows), -1 if rows else width)
    if found.shape[1] != width:
        raise ValueError("rows of another length")
    return found


def _floats(column: list[Any]) -> np.ndarray:
    if any(isinstance(value, str) for value in column):
        raise ValueError("a text where a number belongs")
    return np.array(column, dtype=np.float64)


def _texts(column: list[Any]) -> list[str]:
    if any(not isinstance(value, str | None) for value in column):
        raise ValueError("a number where a text belongs")
    return [value or "" for value in column]
