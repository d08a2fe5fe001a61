"""What a person changed in MLflow's model registry, by its SQLite database before and after: aliases, versions, tags, words.

Read from the file itself, so that a state which no server serves (what somebody else saved meanwhile) is read in the same way.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pipeline.evaluation.wording import clean

# Model, what of it, and its value. A deleted version stays in the database, under another name for its stage.
QUESTIONS = (
    "SELECT name, 'alias ' || alias, 'version ' || version FROM registered_model_aliases",
    "SELECT name, 'version ' || version, 'registered' FROM model_versions WHERE current_stage <> 'Deleted_Internal'",
    "SELECT name, 'version ' || version || ', stage', current_stage FROM model_versions "
    "WHERE current_stage NOT IN ('None', 'Deleted_Internal')",
    "SELECT name, 'version ' || version || ', description', description FROM model_versions WHERE description <> ''",
    "SELECT name, 'version ' || version || ', tag ' || key, value FROM model_version_tags",
    "SELECT name, 'description', description FROM registered_models WHERE description <> ''",
    "SELECT name, 'tag ' || key, value FROM registered_model_tags",
)
SHOWN = 60  # characters of a value
State = list[tuple[str, str, str]]


class Change(NamedTuple):
    """One thing of a registered model: what it was and what it is; "" for what is not there."""

    model: str
    what: str
    before: str
    after: str


def read(database: Path) -> State:
    """All that a model registry says; nothing of it where there is no database, or tables that are not known here."""
    found: State = []
    if not database.exists():
        return found
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        for question in QUESTIONS:
            try:
                found += [(str(model), str(what), str(value)) for model, what, value in connection.execute(question)]
            except sqlite3.DatabaseError as error:
                if "no such" not in str(error):
                    raise
    return found


def compare(before: Sequence[Sequence[str]], after: Sequence[Sequence[str]]) -> list[Change]:
    """What differs, by model and by what it is."""
    old, new = ({(model, what): value for model, what, value in state} for state in (before, after))
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return [Change(model, what, old.get((model, what), ""), new.get((model, what), "")) for model, what in changed]


def moved(changes: Sequence[Change], model: str, aliases: Sequence[str]) -> list[str]:
    """Which of the aliases of a model were set on a version, another one than before or for the first time."""
    return [
        alias for alias in aliases for one in changes if one.after and one[:2] == (model, f"alias {alias}")
    ]  # fmt: skip


def table(changes: Sequence[Change]) -> list[str]:
    """The changes as lines for a terminal, in columns."""
    rows = [(_short(one.model), _short(one.what), f"{_value(one.before)} → {_value(one.after)}") for one in changes]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else []
    return [f"  {model:<{widths[0]}}  {what:<{widths[1]}}  {value}" for model, what, value in rows]


def _value(value: str) -> str:
    return _short(value) or "nothing"


def _short(text: str) -> str:
    return clean(text, SHOWN)
