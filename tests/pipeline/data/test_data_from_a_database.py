"""The load() of docs/data-from-a-database.md, as it stands there, on a real SQLite and a real PostgreSQL."""

import re
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy

from pipeline.data.dataset import take_apart
from pipeline.settings import load_settings
from tests.serving.postgres import postgres

ROOT = Path(__file__).resolve().parents[3]
DAYS = pd.to_datetime(["2025-11-28 10:00", "2025-11-29 23:59", "2025-11-30 00:00", "2025-11-30 08:00"])
ROWS = pd.DataFrame(
    {
        "id": ["b", "a", "c", "d"],
        "mean_radius": [17.9, None, 20.1, 11.4],
        "mean_texture": [10, 17, 21, 20],
        "diagnosis": ["malignant", "benign", "malignant", "benign"],
        "recorded_at": DAYS,
    }
)


def example():
    """The code of the page, run."""
    page = (ROOT / "docs/data-from-a-database.md").read_text(encoding="utf-8")
    scope: dict = {}
    exec(compile(re.search(r"```python\n(.+?)```", page, re.S)[1], "docs/data-from-a-database.md", "exec"), scope)
    return scope["load"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.needs("postgres"))])
def database(request, tmp_path, monkeypatch):
    """A database with the table, which load() is told of."""
    if request.param == "sqlite":
        yield from told(f"sqlite:///{tmp_path / 'clinic.db'}", monkeypatch)
    else:
        with postgres(tmp_path) as (_, _, url):
            yield from told(url.replace("postgresql://", "postgresql+psycopg://"), monkeypatch)


def told(url, monkeypatch):
    """Write the rows, and name the database."""
    engine = sqlalchemy.create_engine(url)
    ROWS.to_sql("examinations", engine, index=False)
    monkeypatch.setenv("SLIPWAY_DATA_URL", url)
    yield engine
    engine.dispose()


def test_rows_are_those_of_before_the_day(database, monkeypatch):
    """In the order of their ids; what became known on the day itself is not among them."""
    monkeypatch.setenv("SLIPWAY_DATA_AS_OF", "2025-11-30")
    assert example()()["id"].tolist() == ["a", "b"]
    monkeypatch.setenv("SLIPWAY_DATA_AS_OF", "2025-12-01")
    assert example()()["id"].tolist() == ["a", "b", "c", "d"]


def test_an_earlier_day_gives_the_same_data_after_new_rows(database, monkeypatch):
    """Hash for hash: what is inserted later changes nothing of what was known then."""
    monkeypatch.setenv("SLIPWAY_DATA_AS_OF", "2025-12-01")
    settings = load_settings(ROOT / "tests/example/pipeline.toml")
    before = take_apart(example()(), settings).hash
    later = ROWS.assign(id=ROWS["id"] + "2", recorded_at=pd.Timestamp("2025-12-01 09:00"))
    later.to_sql("examinations", database, index=False, if_exists="append")
    assert take_apart(example()(), settings).hash == before
    monkeypatch.delenv("SLIPWAY_DATA_AS_OF")
    assert len(example()()) == 8  # today is later than all of them
