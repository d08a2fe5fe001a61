"""Bodies of prediction requests, read in one pass by msgspec, with types made from the contract.

What these types take is right, and it is most of what ever comes. What they refuse is read once more, slowly, by `body` and
`rows`, which have the words for every fault, and take a few spellings beyond these types (1 for true, 3.0 for 3).
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.model.contract import Contract
from serving.model.rows import Fault, Row, RowError, read_row, read_rows
from serving.requests import other_forms
from serving.requests.body import (
    EXPLAIN,
    LARGEST_BATCH,
    LONGEST_SUBJECT,
    Body,
    ExplanationAsked,
    check_batch,
    check_number,
    limits,
    parse_body,
)
from serving.requests.mlflow_protocol import read_invocation
from serving.requests.other_forms import FORMS
from serving.requests.request_ids import RequestId

REFUSED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
PIECE = 32_768  # bytes of rows that are read in one go; while msgspec reads, no other thread runs
AROUND = 131_072  # bytes that may stand before the rows of a large body, or after them

# The beginnings of large bodies up to their rows. What begins otherwise is read with care, which is right but takes longer.
_STRING = rb'"[^"\\]*"'
_FLAT = rb"\[[^\[\]]*\]"
_BATCH = re.compile(
    rb'\s*\{\s*(?:"(?:request_id|subject)"\s*:\s*(?:' + _STRING + rb'|null)\s*,\s*)*"features"\s*:\s*\['
)
_PROTOCOL = re.compile(
    rb'\s*\{\s*"(?:(?:dataframe_records|instances|inputs)"\s*:\s*'
    rb'|dataframe_split"\s*:\s*\{\s*(?:"(?:columns|index)"\s*:\s*' + _FLAT + rb'\s*,\s*)*"data"\s*:\s*)\['
)
_BETWEEN_ROWS = re.compile(rb"[\]}]\s*,\s*(?=[\[{])")


class Named(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row given by name; each contract makes a class of its own from it."""


_NONE = msgspec.Raw()
_Subject = Annotated[str, Meta(min_length=1, max_length=LONGEST_SUBJECT, examples=["customer-4711"])]
_ABOUT_ID = Meta(description="Comes back in the answer and its header; feedback names the request by it.")
_ABOUT_SUBJECT = Meta(
    description="Whom the rows are about. Only a hash of it is kept, so that the records can be deleted."
)
_ABOUT_EXPLAIN = Meta(description="Whether to say what each feature added to the answer; it takes longer.")


