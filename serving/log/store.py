"""The prediction log in a database: requests, answers, and the outcomes reported later.

    python -m serving.log.store delete-older --days 90
    python -m serving.log.store delete-subject --subject=customer-17

SLIPWAY_DATABASE_URL names the database: sqlite:///PATH (embedded) or postgresql://… (for teams).
"""

import argparse
import contextlib
import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from serving.config import DATABASE, NO_DATABASE, ConfigError
from serving.log.blocks import DamagedError, Frame, Prediction, Source, about_of, content_of, frame_of, pack
from serving.log.clock import now
from serving.log.identity import identity

CHUNK = 1000  # records deleted, or moved, in one transaction; others are written between two of them
BLOCKS = 100  # blocks deleted in one transaction
MOVED_ROWS = 2000  # rows that the records moved in one transaction have, about: their features are in memory
SCANNED = 200  # blocks looked through at a time for a subject
DAY = 86_400
NO_OUTCOME = "null"  # in the place of an outcome where only a value was told
PAUSE = 0.05  # seconds before looking again for records that another process is moving


class StoreError(Exception):
    """The database cannot be used; the message never contains its password."""


class RefusedError(StoreError):
    """The database answers, but refuses these records."""


class Outcome(NamedTuple):
    """What is told of one row of a request: the outcome as JSON, "null" where only a value is told, and that value."""

    request_id: str
    row_index: int
    outcome: str
    time: float
    caller: str
    value: float | None = None

    def fields(self) -> tuple:
        """Its columns in the order of _OUTCOME."""
        at = None if self.value is None else self.time
        return *self[:5], int(self.outcome != NO_OUTCOME), self.value, at


