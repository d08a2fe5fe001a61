"""The prediction log in a database: requests, answers, and the outcomes reported later.

    python -m serving.log.store delete-older --days 90
    python -m serving.log.store delete-subject --subject=customer-17

SLIPWAY_DATABASE_URL names the database: sqlite:///PATH (embedded) or postgresql://… (for teams).
"""

import argparse
import contextlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from serving.log.identity import identity

CHUNK = 1000  # rows deleted in one transaction; records are written between two of them


class StoreError(Exception):
    """The database cannot be used; the message never contains its password."""


class RefusedError(StoreError):
    """The database answers, but refuses these records."""


class Prediction(NamedTuple):
    """One answered request; a batch is one record. `features` and `answers` are JSON lists in UTF-8, one item per row."""

    request_id: str
    time: float  # seconds since 1970, UTC
    caller: str
    subject: str | None
    rows: int
    features: bytes
    answers: bytes
    latency_ms: float


class Outcome(NamedTuple):
    """The true outcome for one row of a request, as JSON text or number."""

    request_id: str
    row_index: int
    outcome: str
    time: float
    caller: str


_TABLES = """
CREATE TABLE IF NOT EXISTS predictions (
    request_id TEXT NOT NULL,
    time DOUBLE PRECISION NOT NULL,
    caller TEXT NOT NULL,
    subject TEXT,
    rows INTEGER NOT NULL,
    features {json} NOT NULL,
    answers {json} NOT NULL,
    latency_ms DOUBLE PRECISION NOT NULL,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS predictions_time ON predictions (time);
CREATE INDEX IF NOT EXISTS predictions_subject ON predictions (subject) WHERE subject IS NOT NULL;
CREATE TABLE IF NOT EXISTS outcomes (
    request_id TEXT NOT NULL,
    row_index INTEGER NOT NULL,
    outcome {json} NOT NULL,
    time DOUBLE PRECISION NOT NULL,
    caller TEXT NOT NULL,
    PRIMARY KEY (request_id, row_index)
);
CREATE INDEX IF NOT EXISTS outcomes_time ON outcomes (time)
"""
_UPSERT = (
    " ON CONFLICT (request_id, row_index)"
    " DO UPDATE SET outcome = excluded.outcome, time = excluded.time, caller = excluded.caller"
)


class Store:
    """A connection to the prediction log; creates missing tables."""

    def __init__(self, url: str, model: str = "", version: str = ""):
        """Connect, to write predictions of this version of a model; raises StoreError."""
        self._url = url
        self._sqlite = url.startswith("sqlite:")
        self._mark, self._place = ("?", "rowid") if self._sqlite else ("%s", "ctid")
        # Constant values are part of the statement, and the database converts bytes to text: at thousands of rows a
        # second, each value that Python handles counts.
        texts = {"features", "answers"} if self._sqlite else set()
        values = [f"CAST({self._mark} AS TEXT)" if name in texts else self._mark for name in Prediction._fields]
        about = ", ".join(
            "'" + name.replace("'", "''").replace("%", "%%" if "%" in self._mark else "%") + "'"
            for name in (model, version)
        )
        fields = ", ".join((*Prediction._fields, "model", "model_version"))
        self._insert_prediction = f"INSERT INTO predictions ({fields}) VALUES ({', '.join(values)}, {about})"
        marks = ", ".join([self._mark] * len(Outcome._fields))
        self._insert_outcome = f"INSERT INTO outcomes ({', '.join(Outcome._fields)}) VALUES ({marks}){_UPSERT}"
        self._driver: Any = sqlite3
        if not self._sqlite:
            import psycopg  # only here: importing it takes a fifth of a service's start-up time

            self._driver = psycopg
        with self._told():
            self._connection = _sqlite(url) if self._sqlite else _postgres(self._driver, url)
            for statement in _TABLES.format(json="TEXT" if self._sqlite else "JSON").split(";"):
                self._connection.execute(statement)
            self._connection.commit()
            self._file = _identity(url) if self._sqlite else None

    def gone(self) -> bool:
        """Whether the database file was deleted, moved or replaced, so that new records would not be in the file of that name."""
        return self._sqlite and self._file != _identity(self._url)

    def insert(self, predictions: Sequence[Sequence[Any]], outcomes: Sequence[Sequence[Any]] = ()) -> None:
        """Write all records or none, with the fields of Prediction and Outcome in order; raises StoreError."""
        if not self._sqlite:  # PostgreSQL's driver does not accept bytes as text
            predictions = [(*one[:5], one[5].decode(), one[6].decode(), one[7]) for one in predictions]
        with self._told(), self._transaction() as cursor:
            if predictions:
                cursor.executemany(self._insert_prediction, predictions)
            if outcomes:
                cursor.executemany(self._insert_outcome, outcomes)

    def delete_older(self, before: float, steps: int | None = None) -> int:
        """Delete predictions and outcomes from before this time (seconds since 1970); return the number of predictions.

        With `steps`, at most so many steps of CHUNK rows.
        """
        deleted = self._delete("predictions", f"time < {self._mark}", before, steps)
        self._delete("outcomes", f"time < {self._mark}", before, steps)
        return deleted

    def delete_subject(self, subject: str) -> int:
        """Delete all predictions about this subject and their outcomes; return the number of predictions."""
        known = identity(subject)
        with self._told(), self._transaction() as cursor:
            asked = f"SELECT request_id FROM predictions WHERE subject = {self._mark}"
            cursor.execute(f"DELETE FROM outcomes WHERE request_id IN ({asked})", [known])
        return self._delete("predictions", f"subject = {self._mark}", known)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self._connection.close()

    def _delete(self, table: str, condition: str, value: Any, steps: int | None = None) -> int:
        chosen = f"SELECT {self._place} FROM {table} WHERE {condition} LIMIT {CHUNK}"
        deleted = 0
        for step in count(1):
            with self._told(), self._transaction() as cursor:
                cursor.execute(f"DELETE FROM {table} WHERE {self._place} IN ({chosen})", [value])
                deleted += cursor.rowcount
                last = cursor.rowcount < CHUNK
            if last or step == steps:
                break
        return deleted

    def _unsaid(self, words: str) -> str:
        """A driver's message without anything that may be the password, even when the URL does not quote it correctly."""
        hidden = re.sub(r"://\S*@", "://…@", words)
        secret = self._url.partition("://")[2].rpartition("@")[0].partition(":")[2]
        for piece in re.split(r"[@:/?#]", secret):
            hidden = hidden.replace(piece, "…") if len(piece) > 2 else hidden
        return hidden

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Any]:
        cursor = self._connection.cursor()
        try:
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


def _postgres(driver: Any, url: str) -> Any:
    """A connection that times out within seconds when the server stops responding."""
    limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "options": "-c statement_timeout=30000"}
    return driver.connect(url, **limits)


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
    url = os.environ.get("SLIPWAY_DATABASE_URL", "")
    try:
        if not url:
            raise StoreError("SLIPWAY_DATABASE_URL is not set; it names the database of the prediction log")
        store = Store(url)
        if args.verb == "delete-older":
            deleted = store.delete_older(time.time() - args.days * 86_400)
        else:
            deleted = store.delete_subject(args.subject)
        store.close()
    except StoreError as error:
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
