"""Rows that production answered, answered again by another model as the service would run it.

Rows are read one after the other and asked some thousands at a time, so memory does not grow with the log.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from pipeline.errors import PortabilityError
from pipeline.formats import choose
from pipeline.settings import Settings
from serving.model.contract import Contract
from serving.requests.decoder import Decoder, Row, RowError

TOGETHER = 20_000  # rows that are asked together
MOST_EXAMPLES = 20  # rows with the largest differences that are kept by name, of each stretch of the log
LONGEST = 60  # characters of a text by which rows are sliced
NO_ANSWER = "no finite answer"


class Told(msgspec.Struct, frozen=True):
    """An outcome in a line of the export."""

    row: int
    outcome: Any
    time: datetime


class Answer(msgspec.Struct, frozen=True):
    """An answer in a line of the export: the probabilities of all classes, or a value."""

    probabilities: dict[str, float] | None = None
    value: float | None = None


class Line(msgspec.Struct, frozen=True):
    """A request in a line of the export, as far as it is read."""

    request_id: str
    time: datetime
    role: str
    rows: int
    subject: str | None
    features: msgspec.Raw
    answers: list[Answer]
    model: str
    model_version: str
    outcomes: list[Told]


@dataclass(frozen=True)
class Challenger:
    """The model that is asked: what people call it, its contract, also as JSON has it, and the files of its bundle."""

    label: str
    digest: str
    contract: Contract
    plain: dict[str, Any]
    files: Mapping[str, bytes]


class Example(msgspec.Struct, frozen=True):
    """A row by name, and where it stands among the rows."""

    place: int
    request_id: str
    row: int


class Counts(msgspec.Struct):
    """What became of the rows that are not compared: by reason, and by the feature for which the other model refuses them."""

    left_out: dict[str, int] = {}
    refused: dict[str, int] = {}
    not_drawn: int = 0

    def leave_out(self, why: str, rows: int) -> None:
        """Count rows that cannot be asked."""
        self.left_out[why] = self.left_out.get(why, 0) + rows

    def refuse(self, why: str, rows: int = 1) -> None:
        """Count rows that the other model does not take, or has no answer to."""
        self.refused[why] = self.refused.get(why, 0) + rows

    def add(self, other: "Counts") -> None:
        """Count another's rows as well."""
        for why, rows in other.left_out.items():
            self.leave_out(why, rows)
        for why, rows in other.refused.items():
            self.refuse(why, rows)
        self.not_drawn += other.not_drawn


@dataclass(frozen=True)
class Rows:
    """Rows that both models have answered, as columns of the same length.

    `key` tells a row of a request from all others, and `subject` whom it is about (0: nobody is named): hashes of 64 bits. `a` is what
    production answered as `version`, `b` the other model: probabilities (n, k) or values (n,). `outcome` is a class's position or
    a value, NaN where it is not known. No feature is kept but those of `slices`.
    """

    key: np.ndarray
    subject: np.ndarray
    day: np.ndarray  # as 2026-01-31, UTC
    version: np.ndarray
    a: np.ndarray
    b: np.ndarray
    outcome: np.ndarray
    slices: dict[str, np.ndarray]
    examples: list[Example]
    counts: Counts

    def __len__(self) -> int:
        return len(self.key)


@dataclass
class _Pending:
    """Rows that are read and not asked yet."""

    about: list[tuple[int, int, str, str, float, str, int]] = field(default_factory=list)
    a: list[Any] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def score(
    lines: Iterable[bytes],
    settings: Settings,
    challenger: Challenger,
    contracts: Mapping[str, Contract],
    slices: Sequence[str],
    share: float = 1.0,
    salt: str = "",
) -> Iterator[Rows]:
    """The rows of callers in lines of the log's export, answered by the challenger, TOGETHER at a time and at least once.

    `contracts` are those of the versions that may have answered. `share` of the requests are taken, chosen by a hash of the request id;
    `salt` goes into the hash of whom a row is about. Outcomes count when they came within [monitor] label_window_days.
    """
    reader = _Reader(settings, challenger, contracts, share, salt)
    pending, counts = _Pending(), Counts()
    for raw in lines:
        reader.read(raw, pending, counts)
        if len(pending.rows) >= TOGETHER:
            yield _asked(challenger, pending, counts, slices)
            pending, counts = _Pending(), Counts()
    yield _asked(challenger, pending, counts, slices)