# What must be there, in order. {id}, {bytes} and {json} stand for types whose names the databases do not share.
_MADE = {
    "prediction_blocks": """CREATE TABLE IF NOT EXISTS prediction_blocks (
        id {id} PRIMARY KEY,
        first_time DOUBLE PRECISION NOT NULL,
        last_time DOUBLE PRECISION NOT NULL,
        requests INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        model TEXT NOT NULL,
        model_version TEXT NOT NULL,
        about {bytes} NOT NULL,
        content {bytes} NOT NULL,
        experiment TEXT NOT NULL DEFAULT '',
        variant TEXT NOT NULL DEFAULT ''
    )""",
    "prediction_blocks_time": """CREATE INDEX IF NOT EXISTS prediction_blocks_time
        ON prediction_blocks (last_time, id, first_time)""",
    "outcomes": """CREATE TABLE IF NOT EXISTS outcomes (
        request_id TEXT NOT NULL,
        row_index INTEGER NOT NULL,
        outcome {json} NOT NULL,
        time DOUBLE PRECISION NOT NULL,
        caller TEXT NOT NULL,
        sent INTEGER NOT NULL DEFAULT 1,
        value DOUBLE PRECISION,
        value_time DOUBLE PRECISION,
        PRIMARY KEY (request_id, row_index)
    )""",
    "outcomes_time": "CREATE INDEX IF NOT EXISTS outcomes_time ON outcomes (time)",
    "refusals": """CREATE TABLE IF NOT EXISTS refusals (
        day INTEGER NOT NULL,
        model TEXT NOT NULL,
        model_version TEXT NOT NULL,
        status INTEGER NOT NULL,
        requests BIGINT NOT NULL,
        PRIMARY KEY (day, model, model_version, status)
    )""",
    "experiment_stops": """CREATE TABLE IF NOT EXISTS experiment_stops (
        model TEXT NOT NULL,
        experiment TEXT NOT NULL,
        time DOUBLE PRECISION NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (model, experiment)
    )""",
}
_SQLITE = {"id": "INTEGER", "bytes": "BLOB", "json": "TEXT"}
_POSTGRES = {"id": "BIGINT GENERATED ALWAYS AS IDENTITY", "bytes": "BYTEA", "json": "JSON"}
_LOCK = 5_194_177_210  # any number that is ours alone: who makes tables in PostgreSQL holds the lock of that number
# Columns that tables of older services lack, in the order in which they were added. Older services go on writing beside newer ones, so
# each has a default.
_ADDED = (
    ("outcomes", "sent", "INTEGER NOT NULL DEFAULT 1"),
    ("outcomes", "value", "DOUBLE PRECISION"),
    ("outcomes", "value_time", "DOUBLE PRECISION"),
    ("prediction_blocks", "experiment", "TEXT NOT NULL DEFAULT ''"),
    ("prediction_blocks", "variant", "TEXT NOT NULL DEFAULT ''"),
)
_COLUMNS = {
    True: "SELECT 'outcomes', name FROM pragma_table_info('outcomes')"
    " UNION ALL SELECT 'prediction_blocks', name FROM pragma_table_info('prediction_blocks')",
    False: "SELECT CAST(CAST(attrelid AS regclass) AS TEXT), CAST(attname AS TEXT) FROM pg_attribute"
    " WHERE attrelid IN ('outcomes'::regclass, 'prediction_blocks'::regclass) AND NOT attisdropped",
}
_BLOCK = (
    "INSERT INTO prediction_blocks"
    " (first_time, last_time, requests, rows, about, content, model, model_version, experiment, variant)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# An outcome and a value may come one after the other: neither changes the other, nor when and how often that was sent.
_OUTCOME = (
    "INSERT INTO outcomes (request_id, row_index, outcome, time, caller, sent, value, value_time)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id, row_index) DO UPDATE SET caller = excluded.caller,"
    " outcome = CASE WHEN excluded.sent = 0 THEN outcomes.outcome ELSE excluded.outcome END,"
    " time = CASE WHEN excluded.sent = 0 AND outcomes.sent > 0 THEN outcomes.time ELSE excluded.time END,"
    " sent = outcomes.sent + excluded.sent, value = COALESCE(excluded.value, outcomes.value),"
    " value_time = COALESCE(excluded.value_time, outcomes.value_time)"
)
_REFUSAL = (
    "INSERT INTO refusals (day, model, model_version, status, requests) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (day, model, model_version, status) DO UPDATE SET requests = refusals.requests + excluded.requests"
)
# How the table of one row per request names its columns; it has no role.
_OLD = "request_id, time, caller, subject, rows, latency_ms, CAST(features AS TEXT), CAST(answers AS TEXT), model, model_version"


class Store:
    """A connection to the prediction log; creates missing tables."""

    def __init__(self, url: str, model: str = "", version: str = ""):
        """Connect, to write predictions of this version of a model; raises StoreError."""
        self._url = url
        self.is_sqlite = url.startswith("sqlite:")
        self._source = Source(model, version)
        self._place = "rowid" if self.is_sqlite else "ctid"
        self._driver: Any = sqlite3
        if not self.is_sqlite:
            import psycopg  # only here: importing it takes a fifth of a service's start-up time

            self._driver = psycopg
        with self._told():
            self._connection = _sqlite(url) if self.is_sqlite else _postgres(self._driver, url)
            self._file = _identity(url) if self.is_sqlite else None
        self.make(_MADE)
        if self._lacking():
            self._add_columns()

    def gone(self) -> bool:
        """Whether the database file was deleted, moved or replaced, so that new records would not be in the file of that name."""
        return self.is_sqlite and self._file != _identity(self._url)

    def insert(self, predictions: Sequence[Sequence[Any]], outcomes: Sequence[Sequence[Any]] = ()) -> None:
        """Write all records or none, with the fields of Prediction and Outcome in order; raises StoreError."""
        with self._transaction() as cursor:
            if predictions:
                self._insert_block(cursor, [frame_of(predictions)], self._source)
            if outcomes:
                cursor.executemany(self._sql(_OUTCOME), [Outcome(*one).fields() for one in outcomes])

    def insert_block(self, frames: Sequence[Frame], source: Source | None = None) -> None:
        """Write all these frames as one block, or none; raises StoreError."""
        with self._transaction() as cursor:
            self._insert_block(cursor, frames, source or self._source)

    def add_refusals(self, counts: Mapping[tuple[str, int, int], int]) -> None:
        """Add up refused requests by version, day (counted from 1970) and status; raises StoreError."""
        with self._transaction() as cursor:
            model = self._source.model
            values = [(day, model, version, status, requests) for (version, day, status), requests in counts.items()]
            cursor.executemany(self._sql(_REFUSAL), values)

    def query(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        """All rows of a SELECT, in which `?` stands for a value; raises StoreError."""
        with self._transaction(writes=False) as cursor:
            return cursor.execute(self._sql(statement), values).fetchall()

    def write(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run statements with their values in one transaction; raises StoreError."""
        with self._transaction() as cursor:
            for statement, values in statements:
                cursor.execute(self._sql(statement), values)

    def make(self, statements: Mapping[str, str]) -> None:
        """Make missing tables and indexes, by name: `CREATE … IF NOT EXISTS`, with {id}, {bytes} and {json} for types; raises StoreError.

        Where all are there, nothing is locked; where several processes begin at once, one makes them and the others wait.
        """
        if len(self._known(list(statements))) == len(statements):
            return
        types = _SQLITE if self.is_sqlite else _POSTGRES
        with self._transaction() as cursor:
            if not self.is_sqlite:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            for statement in statements.values():
                cursor.execute(statement.format(**types))

    def among(self, column: str, values: Sequence[str]) -> tuple[str, Any]:
        """A condition that a column is one of these texts, and the value for its `?`."""
        if self.is_sqlite:
            return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values))
        return f"{column} = ANY(?)", list(values)

    def move(self) -> bool:
        """Move up to CHUNK records of the table `predictions`, which older services write, into blocks; whether any was there.

        Several processes may do it at once, and one that is killed moves nothing.
        """
        if not self._has_old():
            return False
        with self._transaction() as cursor:
            records = self._take_old(cursor)
            for (*about, _), some in groupby(records, lambda one: (*one[-2:], int(one[1] // DAY))):
                self._insert_block(cursor, [frame_of([_moved(one) for one in some])], Source(*about))
        return bool(records)

    def move_all(self) -> None:
        """Move all records of the table `predictions`; returns when no other process is moving some either."""
        while self._has_old() and self.query("SELECT 1 FROM predictions LIMIT 1"):
            if not self.move():
                time.sleep(PAUSE)  # another process is moving the last ones

    def expire(self, before: float) -> tuple[int, bool]:
        """Delete some records from before this time (seconds since 1970): the number of predictions, and whether to go on.

        A block goes when its last request is old enough.
        """
        chosen = f"SELECT id FROM prediction_blocks WHERE last_time < ? ORDER BY last_time LIMIT {BLOCKS}"
        with self._transaction() as cursor:
            gone = cursor.execute(
                self._sql(f"DELETE FROM prediction_blocks WHERE id IN ({chosen}) RETURNING requests"), [before]
            ).fetchall()
        old = self._delete("predictions", "time < ?", before) if self._has_old() else 0
        outcomes = self._delete("outcomes", "time < ?", before)
        return sum(requests for (requests,) in gone) + old, len(gone) == BLOCKS or CHUNK in (old, outcomes)

    def delete_older(self, before: float) -> int:
        """Delete predictions and outcomes from before this time (seconds since 1970); return the number of predictions."""
        deleted, more = 0, True
        while more:
            number, more = self.expire(before)
            deleted += number
        return deleted

    def delete_subject(self, subject: str) -> int:
        """Delete all predictions about this subject and their outcomes; return the number of predictions."""
        known = identity(subject)
        deleted = (
            self._delete_old_subject(known) if self._has_old() else 0
        )  # before the blocks into which they may move
        last = 0
        page = "SELECT id, about FROM prediction_blocks WHERE id > ? ORDER BY id LIMIT ?"
        while blocks := self.query(page, [last, SCANNED]):
            for number, piece in blocks:
                with whole(number):
                    found = known in about_of(piece)[3]
                if found:
                    deleted += self._rewrite(number, known)
            last = blocks[-1][0]
        if self.is_sqlite:
            with self._told():  # what was deleted is still in the file beside the database, until that is emptied
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return deleted

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def _lacking(self) -> list[tuple[str, str, str]]:
        """The columns of _ADDED that the tables of an older service lack."""
        found = set(self.query(_COLUMNS[self.is_sqlite]))
        return [(table, column, kind) for table, column, kind in _ADDED if (table, column) not in found]

    def _add_columns(self) -> None:
        """Add them; several processes may do it at once, and one that is killed adds none."""
        with self._transaction() as cursor:
            if not self.is_sqlite:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            found = set(cursor.execute(_COLUMNS[self.is_sqlite]).fetchall())  # another process may have been faster
            for table, column, kind in _ADDED:
                if (table, column) not in found:
                    cursor.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    def _insert_block(self, cursor: Any, frames: Sequence[Frame], source: Source) -> None:
        firsts, lasts = [one.first_time for one in frames], [one.last_time for one in frames]
        counts = sum(one.requests for one in frames), sum(one.rows for one in frames)
        pieces = pack([one.about for one in frames]), pack([one.content for one in frames])
        cursor.execute(self._sql(_BLOCK), (min(firsts), max(lasts), *counts, *pieces, *source))

    def _has_old(self) -> bool:
        return bool(self._known(["predictions"]))

    def _known(self, names: Sequence[str]) -> list[tuple]:
        """The tables and indexes among these names that exist."""
        if self.is_sqlite:
            condition, asked = self.among("name", names)
            return self.query(f"SELECT name FROM sqlite_master WHERE {condition}", [asked])
        asked = "unnest(CAST(? AS TEXT[])) AS name"
        return self.query(f"SELECT name FROM {asked} WHERE to_regclass(name) IS NOT NULL", [list(names)])

    def _take_old(self, cursor: Any) -> list[tuple]:
        """Some of the oldest records of the table `predictions`, which are deleted there."""
        lock = "" if self.is_sqlite else " FOR UPDATE SKIP LOCKED"
        order = "rowid" if self.is_sqlite else "time"
        found = cursor.execute(
            f"SELECT {self._place}, rows FROM predictions ORDER BY {order} LIMIT {CHUNK}{lock}"
        ).fetchall()
        places: list[Any] = []
        rows = 0
        for place, more in found:
            if places and rows + more > MOVED_ROWS:
                break
            places.append(place)
            rows += more
        if not places:
            return []
        if self.is_sqlite:
            taken = cursor.execute(f"SELECT {_OLD} FROM predictions WHERE rowid <= ?", [places[-1]]).fetchall()
            cursor.execute("DELETE FROM predictions WHERE rowid <= ?", [places[-1]])
        else:
            taken = cursor.execute(
                f"DELETE FROM predictions WHERE ctid = ANY(%s::tid[]) RETURNING {_OLD}", [places]
            ).fetchall()
        return sorted(taken, key=lambda one: (*one[-2:], one[1]))

    def _delete_old_subject(self, known: str) -> int:
        asked = "SELECT request_id FROM predictions WHERE subject = ?"
        self.write([(f"DELETE FROM outcomes WHERE request_id IN ({asked})", [known])])
        deleted = 0
        while step := self._delete(
            "predictions", "subject = ?", known
        ):  # fewer than CHUNK where others moved at that moment
            deleted += step
        return deleted

    def _rewrite(self, number: int, known: str) -> int:
        """Write a block again without a subject's requests, and delete their outcomes; the number of requests."""
        lock = "" if self.is_sqlite else " FOR UPDATE"
        with self._transaction() as cursor:
            found = cursor.execute(
                self._sql(f"SELECT about, content FROM prediction_blocks WHERE id = ?{lock}"), [number]
            ).fetchone()
            if found is None:
                return 0
            with whole(number):
                columns = *about_of(found[0]), *content_of(found[1])
            records = [Prediction(*one) for one in zip(*columns, strict=True)]
            kept = [one for one in records if one.subject != known]
            condition, ids = self.among("request_id", [one.request_id for one in records if one.subject == known])
            cursor.execute(self._sql(f"DELETE FROM outcomes WHERE {condition}"), [ids])
            if kept:
                frame = frame_of(kept)
                cursor.execute(
                    self._sql(
                        "UPDATE prediction_blocks SET requests = ?, rows = ?, first_time = ?, last_time = ?, about = ?, content = ?"
                        " WHERE id = ?"
                    ),
                    (*frame[:4], pack([frame.about]), pack([frame.content]), number),
                )
            else:
                cursor.execute(self._sql("DELETE FROM prediction_blocks WHERE id = ?"), [number])
            return len(records) - len(kept)

    def _delete(self, table: str, condition: str, value: Any) -> int:
        """Delete at most CHUNK rows, and return how many were deleted."""
        chosen = f"SELECT {self._place} FROM {table} WHERE {condition} LIMIT {CHUNK}"
        with self._transaction() as cursor:
            cursor.execute(self._sql(f"DELETE FROM {table} WHERE {self._place} IN ({chosen})"), [value])
            return cursor.rowcount

    def _sql(self, statement: str) -> str:
        return statement if self.is_sqlite else statement.replace("?", "%s")

    def _unsaid(self, words: str) -> str:
        """A driver's message without anything that may be the password, even when the URL does not quote it correctly."""
        hidden = re.sub(r"://\S*@", "://…@", words)
        secret = self._url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        for piece in re.split(r"[@:/?#]", secret):
            hidden = hidden.replace(piece, "…") if len(piece) > 2 else hidden
        return hidden

    @contextlib.contextmanager
    def _transaction(self, writes: bool = True) -> Iterator[Any]:
        """A cursor; what was done with it is committed at the end, or undone when it raises."""
        with self._told():
            cursor = self._connection.cursor()
            try:
                if writes and self.is_sqlite:
                    cursor.execute("BEGIN IMMEDIATE")  # one that reads first may find that it can no longer write
                yield cursor
                self._connection.commit()
            except BaseException:
                with contextlib.suppress(self._driver.Error):
                    self._connection.rollback()
                raise
            finally:
                cursor.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of either driver into ours, without parts of the URL."""
        try:
            yield
        except (self._driver.Error, OSError) as error:
            words = " ".join(str(error).split()) or type(error).__name__
            refused = isinstance(error, (self._driver.DataError, self._driver.IntegrityError))
            raise (RefusedError if refused else StoreError)(self._unsaid(words)[:300]) from None


def _moved(old: tuple) -> Prediction:
    request_id, at, caller, subject, rows, latency, features, answers, _, _ = old
    return Prediction(request_id, at, caller, subject, "served", rows, latency, features.encode(), answers.encode())


@contextlib.contextmanager
def whole(number: int) -> Iterator[None]:
    """Name the block that cannot be read: raises StoreError."""
    try:
        yield
    except DamagedError as error:
        words = f"block {number} of the table prediction_blocks is damaged ({error})"
        raise StoreError(f"{words}; restore it from a backup, or delete that row") from error


def _postgres(driver: Any, url: str) -> Any:
    """A connection that times out within seconds when the server stops responding."""
    limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "options": "-c statement_timeout=30000"}
    return driver.connect(url, **limits)


def database(environment: Mapping[str, str], existing: bool = False) -> str:
    """The database that SLIPWAY_DATABASE_URL names; raises StoreError where it names none, or no `existing` file.

    A mistyped path would else be an empty log, of which all seems well.
    """
    url = environment.get("SLIPWAY_DATABASE_URL", "")
    if not url:
        raise StoreError("SLIPWAY_DATABASE_URL is not set; it names the database of the prediction log")
    if not re.match(DATABASE, url):
        raise StoreError(NO_DATABASE)
    if existing and url.startswith("sqlite:") and not _path(url).exists():
        raise StoreError(f"{_path(url)}: No such file or directory; the service makes it when it first answers")
    return url


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _identity(url: str) -> tuple[int, int] | None:
    """The identity of the file that has this name now; None when there is none."""
    try:
        found = _path(url).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _sqlite(url: str) -> sqlite3.Connection:
    path = _path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # the log is private: only the owner may read it
    connection = sqlite3.connect(path, timeout=5)
    connection.execute("PRAGMA page_size = 8192")  # for a new file; the features of a batch are long
    # Readers and the writer do not block each other, and a power cut loses at most the last moments.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # overwrites what is deleted; not the default of every SQLite
    return connection


def main(argv: list[str] | None = None) -> int:
    """Delete from the log and print how many; return 1 with one line on standard error when that fails."""
    parser = argparse.ArgumentParser(prog="python -m serving.log.store", description="Delete from the prediction log.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    older = verbs.add_parser("delete-older", help="what is older than so many days")
    older.add_argument("--days", type=_days, required=True)
    subject = verbs.add_parser("delete-subject", help="all predictions about one subject")
    subject.add_argument("--subject", required=True, help="as requests named it")
    args = parser.parse_args(argv)
    try:
        store = Store(database(os.environ, existing=True))
        if args.verb == "delete-older":
            deleted = store.delete_older(now() - args.days * DAY)
        else:
            deleted = store.delete_subject(args.subject)
        store.close()
    except (StoreError, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{deleted} predictions deleted")
    return 0


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < 100_000:
        raise ValueError(text)
    return days


if __name__ == "__main__":
    sys.exit(main())
