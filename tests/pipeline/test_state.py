"""State files that hold anything else than they should: a warning that names the file, and no traceback."""

import json

import pytest

from delivery.targets import process
from pipeline import processes, state
from pipeline.errors import BusyError
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import heartbeat, sync
from pipeline.settings import load_settings

SERVER = {"uri": "http://127.0.0.1:5000", "pid": 1, "created": 1.5}
WRONG = {
    "a list": b"[1, 2]",
    "a string": b'"text"',
    "null": b"null",
    "a number": b"7",
    "an empty object": b"{}",
    "a missing key": json.dumps({"uri": "x", "pid": 1}).encode(),
    "a wrong type": json.dumps(SERVER | {"pid": "one"}).encode(),
    "other bytes": b"\xff\xfe\x00\x01",
    "half of it": json.dumps(SERVER).encode()[:20],
    "nothing": b"",
    "deep nesting": b"[" * 100_000,
}


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    """Each test is told of each file."""
    monkeypatch.setattr(state, "_told", set())


@pytest.mark.parametrize("content", WRONG.values(), ids=list(WRONG))
def test_a_damaged_file_is_named_once_and_counts_as_absent(tmp_path, capsys, content):
    """Whatever it holds: None, and one warning with the file, the reason and what to do."""
    (tmp_path / "server.json").write_bytes(content)
    for _ in range(2):
        assert state.read(tmp_path / "server.json", state.Server, "start it again") is None
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1 and "server.json is damaged (" in said and said.endswith("; start it again\n")


def test_a_file_that_is_whole_is_returned_as_it_stands(tmp_path, capsys):
    """With keys of a later release; one that is absent is None, without a word."""
    (tmp_path / "server.json").write_text(json.dumps(SERVER | {"later": 1}), encoding="utf-8")
    assert state.read(tmp_path / "server.json", state.Server, "") == SERVER | {"later": 1}
    assert state.read(tmp_path / "other.json", state.Server, "") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("content", WRONG.values(), ids=list(WRONG))
def test_every_reader_of_a_state_file_takes_a_damaged_one(tmp_path, monkeypatch, content):
    """MLflow's server, what serves, the carried state, a lease and a lock: none raises anything but its own words."""
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path)
    monkeypatch.setattr(mlflow_server, "STATE", tmp_path / "server.json")
    monkeypatch.setattr(heartbeat, "RECORD", tmp_path / "lease.json")
    monkeypatch.setattr(process, "STATE", tmp_path)
    monkeypatch.setattr(processes, "STATE", tmp_path)
    for name in ("server.json", "lease.json", "staging.json", "carried.json", "delivery.lock", sync.snapshot.RECORD):
        (tmp_path / name).write_bytes(content)
    assert mlflow_server.running() is None
    assert heartbeat.held() is None and heartbeat.end() is False
    assert sync.record() == {}
    assert process.serving("staging", load_settings()) is None
    with (tmp_path / "delivery.lock").open("rb+") as file:
        processes.fcntl.flock(file, processes.fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another command is at work here"), processes.lock("delivery", "a test"):
            pass
    with processes.lock("delivery", "a test"):
        pass