class _Split(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    columns: list[str]
    data: msgspec.Raw
    index: msgspec.Raw = _NONE


class _Invocation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    dataframe_split: _Split | None = None
    dataframe_records: msgspec.Raw = _NONE
    instances: msgspec.Raw = _NONE
    inputs: msgspec.Raw = _NONE


class Decoder:
    """Reads bodies of one row and of many."""

    def __init__(self, contract: Contract):
        self._contract, self._names = contract, list(contract.names)
        # Places of texts that may be null, which the model takes as "".
        self._texts = [n for n, column in enumerate(contract.inputs) if column.nullable and column.type == "text"]
        listed, named = row_types(contract)
        self._one = msgspec.json.Decoder(request_type("Request", listed | named))
        self._many = msgspec.json.Decoder(request_type("Batch", msgspec.Raw))
        self._listed = msgspec.json.Decoder(list[listed])  # type: ignore[valid-type]  # made at run time
        self._invocation = msgspec.json.Decoder(_Invocation)
        self._any = msgspec.json.Decoder(list[listed | named])  # type: ignore[valid-type]
        self._longest = limits(contract)["/predict"].largest  # bytes of a row

    def one(self, raw: bytes) -> Any:
        """The body of a request for one row: its `features` and its `request_id` or None.

        Raises Problem 400 or 422, or ExplanationAsked: the types do not know its field, so that no other request waits for a look at it.
        """
        try:
            return self._one.decode(raw)
        except REFUSED:
            body = parse_body(raw, self._contract.names, one=True)
        if body.explain:
            raise ExplanationAsked(body, raw)
        return body

    def written(self, body: Any, raw: bytes) -> bytes:
        """The row of a body from `one` as its caller wrote it, as a JSON list of one; b"" where that cannot be told at a glance."""
        if type(body.features) is not tuple or self._texts or body.request_id is not None or body.subject is not None:
            return b""
        if raw.count(b"[") != 1 or raw.count(b"]") != 1:  # a key that stands twice, or a text that holds one
            return b""
        return b"[%b]" % raw[raw.index(b"[") : raw.index(b"]") + 1]

    def many(self, raw: bytes) -> Body:
        """The body of a request for a batch; the number of its rows is checked. Raises Problem 400 or 422."""
        try:
            around, start, end = _rows_within(raw, _BATCH)
            request = self._many.decode(_text(around))
            rows, written = self._read(request.features) if around is raw else self._read_pieces(raw, start, end)
            body = Body(rows, request.request_id, request.subject, True, written)
        except REFUSED:
            body = parse_body(raw, self._contract.names)
            other_forms.check_many(body.features)
        check_batch(body.features)
        return body

    def invocation(self, raw: bytes, content_type: str) -> tuple[Sequence[Row], bytes]:
        """The rows of a request of MLflow's protocol, and as the caller wrote them where nothing about them changes.

        Raises Problem 400, 415 or 422, or RowError.
        """
        if content_type == "application/json":
            with contextlib.suppress(*REFUSED):
                around, start, end = _rows_within(raw, _PROTOCOL)
                found = self._rows_of(self._invocation.decode(_text(around)))
                rows, written = self._read(found) if around is raw else self._read_pieces(raw, start, end)
                check_batch(rows)
                return rows, written
        return read_invocation(self._contract, raw, content_type), b""

    def _rows_of(self, body: "_Invocation") -> msgspec.Raw:
        """The rows of the one form that a body has, which are in the contract's order; raises ValidationError."""
        given = [form for form in (getattr(body, name) for name in FORMS) if form is not None and form is not _NONE]
        if len(given) == 1:
            if isinstance(given[0], msgspec.Raw):
                return given[0]
            if given[0].columns == self._names:
                return given[0].data
        raise msgspec.ValidationError

    def _read(self, written: msgspec.Raw) -> tuple[Sequence[Row], bytes]:
        try:
            rows = self._listed.decode(written)
        except msgspec.ValidationError:
            rows = self._any.decode(written)
        else:
            if not self._texts:
                return rows, bytes(written)
        return [self._plain(features) for features in rows], b""

    def _read_pieces(self, raw: bytes, start: int, end: int) -> tuple[Sequence[Row], bytes]:
        """The same for the rows between two places of a large body, a piece at a time."""
        rows: list[Row] = []
        number, decoder = 0, self._listed
        for piece in _pieces(raw, start, end, self._longest):
            try:
                read: Sequence[Any] = decoder.decode(_text(piece))
            except msgspec.ValidationError:
                decoder = self._any
                read = decoder.decode(piece)
            number += len(read)
            if number <= LARGEST_BATCH:  # more are counted, not kept
                rows += read if decoder is self._listed and not self._texts else map(self._plain, read)
        check_number(number)
        return rows, b"[%b]" % raw[start:end] if decoder is self._listed and not self._texts else b""

    def row(self, body: Any) -> Row:
        """The row of a body from `one`; raises RowError naming each wrong feature."""
        features = body.features
        if type(features) is tuple and not self._texts:
            return features
        if type(body) is Body:
            other_forms.check_one(features)
            return read_row(self._contract, features)
        return self._plain(features)

    def rows(self, body: Body) -> Sequence[Row]:
        """The rows of a body from `many`; raises RowError for the first row that breaks the contract."""
        return body.features if body.checked else read_rows(self._contract, body.features)

    def logged(self, features: bytes) -> Sequence[Row]:
        """The rows of a record of the prediction log, as the model got them.

        Raises RowError where they are no rows that this contract takes: those of a model with other inputs, or damaged ones.
        """
        try:
            rows: Sequence[Any] = self._listed.decode(features)
        except REFUSED:
            return read_rows(self._contract, _parsed(features))
        return [self._plain(row) for row in rows] if self._texts else rows

    def _plain(self, features: Any) -> Row:
        row = features if type(features) is tuple else msgspec.structs.astuple(features)
        nulls = [place for place in self._texts if row[place] is None]
        return tuple("" if place in nulls else value for place, value in enumerate(row)) if nulls else row


def contract_fault(raw: bytes) -> str:
    """Why no service can be made from this contract.json, or "": for whoever writes one, before it becomes a bundle."""
    try:
        Decoder(msgspec.json.decode(raw, type=Contract))
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        return str(error).partition(" - at `$")[0]
    return ""


def _parsed(features: bytes) -> list[Any]:
    """What a record holds in place of rows in the usual form; raises RowError when it is no list."""
    try:
        return msgspec.json.decode(features, type=list)
    except REFUSED as error:
        raise RowError([Fault(None, f"the logged features are no list of rows: {error}")]) from error


def _rows_within(raw: bytes, beginning: re.Pattern[bytes]) -> tuple[bytes, int, int]:
    """What stands around the rows of a large body, with an empty list in their place, and where they begin and end.

    A body that is not large is given as it is. Raises DecodeError for a large one that begins otherwise.
    """
    if len(raw) <= PIECE:
        return raw, 0, 0
    found, end = beginning.match(raw, 0, AROUND), raw.rfind(b"]")
    if found is None or end < found.end() or len(raw) - end > AROUND:
        raise msgspec.DecodeError
    return raw[: found.end()] + raw[end:], found.end(), end


def _pieces(raw: bytes, start: int, end: int, longest: int) -> Iterator[bytes]:
    """The rows between two places as JSON lists of about PIECE bytes; raises DecodeError when no row of `longest` ends.

    They are cut where a row seems to end. That may be within a text: then a piece is no JSON, or not of rows. If all pieces
    are lists of rows, so is the whole, with the same rows.
    """
    while start < end:
        cut = None
        if start + PIECE < end:
            cut = _BETWEEN_ROWS.search(raw, start + PIECE, min(end, start + PIECE + longest))
            if cut is None and end - start > PIECE + longest:
                raise msgspec.DecodeError
        yield b"[%b]" % raw[start : cut.start() + 1 if cut else end]
        start = cut.end() if cut else end


def _text(raw: bytes) -> bytes:
    """The same, when it is UTF-8 everywhere: a key that stands twice is read only where it stands last."""
    if not raw.isascii():
        raw.decode()
    return raw


def request_type(name: str, features: Any, explain: bool = False) -> Any:
    """The type of a body, called so, whose `features` are of this type; the document says where it may ask for an explanation."""
    fields: list[tuple[str, Any, Any]] = [
        ("features", features, msgspec.NODEFAULT),
        ("request_id", Annotated[RequestId | None, _ABOUT_ID], None),
        ("subject", Annotated[_Subject | None, _ABOUT_SUBJECT], None),
        *([(EXPLAIN, Annotated[bool, _ABOUT_EXPLAIN], False)] if explain else []),
    ]
    return msgspec.defstruct(name, fields, gc=False, forbid_unknown_fields=True)


def row_types(contract: Contract) -> tuple[Any, Any]:
    """The types of a row as a list in contract order and by name."""
    kinds = [column.kind(contract.largest) for column in contract.inputs]
    fields = [
        (f"f{number}", kind, msgspec.field(name=column.name))
        for number, (kind, column) in enumerate(zip(kinds, contract.inputs, strict=True))
    ]
    named = msgspec.defstruct("Features", fields, bases=(Named,), gc=False, forbid_unknown_fields=True)
    return tuple[tuple(kinds)], named  # type: ignore[misc]