class _Reader:
    """Turns lines of the export into rows as the challenger takes them."""

    def __init__(
        self, settings: Settings, challenger: Challenger, contracts: Mapping[str, Contract], share: float, salt: str
    ):
        self._name, self._window = settings.name, timedelta(days=settings.monitor.label_window_days)
        self._contract, self._decoder = challenger.contract, Decoder(challenger.contract)
        self._orders = {number: order(challenger.contract, one) for number, one in contracts.items()}
        self._alike = {
            number for number, one in contracts.items() if set(one.classes) == set(challenger.contract.classes)
        }
        self._below, self._salt = round(share * 2**64), salt
        self._decode = msgspec.json.Decoder(Line).decode

    def read(self, raw: bytes, pending: _Pending, counts: Counts) -> None:
        try:
            line = self._decode(raw)
        except msgspec.MsgspecError:
            return counts.leave_out("unreadable", 1)
        if line.role != "served" or line.model != self._name:
            return None
        if hashed(line.request_id) >= self._below:
            counts.not_drawn += line.rows
            return None
        number = line.model_version
        if number not in self._orders:
            return counts.leave_out("of a version whose bundle is gone", line.rows)
        places = self._orders[number]
        if places is None:
            return counts.leave_out("of a version without a feature that is needed", line.rows)
        if number not in self._alike:
            return counts.leave_out("of a version with other classes", line.rows)
        try:
            given = [self._answer(answer) for answer in line.answers]
            rows = self._rows(line.features, places, counts)
        except (KeyError, TypeError, ValueError, IndexError, msgspec.MsgspecError):
            return counts.leave_out("unreadable", line.rows)
        if len(rows) != len(given):
            return counts.leave_out("unreadable", line.rows)
        subject = hashed(self._salt + line.subject) if line.subject else 0
        day, outcomes = line.time.date().isoformat(), self._outcomes(line)
        for place, (row, answer) in enumerate(zip(rows, given, strict=True)):
            if row is not None:
                outcome = outcomes.get(place, np.nan)
                key = hashed(f"{line.request_id}:{place}")
                pending.about.append((key, subject, day, number, outcome, line.request_id, place))
                pending.a.append(answer)
                pending.rows.append(row)
        return None

    def _rows(self, features: msgspec.Raw, places: list[int], counts: Counts) -> Sequence[Row | None]:
        """The rows in the challenger's order; None where it refuses one."""
        raw = bytes(features)
        if places != list(range(len(places))):
            raw = _reordered(raw, places, list(self._contract.names))
        try:
            return self._decoder.logged(raw)
        except RowError:
            return [self._row(bytes(one), counts) for one in msgspec.json.decode(raw, type=list[msgspec.Raw])]

    def _row(self, raw: bytes, counts: Counts) -> Row | None:
        try:
            return self._decoder.logged(b"[%b]" % raw)[0]
        except RowError as error:
            name = error.faults[0].feature
            counts.refuse("not a row of its features" if name is None else f"{name}: a value that it does not allow")
            return None

    def _answer(self, answer: Answer) -> Any:
        if not self._contract.classes:
            return float(answer.value)  # type: ignore[arg-type]  # None raises TypeError
        return [(answer.probabilities or {})[name] for name in self._contract.classes]

    def _outcomes(self, line: Line) -> dict[int, float]:
        classes, found = self._contract.classes, {}
        for one in line.outcomes:
            if one.time - line.time > self._window:
                continue
            if classes and one.outcome in classes:
                found[one.row] = float(classes.index(one.outcome))
            elif not classes and isinstance(one.outcome, int | float) and not isinstance(one.outcome, bool):
                found[one.row] = float(one.outcome)
        return found


