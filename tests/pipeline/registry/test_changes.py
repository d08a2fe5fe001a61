"""Changes that a person made in MLflow's registry, found by comparing two states of its database."""

import sqlite3
from contextlib import closing

import pytest

from pipeline.registry import changes as registry_changes
from pipeline.registry.changes import Change

TABLES = """
CREATE TABLE registered_models (name TEXT, description TEXT);
CREATE TABLE registered_model_tags (name TEXT, key TEXT, value TEXT);
CREATE TABLE registered_model_aliases (name TEXT, alias TEXT, version INTEGER);
CREATE TABLE model_versions (name TEXT, version INTEGER, description TEXT, current_stage TEXT);
CREATE TABLE model_version_tags (name TEXT, version INTEGER, key TEXT, value TEXT);
INSERT INTO registered_models VALUES ('m', NULL);
INSERT INTO model_versions VALUES ('m', 1, '', 'None'), ('m', 2, 'card', 'None');
INSERT INTO registered_model_aliases VALUES ('m', 'production', 2), ('m', 'previous', 1);
"""


@pytest.fixture
def database(tmp_path):
    """A database like MLflow's, with the tables that are read here; call it with SQL to change it."""
    path = tmp_path / "mlflow.db"

    def change(script: str):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return registry_changes.read(path)

    change(TABLES)
    return change


@pytest.mark.parametrize(
    ("script", "change"),
    [
        ("UPDATE registered_model_aliases SET version = 1 WHERE alias = 'production'", ("alias production", "version 2", "version 1")),
        ("DELETE FROM registered_model_aliases WHERE alias = 'previous'", ("alias previous", "version 1", "")),
        ("INSERT INTO registered_model_aliases VALUES ('m', 'new', 1)", ("alias new", "", "version 1")),
        ("INSERT INTO model_version_tags VALUES ('m', 1, 'k', 'v')", ("version 1, tag k", "", "v")),
        ("UPDATE model_versions SET description = 'Ann' WHERE version = 2", ("version 2, description", "card", "Ann")),
        ("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 1", ("version 1", "registered", "")),
        ("UPDATE model_versions SET current_stage = 'Production' WHERE version = 1", ("version 1, stage", "", "Production")),
        ("UPDATE registered_models SET description = 'words'", ("description", "", "words")),
    ],
)  # fmt: skip
def test_every_change_in_the_registry_is_found(database, script, change):
    """Aliases, tags, descriptions, stages and versions, with the old and the new value."""
    assert registry_changes.compare(database(""), database(script)) == [Change("m", *change)]


def test_equal_states_have_no_changes(database):
    """Also after one was serialized as JSON."""
    assert registry_changes.compare([list(row) for row in database("")], database("")) == []


def test_set_alias_counts_as_moved_and_a_removed_one_does_not(database):
    """Only an alias that names a version of this model, with the exact name, causes a deployment."""
    before = database("")
    after = database(
        "DELETE FROM registered_model_aliases; INSERT INTO registered_model_aliases VALUES "
        "('m', 'staging', 1), ('m', 'Production', 1), ('other', 'production', 1)"
    )
    changes = registry_changes.compare(before, after)
    assert registry_changes.moved(changes, "m", ("production", "staging")) == ["staging"]


def test_table_has_one_clean_line_per_change(database):
    """Long and hostile values are shortened and cleaned; columns are aligned."""
    changes = registry_changes.compare(database(""), database(
        "UPDATE model_versions SET description = 'a\n\x1b[31mred' || hex(zeroblob(500)); DELETE FROM registered_model_aliases"
    ))  # fmt: skip
    lines = registry_changes.table(changes)
    assert len(lines) == len(changes) == 4
    assert all("\n" not in line and "\x1b" not in line and len(line) < 200 for line in lines)
    assert len({line.index(" → ") >= 0 for line in lines}) == 1 and registry_changes.table([]) == []


def test_foreign_database_has_no_changes(tmp_path):
    """Without a database, or with other tables, there is nothing to compare, and nothing fails."""
    assert registry_changes.read(tmp_path / "absent.db") == [] and not (tmp_path / "absent.db").exists()
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE registered_models (name TEXT)")
    assert registry_changes.read(tmp_path / "other.db") == []
