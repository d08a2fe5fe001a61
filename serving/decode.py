"""Bodies of prediction requests, read in one pass by msgspec, with types made from the contract.

What these types take is right, and it is most of what ever comes. What they refuse is read once more, slowly, by `body` and
`rows`, which have the words for every fault, and take a few spellings beyond these types (1 for true, 3.0 for 3).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serving.body import LONGEST_SUBJECT, REQUEST_ID, Body, check_batch, parse_body
from serving.contract import Contract, Input
from serving.rows import Row, read_row, read_rows

REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Named(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row given by name; each contract makes a class of its own from it."""


class Decoder:
    """Reads bodies of one row and of many."""

    def __init__(self, contract: Contract):
        self._contract = contract
        self._texts = any(column.nullable and column.type == "text" for column in contract.inputs)
        row = _row(contract)
        self._one = _decoder(row)
        self._many = _decoder(list[row])  # type: ignore[valid-type]  # made at run time

    def one(self, raw: bytes) -> Any:
        """The body of a request for one row: its `features` and its `request_id` or None; raises Problem 400 or 422."""
        try:
            return self._one.decode(raw)
        except REFUSED:
            return parse_body(raw)

    def many(self, raw: bytes) -> Any:
        """The same for a batch; the number of its rows is checked."""
        try:
            body = self._many.decode(raw)
        except REFUSED:
            body = parse_body(raw)
        check_batch(body.features)
        return body

    def row(self, body: Any) -> Row:
        """The row of a body from `one`; raises RowError naming each wrong feature."""
        if type(body) is Body:
            return read_row(self._contract, body.features)
        return self._plain(body.features)

    def rows(self, body: Any) -> list[Row]:
        """The rows of a body from `many`; raises RowError for the first row that breaks the contract."""
        if type(body) is Body:
            return read_rows(self._contract, body.features)
        return [self._plain(features) for features in body.features]

    def _plain(self, features: Any) -> Row:
        row = msgspec.structs.astuple(features) if isinstance(features, Named) else features
        if self._texts:
            texts = (column.type == "text" for column in self._contract.inputs)
            return ["" if value is None and text else value for value, text in zip(row, texts, strict=True)]
        return row


def _decoder(features: Any) -> msgspec.json.Decoder:
    name = Annotated[str, Meta(pattern=rf"\A{REQUEST_ID}\Z")]
    subject = Annotated[str, Meta(min_length=1, max_length=LONGEST_SUBJECT)]
    fields: list[tuple[str, Any, Any]] = [
        ("features", features, msgspec.NODEFAULT),
        ("request_id", name | None, None),
        ("subject", subject | None, None),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Request", fields, gc=False, forbid_unknown_fields=True))


def _row(contract: Contract) -> Any:
    """A row as a list in contract order or by name."""
    kinds = [_kind(column, contract.largest) for column in contract.inputs]
    fields = [
        (f"f{number}", kind, msgspec.field(name=column.name))
        for number, (kind, column) in enumerate(zip(kinds, contract.inputs, strict=True))
    ]
    named = msgspec.defstruct("Row", fields, bases=(Named,), gc=False, forbid_unknown_fields=True)
    return tuple[tuple(kinds)] | named  # type: ignore[misc]


def _kind(column: Input, largest: float) -> Any:
    """A type that takes nothing that the contract refuses; null is left to the model's dtype as NaN."""
    if column.values is not None:
        kind: Any = _one_of(column)
    elif column.type == "text":
        kind = str
    elif column.type == "boolean":
        kind = bool
    else:
        low = -largest if column.minimum is None else max(column.minimum, -largest)
        high = largest if column.maximum is None else min(column.maximum, largest)
        kind = Annotated[float, Meta(ge=low, le=high, multiple_of=1.0 if column.type == "integer" else None)]
    return kind | None if column.nullable else kind


def _one_of(column: Input) -> Any:
    """The listed values; other numbers than whole ones cannot be listed in a type: such a body is always read slowly."""
    values = [value for value in column.values or [] if value is not None]
    if values and all(isinstance(value, str) for value in values):
        return Literal[tuple(values)]
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return Literal[tuple(values)]
    return Literal["\0 never"]
