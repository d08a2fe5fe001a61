"""`make backfill` reads a real log, where it is, and keeps what callers reported of old enough requests."""

import json
from contextlib import closing
from types import SimpleNamespace

import msgspec
import pandas as pd
import pytest

from pipeline.monitor import backfill
from pipeline.monitor.plan import Trained
from pipeline.settings import load_settings
from scripts import backfill as verb
from serving.counts.table import date
from serving.log.store import Store
from tests.serving.counts.logged import DAY, MONDAY, asked, contract, told


@pytest.fixture
def production(tmp_path, monkeypatch):
    """Two requests of callers and one of delivery's own, with outcomes; it is Tuesday noon, and outcomes take a day."""
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url, "cars", "1")) as log:
        days = {"old": ("served", MONDAY - DAY / 2), "new": ("served", MONDAY + DAY), "own": ("test", MONDAY - DAY / 2)}
        for name, (role, at) in days.items():
            log.insert([asked(name, at, [[5.0, True, "red"]], [0.9], role)], [told(name, at + DAY / 4, "no")])
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    monkeypatch.setattr(verb, "load_settings", settings)
    monkeypatch.setattr(verb.time, "time", lambda: MONDAY + 1.5 * DAY)
    monkeypatch.setattr(verb.sync, "refuse_unknown", lambda: None)
    monkeypatch.setattr(verb.versions, "connect", lambda settings: None)
    monkeypatch.setattr(verb.versions, "by_alias", lambda client, name, alias: SimpleNamespace(number="1"))
    papers = Trained(msgspec.to_builtins(contract()), {})
    monkeypatch.setattr(verb, "trained_versions", lambda client, settings: ({"1": papers}, {}))
    monkeypatch.setattr(backfill, "FOLDER", tmp_path / "data" / "production")
    monkeypatch.setattr(verb, "BUILD", tmp_path / "build")
    return tmp_path / "data" / "production"


def settings():
    """Those of the example, of another model."""
    found = load_settings("tests/example/pipeline.toml")
    data = found.data.model_copy(update={"target": "sold", "positive": "yes"})
    deploy = found.deploy.model_copy(update={"target": "process"})
    return found.model_copy(update={"name": "cars", "data": data, "deploy": deploy})


def test_the_log_becomes_labelled_rows(production, capsys):
    """Only the caller's request from before the delay of labels; delivery's own is left out, and the screen says so."""
    assert verb.main([]) == 0
    rows = pd.read_parquet(production / backfill.ROWS)
    assert rows["id"].tolist() == ["old:0"] and rows["sold"].tolist() == ["no"] and rows["colour"].tolist() == ["red"]
    assert json.loads((production / backfill.MANIFEST).read_text())["before"] == date(MONDAY // DAY)
    shown = capsys.readouterr().out
    assert "1 labelled rows" in shown and "left out: 1 not of callers" in shown


def test_without_a_log_it_says_so(production, capsys, monkeypatch):
    """Nothing is written, and the exit status is 0: a fork that has no log yet is not red."""
    monkeypatch.setattr(verb.watch, "lacking", lambda environment, settings: "there is no prediction log to read")
    assert verb.main([]) == 0
    assert "there is no prediction log" in capsys.readouterr().out and not production.exists()
