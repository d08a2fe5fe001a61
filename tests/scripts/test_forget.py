"""`make forget` says where else the subject may be."""

from types import SimpleNamespace

import pytest

from pipeline.comparison import recent
from scripts import forget

pytestmark = pytest.mark.quick


@pytest.fixture(autouse=True)
def replays(tmp_path, monkeypatch):
    """Where unfinished replays keep what they have done."""
    monkeypatch.setattr(forget.state, "FOLDER", tmp_path / "replay")
    return tmp_path / "replay"


def test_what_an_unfinished_replay_kept_is_deleted(replays, monkeypatch, capsys):
    """It may hold answers about the subject."""
    (replays / "production-7-d").mkdir(parents=True)
    (replays / "production-7-d" / "plan.json").write_text("{}")
    target = SimpleNamespace(on_log=lambda environment, settings, command: b"2 predictions deleted\n")
    monkeypatch.setattr(forget.targets, "choose", lambda settings: target)
    assert forget.main(["--environment", "production", "--subject", "anna"]) == 0
    assert "unfinished replay" in capsys.readouterr().out and not replays.exists()


@pytest.mark.parametrize("made", [True, False])
def test_rows_that_backfill_made_are_named(tmp_path, monkeypatch, capsys, made):
    """They may be about the subject, and leave with the next run of the verb; without that file nothing is said."""
    rows = tmp_path / "rows.parquet"
    if made:
        rows.write_bytes(b"")
    target = SimpleNamespace(on_log=lambda environment, settings, command: b"2 predictions deleted\n")
    monkeypatch.setattr(forget.targets, "choose", lambda settings: target)
    monkeypatch.setattr(recent, "ROWS", rows)
    monkeypatch.setattr(forget, "ROOT", tmp_path)
    assert forget.main(["--environment", "production", "--subject", "anna"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "production: 2 predictions deleted\n"
    assert ("rows.parquet may still have rows about the subject: `make backfill`" in shown.err) is made