def order(challenger: Contract, other: Contract) -> list[int] | None:
    """Where a version's rows have each of the challenger's features; None where they lack one."""
    found = [other.names.get(name) for name in challenger.names]
    return None if None in found else found  # type: ignore[return-value]


def hashed(text: str) -> int:
    """A hash of 64 bits, never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1


def _reordered(raw: bytes, places: list[int], names: list[str]) -> bytes:
    rows = msgspec.json.decode(raw)
    return msgspec.json.encode(
        [[row[name] for name in names] if isinstance(row, dict) else [row[place] for place in places] for row in rows]
    )


def ask(challenger: Challenger, rows: Sequence[Row]) -> np.ndarray:
    """The challenger's answers to rows, NaN where it has none; raises PortabilityError where the service would not load it."""
    frame = _frame(challenger.contract, rows)
    return choose.ask(dict(challenger.files), challenger.plain, [frame], each=True)[0][0]


def _frame(contract: Contract, rows: Sequence[Row]) -> pd.DataFrame:
    columns = zip(*rows, strict=True) if rows else ([] for _ in contract.inputs)
    return pd.DataFrame(
        {
            column.name: pd.Series(values, dtype=object if column.type == "text" else np.float64)
            for column, values in zip(contract.inputs, map(list, columns), strict=True)
        }
    )


def _asked(challenger: Challenger, pending: _Pending, counts: Counts, slices: Sequence[str]) -> Rows:
    contract, number = challenger.contract, len(pending.rows)
    width = max(1, len(contract.classes))
    shape = (number, width) if contract.classes else (number,)
    try:
        b = ask(challenger, pending.rows).reshape(shape) if number else np.empty(shape)
    except PortabilityError:  # it answers none of them; that it can be loaded was tried before
        b = np.full(shape, np.nan)
    answered = np.isfinite(b).reshape(number, width).all(axis=1)
    if number > answered.sum():
        counts.refuse(NO_ANSWER, int(number - answered.sum()))
    key, subject, day, version, outcome, ids, places = (list(each) for each in zip(*pending.about, strict=True)) if number else ([] for _ in range(7))  # fmt: skip
    a = np.array(pending.a, dtype=np.float64).reshape(shape)[answered]
    b = b[answered]
    frame = _frame(contract, pending.rows)[answered]
    names = [(ids[at], places[at]) for at in np.flatnonzero(answered)]
    return Rows(
        np.array(key, dtype=np.uint64)[answered],
        np.array(subject, dtype=np.uint64)[answered],
        np.array(day, dtype="U10")[answered],
        np.array(version, dtype="U12")[answered],
        a,
        b,
        np.array(outcome, dtype=np.float64)[answered],
        {name: _sliced(frame[name]) for name in slices if name in contract.names},
        [Example(int(at), *names[at]) for at in np.argsort(-apart(a, b), kind="stable")[:MOST_EXAMPLES]],
        counts,
    )


def _sliced(values: pd.Series) -> np.ndarray:
    return values.astype(str).to_numpy().astype(f"U{LONGEST}") if values.dtype == object else values.to_numpy()


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far two answers to each row are apart, shape (n,): the largest difference of a probability, or that of the values."""
    gap = np.abs(a - b)
    return gap.max(axis=1, initial=0.0) if gap.ndim > 1 else gap


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several parts, one after the other; a row that comes again counts once."""
    key = np.concatenate([part.key for part in parts])
    _, first = np.unique(key, return_index=True)
    first.sort()
    counts, examples, start = Counts(), [], 0
    for part in parts:
        counts.add(part.counts)
        for one in part.examples:
            place = int(np.searchsorted(first, start + one.place))
            if place < len(first) and first[place] == start + one.place:
                examples.append(Example(place, one.request_id, one.row))
        start += len(part)
    if repeated := len(key) - len(first):
        counts.leave_out("repeated request", repeated)

    def together(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])[first]

    columns = {name: together(name) for name in ("key", "subject", "day", "version", "a", "b", "outcome")}
    slices = {name: np.concatenate([part.slices[name] for part in parts])[first] for name in parts[0].slices}
    return Rows(**columns, slices=slices, examples=examples, counts=counts)
