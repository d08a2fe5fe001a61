"""`make replay` and `make replay-candidate`: bad input in words, a log that is out of reach, and a candidate that is never held up."""

import json
from types import SimpleNamespace

import pytest

from pipeline import stage_files
from pipeline.artifacts import write_json
from pipeline.experiments.replay import run, state
from pipeline.monitor.plan import Trained
from scripts import replay as verb
from tests.pipeline.experiments.replayed import challenger, fill, settings

ALL = ("replay.html", "replay.json", "replay.md")


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder with a candidate, version 3 in production with 60 rows in its log, and replay_days that a test may set."""
    build = tmp_path / "build"
    model = challenger(build / "model")
    monkeypatch.setitem(stage_files.HOLDS, "run.json", dict)  # of which one key is read
    write_json(build / "run.json", {"model_digest": "d" * 64})
    found = settings(model.contract)
    found = found.model_copy(update={"gate": found.gate.model_copy(update={"replay_days": 7})})
    live = SimpleNamespace(number="3")
    url = f"sqlite:///{tmp_path}/log.db"
    fill(url, model, at=verb.time.time() - 2 * 86_400)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    for module in (verb, run):
        monkeypatch.setattr(module, "BUILD", build)
    monkeypatch.setattr(verb, "ROOT", tmp_path)
    monkeypatch.setattr(state, "FOLDER", tmp_path / "replay")
    monkeypatch.setattr(verb, "load_settings", lambda: found)
    monkeypatch.setattr(verb.sync, "refuse_unknown", lambda: None)
    monkeypatch.setattr(verb.versions, "connect", lambda settings: None)
    monkeypatch.setattr(verb.versions, "by_alias", lambda client, name, alias: live)
    monkeypatch.setattr(verb, "trained_versions", lambda client, settings: ({"3": Trained(model.plain, {})}, {}))
    monkeypatch.setattr(verb.bundle, "digest", lambda folder: "d" * 64)
    return build


def test_the_candidate_is_replayed_on_the_days_of_the_settings(build, capsys):
    """Page, Markdown and JSON are there, and nothing is kept of single rows."""
    assert verb.main(["--candidate"]) == 0
    found = json.loads((build / "replay.json").read_text())
    assert (found["rows"], found["days"], found["digest"], found["note"]) == (60, 7, "d" * 64, "")
    assert all((build / name).is_file() for name in ALL) and not any(state.FOLDER.iterdir())
    assert "the candidate on 60 rows of production" in capsys.readouterr().out


def test_replay_days_of_0_replays_nothing(build, monkeypatch, capsys):
    """And an older result does not speak for this candidate."""
    (build / "replay.json").write_text("{}")
    off = verb.load_settings()
    off = off.model_copy(update={"gate": off.gate.model_copy(update={"replay_days": 0})})
    monkeypatch.setattr(verb, "load_settings", lambda: off)
    assert verb.main(["--candidate"]) == 0
    assert "replay_days is 0" in capsys.readouterr().out and not (build / "replay.json").exists()


@pytest.mark.parametrize("url", ["", "sqlite:////nowhere/log.db", "postgresql://anna:s3cret@127.0.0.1:1/log"])
def test_a_log_out_of_reach_is_a_line_in_the_report(build, monkeypatch, url, capsys):
    """The check is not red for it, and neither host nor password of the database is repeated."""
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    monkeypatch.setattr(verb.watch.targets, "choose", lambda settings: SimpleNamespace(HERE=False))
    monkeypatch.setattr(verb.watch, "_out_of_reach", lambda environment, settings: True)
    assert verb.main(["--candidate"]) == 0
    note = json.loads((build / "replay.json").read_text())["note"]
    assert note.startswith("The rows of production were not replayed: ") and "127.0.0.1" not in note
    assert note in capsys.readouterr().out and note in (build / "replay.html").read_text()


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "x", "366", "", "٣"])
def test_days_are_a_whole_number_from_1(build, days, capsys):
    """Anything else is said to be none."""
    with pytest.raises(SystemExit):
        verb.main(["--version", "3", f"--days={days}"])
    assert "is no whole number of days from 1 to 365" in capsys.readouterr().err


def test_without_a_version_it_says_which_word_is_missing(build, capsys):
    """Nobody is shown the usage of a program that a verb calls."""
    assert verb.main([]) == 1
    assert "`make replay VERSION=8`" in capsys.readouterr().err


def test_a_model_that_the_service_cannot_load_is_named(build, capsys):
    """In words, without a result."""
    (build / "model" / "model.onnx").write_bytes(b"no model")
    assert verb.main(["--candidate"]) == 0
    note = json.loads((build / "replay.json").read_text())["note"]
    assert "the candidate cannot be asked here" in note
