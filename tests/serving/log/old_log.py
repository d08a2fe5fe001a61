"""The prediction log as older services wrote it: a table with one row per request."""

import sqlite3
from contextlib import closing

import psycopg

from serving.log.blocks import frame_of, pack

COLUMNS = (
    "request_id TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, caller TEXT NOT NULL, subject TEXT, rows INTEGER NOT NULL,"
    " features {json} NOT NULL, answers {json} NOT NULL, latency_ms DOUBLE PRECISION NOT NULL, model TEXT NOT NULL,"
    " model_version TEXT NOT NULL"
)


def connected(url: str) -> "sqlite3.Connection | psycopg.Connection":
    """A connection to the database, by its driver alone."""
    return sqlite3.connect(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else psycopg.connect(url)


def write_old(url: str, records: list[tuple]) -> None:
    """Add records with these ids, times, subjects and versions to the old table, which is made if it is missing."""
    json, mark = ("TEXT", "?") if url.startswith("sqlite") else ("JSON", "%s")
    insert = f"INSERT INTO predictions VALUES ({mark}, {mark}, 'c', {mark}, 1, '[[1.50]]', '[2]', 0.5, 'cars', {mark})"
    with closing(connected(url)) as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS predictions ({COLUMNS.format(json=json)})")
        connection.cursor().executemany(insert, records)
        connection.commit()


# The tables of services that knew no experiments, and what these services write to them.
_TABLES = (
    "CREATE TABLE prediction_blocks (id {id} PRIMARY KEY, first_time DOUBLE PRECISION NOT NULL, last_time DOUBLE PRECISION NOT NULL,"
    " requests INTEGER NOT NULL, rows INTEGER NOT NULL, model TEXT NOT NULL, model_version TEXT NOT NULL, about {bytes} NOT NULL,"
    " content {bytes} NOT NULL)",
    "CREATE TABLE outcomes (request_id TEXT NOT NULL, row_index INTEGER NOT NULL, outcome {json} NOT NULL,"
    " time DOUBLE PRECISION NOT NULL, caller TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (request_id, row_index))",
    "CREATE TABLE refusals (day INTEGER NOT NULL, model TEXT NOT NULL, model_version TEXT NOT NULL, status INTEGER NOT NULL,"
    " requests BIGINT NOT NULL, PRIMARY KEY (day, model, model_version, status))",
)
_BLOCK = (
    "INSERT INTO prediction_blocks (first_time, last_time, requests, rows, model, model_version, about, content)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_OUTCOME = (
    "INSERT INTO outcomes (request_id, row_index, outcome, time, caller) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (request_id, row_index) DO UPDATE SET outcome = excluded.outcome, time = excluded.time,"
    " caller = excluded.caller, sent = outcomes.sent + 1"
)
_REFUSAL = (
    "INSERT INTO refusals (day, model, model_version, status, requests) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (day, model, model_version, status) DO UPDATE SET requests = refusals.requests + excluded.requests"
)


def make_older(url: str) -> None:
    """Make the tables of a service that knew no experiments."""
    sqlite = {"id": "INTEGER", "bytes": "BLOB", "json": "TEXT"}
    postgres = {"id": "BIGINT GENERATED ALWAYS AS IDENTITY", "bytes": "BYTEA", "json": "JSON"}
    with closing(connected(url)) as connection:
        for statement in _TABLES:
            connection.execute(statement.format(**(sqlite if url.startswith("sqlite") else postgres)))
        connection.commit()


def write_older(url: str, request_id: str, outcome: str | None = None) -> None:
    """Write a request at second 1 as such a service does, with a refusal, and with an outcome in JSON at second 2."""
    frame = frame_of([(request_id, 1.0, "c", None, "served", 1, 0.5, b"[[1.5]]", b"[2]")])
    pieces = pack([frame.about]), pack([frame.content])
    work = [(_BLOCK, (1.0, 1.0, 1, 1, "cars", "1", *pieces)), (_REFUSAL, (0, "cars", "1", 422, 1))]
    if outcome is not None:
        work.append((_OUTCOME, (request_id, 0, outcome, 2.0, "c")))
    with closing(connected(url)) as connection:
        for statement, values in work:
            connection.execute(statement if url.startswith("sqlite") else statement.replace("?", "%s"), values)
        connection.commit()
