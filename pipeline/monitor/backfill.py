"""The prediction log and its outcomes as labelled rows: data/production/rows.parquet, for load() to add.

Pure but for the two files. Rows are read one after the other, and written a few thousand at a time, so that memory does not grow with
the log but for eight bytes or so per request, by which a repeated one is known.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from pipeline.artifacts import sha256, write_json
from pipeline.comparison import recent
from pipeline.data.holdout import is_holdout
from pipeline.errors import DataError
from pipeline.settings import Settings
from serving.model.contract import Contract

FOLDER, ROWS = recent.ROWS.parent, recent.ROWS.name
MANIFEST = "rows.json"
TIME = recent.TIME
AT_ONCE = 20_000  # rows that are written together
ABANDONED = 3600  # seconds after which an unfinished file that nothing was written to is that of a run that was killed
LONGEST = -(2**63), 2**63  # what an integer of the file may be: from, and below
FEW = 30  # answers of a class, below which it says nothing that none of them has an outcome


class Told(msgspec.Struct, frozen=True):
    """An outcome in a line of the export."""

    row: int
    outcome: Any
    time: datetime


class Answer(msgspec.Struct, frozen=True):
    """An answer in a line of the export: the class and the probabilities of all, which a regression has not."""

    label: str | None = None
    probabilities: dict[str, float] | None = None


class Line(msgspec.Struct, frozen=True):
    """A request in a line of the export, as far as it is read."""

    request_id: str
    time: datetime
    role: str
    rows: int
    features: list[list[Any]]
    answers: list[Answer]
    model: str
    model_version: str
    outcomes: list[Told]


@dataclass
class Counts:
    """What became of the log's rows; `answered` and `labelled` are rows by the class that was answered."""

    rows: int = 0
    holdout: int = 0
    first: str | None = None
    last: str | None = None
    versions: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    labelled: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)  # rows by reason

    def leave_out(self, why: str, rows: int) -> None:
        """Count rows that are not taken."""
        self.left_out[why] = self.left_out.get(why, 0) + rows


def plain(counts: Counts) -> dict[str, Any]:
    """The counts with keys in order, so that the same rows give the same text."""
    return {
        key: dict(sorted(value.items())) if isinstance(value, dict) else value for key, value in vars(counts).items()
    }


def write(
    folder: Path,
    lines: Iterable[bytes],
    settings: Settings,
    contracts: Mapping[str, Contract],
    serving: str,
    facts: Mapping[str, Any],
) -> Counts:
    """Write the labelled rows of the log's lines, and rows.json beside them; without labelled rows no file is touched.

    `contracts` are those of the versions by number; `serving` is the one whose columns are written. Rows of a version with other columns
    are left out. The same lines give the same bytes. Raises DataError where a column has the name of another.
    """
    import pyarrow
    from pyarrow import parquet

    schema = _schema(settings, contracts[serving])
    by_id = settings.split.by == "id" and not settings.data.group  # else load() gives the rows what decides their side
    counts = Counts()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{ROWS}.*"):
        if time.time() - left.stat().st_mtime > ABANDONED:
            left.unlink(missing_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f".{ROWS}.")
    os.close(handle)
    unfinished = Path(name)
    try:
        with parquet.ParquetWriter(unfinished, schema, compression="zstd", store_schema=False) as target:
            for rows in _together(labelled(lines, settings, contracts, serving, counts)):
                if by_id:
                    held = is_holdout((row[0] for row in rows), settings.split.holdout, settings.split.salt)
                    counts.holdout += int(held.sum())
                columns = [
                    pyarrow.array(column, one.type) for column, one in zip(zip(*rows, strict=True), schema, strict=True)
                ]
                target.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
        if counts.rows:
            unfinished.replace(folder / ROWS)
            written = {"schema": 1, **facts, "sha256": sha256(folder / ROWS), "columns": schema.names, **plain(counts)}
            write_json(folder / MANIFEST, written)
    finally:
        unfinished.unlink(missing_ok=True)
    return counts


def labelled(
    lines: Iterable[bytes], settings: Settings, contracts: Mapping[str, Contract], serving: str, counts: Counts
) -> Iterator[tuple[Any, ...]]:
    """The rows with a usable outcome: id, features in the serving contract's order, outcome, time. `counts` is added to.

    The id is REQUEST_ID:ROW, so a row is always on the same side of the split. The label is what callers reported, never an answer.
    """
    decode, seen = msgspec.json.Decoder(Line).decode, set[int]()
    window = timedelta(days=settings.monitor.label_window_days)
    orders = {number: _order(contracts[serving], contract) for number, contract in contracts.items()}
    for raw in lines:
        try:
            line = decode(raw)
        except msgspec.MsgspecError:
            counts.leave_out("unreadable", 1)
            continue
        if line.role != "served" or line.model != settings.name:
            counts.leave_out("not of callers" if line.role != "served" else "of another model", line.rows)
            continue
        if (key := _short(line.request_id)) in seen:
            counts.leave_out("repeated request", line.rows)
            continue
        seen.add(key)
        yield from _rows(line, contracts, serving, orders, window, counts)


