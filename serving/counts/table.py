"""The tables beside the prediction log: `daily_counts`, and the marks by which a day that has changed is known."""

import hashlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from serving.counts.records import Day, Log, Plan, Version
from serving.log.blocks import DamagedError, compress, decompress
from serving.log.clock import now
from serving.log.store import Store, StoreError

DAY = 86_400
_TABLE = {
    "daily_counts": "CREATE TABLE IF NOT EXISTS daily_counts (day INTEGER NOT NULL, model TEXT NOT NULL, model_version TEXT NOT NULL,"
    " requests INTEGER NOT NULL, mark TEXT NOT NULL, counts {bytes} NOT NULL, PRIMARY KEY (day, model, model_version))"
}
_UPSERT = (
    "INSERT INTO daily_counts (day, model, model_version, requests, mark, counts) VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (day, model, model_version)"
    " DO UPDATE SET requests = excluded.requests, mark = excluded.mark, counts = excluded.counts"
)


class Found(NamedTuple):
    """What the log holds of one day and version: how many requests, and a mark that changes when one comes or goes."""

    requests: int
    mark: str


Key = tuple[int, str]  # a day, counted from 1970, and a version


def make(store: Store) -> None:
    """Create the table if it is missing."""
    store.make(_TABLE)


def logged(store: Store, plan: Plan) -> dict[Key, Found]:
    """What the log holds of each day and version of the plan's model."""
    sums: dict[Key, list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
    groups = store.query(
        f"SELECT model_version, {_day(store, 'first_time')}, {_day(store, 'last_time')}, COUNT(*), SUM(requests),"
        " MAX(id), MAX(last_time) FROM prediction_blocks WHERE model = ? AND last_time >= ? AND first_time < ?"
        " GROUP BY 1, 2, 3",
        (plan.model, plan.since, now() if plan.until is None else plan.until),
    )
    for version, first, last, blocks, requests, newest, ended in groups:
        for day in range(int(first), int(last) + 1):  # a block may have begun before midnight
            found = sums[day, version]
            found[0] += int(blocks)
            found[1] += int(requests)
            found[2] = max(
                found[2], int(newest)
            )  # SQLite gives the number of the last block again when that is deleted
            found[3] = max(found[3], float(ended))
    return {key: Found(int(found[1]), " ".join(map(str, found))) for key, found in sums.items()}


def _day(store: Store, column: str) -> str:
    """A time's day, counted from 1970; PostgreSQL would round it, and SQLite may lack FLOOR."""
    return f"CAST({column} / {DAY} AS INTEGER)" if store.is_sqlite else f"CAST(FLOOR({column} / {DAY}) AS INTEGER)"


def arrived(store: Store, plan: Plan) -> dict[int, tuple[int, float, int]]:
    """Per day, the outcomes that came in on it: how many, when the last one came, and how often they were sent."""
    days = store.query(
        f"SELECT {_day(store, 'time')}, COUNT(*), MAX(time), SUM(sent) FROM outcomes WHERE time >= ? GROUP BY 1",
        (plan.since,),
    )
    return {int(day): (int(number), float(last), int(sent)) for day, number, last, sent in days}


def counted(store: Store, plan: Plan) -> dict[Key, Found]:
    """What was counted already."""
    rows = store.query("SELECT day, model_version, requests, mark FROM daily_counts WHERE model = ?", (plan.model,))
    return {(int(day), version): Found(int(requests), mark) for day, version, requests, mark in rows}


def write(store: Store, plan: Plan, counts: dict[Key, tuple[Found, Day]]) -> None:
    """Keep the counts of these days in one transaction, in place of older ones."""
    statements = [
        (_UPSERT, (day, plan.model, version, found.requests, found.mark, compress(msgspec.json.encode(record))))
        # In order: of two monitors at once, each would wait for a row that the other has locked.
        for (day, version), (found, record) in sorted(counts.items())
    ]
    store.write(statements)


def read(store: Store, model: str) -> list[Day]:
    """All days that were counted, with the requests that were refused, oldest first."""
    refused: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for day, version, status, requests in store.query(
        "SELECT day, model_version, status, requests FROM refusals WHERE model = ?", (model,)
    ):
        refused[date(int(day)), version][str(status)] = int(requests)
    found = []
    query = "SELECT day, model_version, counts FROM daily_counts WHERE model = ? ORDER BY day, model_version"
    for number, version, counts in store.query(query, (model,)):
        day = _decoded(number, version, counts)
        day.refused = refused.pop((day.day, day.version), {})
        found.append(day)
    return found + [Day(day=day, version=version, refused=statuses) for (day, version), statuses in refused.items()]


def _decoded(number: int, version: str, counts: bytes) -> Day:
    try:
        return msgspec.json.decode(decompress(counts), type=Day)
    except (DamagedError, msgspec.MsgspecError) as error:
        words = f"day {number} of version {version!r} in the table daily_counts is damaged ({error})"
        raise StoreError(
            f"{words}; delete that row: it is made again where its requests are still in the log"
        ) from error


def date(day: int) -> str:
    """A day that is counted from 1970, as 2026-01-31."""
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


def overview(store: Store) -> Log:
    """Which models' requests are in the log, and from when."""
    models = store.query(
        "SELECT model, SUM(requests), MIN(first_time), MAX(last_time) FROM prediction_blocks GROUP BY 1"
    )
    return Log(
        now=now(),
        models={model: int(requests) for model, requests, _, _ in models},
        first=min((float(first) for *_, first, _ in models), default=None),
        last=max((float(last) for *_, last in models), default=None),
    )


def digest(version: Version | None) -> str:
    """A mark of how a version is counted."""
    return hashlib.sha256(msgspec.json.encode(version)).hexdigest()[:12]
