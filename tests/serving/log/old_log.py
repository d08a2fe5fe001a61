"""The prediction log as older services wrote it: a table with one row per request."""

import sqlite3
from contextlib import closing

import psycopg

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