def _rows(
    line: Line, contracts: Mapping[str, Contract], serving: str, orders: Mapping[str, list[int] | None], window: timedelta, counts: Counts
) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    contract = contracts[serving]
    order = orders.get(line.model_version)
    if order is None:
        counts.leave_out("of a version with other columns, or whose bundle is gone", line.rows)
        return
    told = {one.row: one for one in line.outcomes}
    answered = [_answered(answer) for answer in line.answers] if contract.classes else []
    for name in answered:
        counts.answered[name] = counts.answered.get(name, 0) + 1
    for number, values in enumerate(line.features):
        one = told.get(number)
        if one is None or one.outcome is None:
            counts.leave_out("without outcome", 1)
            continue
        if one.time - line.time > window:
            counts.leave_out("outcome too late", 1)
            continue
        try:
            outcome = _outcome(one.outcome, contract)
            features = [
                _value(values[place], column.type) for place, column in zip(order, contract.inputs, strict=True)
            ]
        except (ValueError, IndexError, TypeError, OverflowError):
            counts.leave_out("does not fit the contract", 1)
            continue
        counts.rows += 1
        day = line.time.date().isoformat()
        counts.first, counts.last = min(counts.first or day, day), max(counts.last or day, day)
        counts.versions[line.model_version] = counts.versions.get(line.model_version, 0) + 1
        if number < len(answered):
            counts.labelled[answered[number]] = counts.labelled.get(answered[number], 0) + 1
        yield (f"{line.request_id}:{number}", *features, outcome, line.time)


def warnings(counts: Counts) -> list[str]:
    """What people should know before they train on these rows: outcomes that exist for some answers only."""
    shares = {
        name: counts.labelled.get(name, 0) / rows for name, rows in sorted(counts.answered.items()) if rows >= FEW
    }
    none = [name for name, share in shares.items() if not share]
    if not none or len(none) == len(shares):
        return []
    some = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share)
    return [
        f"no row that was answered {' or '.join(none)} has an outcome (of the others: {some}). A model that learns from these rows never"
        " learns where that answer was wrong: report outcomes of some of them too"
    ]


def summary(counts: Counts) -> list[str]:
    """What was written, and what was left out, in lines."""
    if not counts.rows:
        said = ["no row of the log has a usable outcome: nothing was written, and the rows of an earlier run stay"]
    else:
        said = [
            f"{counts.rows:,} labelled rows of {counts.first} to {counts.last}"
            + (f"; {counts.holdout:,} of them belong to the hold-out" if counts.holdout else "")
        ]
    said += [f"  left out: {rows:,} {why}" for why, rows in sorted(counts.left_out.items())]
    said += [
        f"  answered {name}: {counts.labelled.get(name, 0):,} of {rows:,} rows have an outcome"
        for name, rows in sorted(counts.answered.items())
    ]
    return [*said, *(f"warning: {one}" for one in warnings(counts))]


def _schema(settings: Settings, contract: Contract):
    import pyarrow

    data = settings.data
    types = {
        "number": pyarrow.float64(),
        "integer": pyarrow.int64(),
        "boolean": pyarrow.bool_(),
        "text": pyarrow.string(),
    }
    names = [data.id, *contract.names, data.target, TIME]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{twice[0]!r} would name two columns of the rows of production", "rename it in load()")
    return pyarrow.schema(
        [
            (data.id, pyarrow.string()),
            *((column.name, types[column.type]) for column in contract.inputs),
            (data.target, pyarrow.string() if contract.classes else pyarrow.float64()),
            (TIME, pyarrow.timestamp("ms", tz="UTC")),
        ]
    )


def _together(rows: Iterator[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    some: list[tuple[Any, ...]] = []
    for row in rows:
        some.append(row)
        if len(some) == AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _order(serving: Contract, other: Contract) -> list[int] | None:
    """Where a version has each of the serving version's columns; None where it lacks one, or has it with another type."""
    if other.classes and serving.classes and set(other.classes) != set(serving.classes):
        return None
    types = {column.name: (place, column.type) for place, column in enumerate(other.inputs)}
    found = [types.get(column.name) for column in serving.inputs]
    if any(one is None or one[1] != column.type for one, column in zip(found, serving.inputs, strict=True)):
        return None
    return [one[0] for one in found if one is not None]


def _answered(answer: Answer) -> str:
    """The class that the caller was told: by the threshold and the rules of the version that answered."""
    chances = answer.probabilities or {}
    return max(chances, key=chances.__getitem__) if answer.label is None and chances else str(answer.label)


def _outcome(value: Any, contract: Contract) -> str | float:
    if contract.classes:
        if value not in contract.classes:
            raise ValueError
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _value(value: Any, kind: str) -> Any:
    """A value as the column's type has it; None where it is empty."""
    if value is None or value == "":
        return None
    if kind == "text":
        if not isinstance(value, str):
            raise ValueError
        return value
    if isinstance(value, str):
        raise ValueError
    if kind == "integer":
        if int(value) != value or not LONGEST[0] <= value < LONGEST[1]:
            raise ValueError
        return int(value)
    return bool(value) if kind == "boolean" else float(value)


def _short(request_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "big")
