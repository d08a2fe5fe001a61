"""Databases for the tests of the prediction log."""

import psycopg
import pytest

from tests.serving.postgres import postgres

TABLES = "prediction_blocks, outcomes, refusals, experiment_stops, predictions"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL server: functions to start and stop it, and its URL."""
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def postgres_url(server):
    """An empty database of PostgreSQL."""
    _, _, url = server
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLES}")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    return request.getfixturevalue("postgres_url")
