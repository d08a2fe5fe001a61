"""Processes that outlive their starter, and locks that keep commands apart."""

import subprocess
import sys
import time

import psutil
import pytest

from pipeline import processes
from pipeline.errors import BusyError


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Locks of this test only."""
    monkeypatch.setattr(processes, "STATE", tmp_path)
    return tmp_path


def test_started_process_is_found_by_its_record_until_it_ends(tmp_path):
    """The record of a running process finds it; once it has ended, or its id belongs to another, it finds nothing."""
    process = processes.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "logs" / "x.log")
    record = processes.identity(process)
    assert processes.find(record) == process
    other = {"created": record["created"] - 100, "after_boot": 0.5}
    assert processes.find({"pid": record["pid"]} | other) is None
    processes.stop(process)
    assert processes.find(record) is None
    assert processes.find({}) is None


def test_process_that_ignores_the_request_is_killed(tmp_path):
    """A process that will not end when asked is killed after its grace."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    process = processes.start([sys.executable, "-c", code], tmp_path / "x.log")
    deadline = time.monotonic() + 20
    while "up" not in (tmp_path / "x.log").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    processes.stop(process, grace_seconds=0.2)
    assert not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE


def test_stopping_what_has_ended_is_quiet(tmp_path):
    """A process that ended by itself in the meantime is no error."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
    process = psutil.Process(child.pid)
    child.wait()
    processes.stop(process)


def test_no_free_port_is_an_error(monkeypatch):
    """Where no port can be had, looking for one ends."""

    def refuse(*_):
        raise OSError

    monkeypatch.setattr(processes.socket.socket, "bind", refuse)
    with pytest.raises(OSError, match="no free port found from 20000 to 32767"):
        processes.free_port()


def test_free_port_becomes_taken_when_something_listens():
    """A port counts as taken exactly while something listens on it."""
    import socket

    port = processes.free_port()
    assert not processes.port_taken(port)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert processes.port_taken(port)


def test_second_holder_is_refused_by_the_name_of_the_first(state):
    """Who cannot wait is told who holds the lock, and by which process."""
    with processes.lock("ship", "make ship"):
        held = processes.lock("ship", "another")
        with pytest.raises(BusyError, match=r"`make ship` is at work here \(process \d+"), held:
            pass


def test_lock_of_a_killed_process_is_free(state):
    """When the holder is killed, the next one gets the lock; a damaged note of the holder is no obstacle."""
    code = (
        "import sys, time; from pathlib import Path; from pipeline import processes; processes.STATE = Path(sys.argv[1])\n"
        "with processes.lock('ship', 'make ship'):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline().strip() == "held"
        (state / "ship.lock").write_text("{")
        with pytest.raises(BusyError, match="another command"), processes.lock("ship", "b"):
            pass
        child.kill()
        child.wait()
        with processes.lock("ship", "c", wait_seconds=5):
            assert "c" in (state / "ship.lock").read_text()


def test_who_waits_is_told_for_whom(state, capsys):
    """A command that waits longer than a second says for whom it waits."""
    code = (
        "import sys, time; from pathlib import Path; from pipeline import processes; processes.STATE = Path(sys.argv[1])\n"
        "with processes.lock('delivery', 'deploy to staging'):\n    print('held', flush=True); time.sleep(1.8)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        with processes.lock("delivery", "promote", wait_seconds=20):
            pass
    assert "waiting: `deploy to staging` is at work here" in capsys.readouterr().out


def test_a_clock_that_is_set_does_not_end_a_process(tmp_path, monkeypatch):
    """The time of day at which a process began moves when the clock is set; the record finds it all the same."""
    process = processes.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "x.log")
    try:
        record = processes.identity(process)
        if "after_boot" not in record:
            pytest.skip("this system does not say how long after its start a process began")
        assert processes.find(record | {"created": record["created"] + 3600}) == process
        assert processes.find(record | {"boot": "another"}) is None
    finally:
        processes.stop(process)


def test_a_process_is_known_by_the_port_on_which_it_listens_itself(tmp_path):
    """Something listens on a port: that it is this process, and not another one, is what counts."""
    port = processes.free_port()
    code = (
        f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print('up', flush=True); time.sleep(60)"
    )
    mine = processes.start([sys.executable, "-c", code], tmp_path / "x.log")
    other = processes.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "y.log")
    try:
        deadline = time.monotonic() + 60
        while "up" not in (tmp_path / "x.log").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert processes.listens(mine, port) and not processes.listens(other, port)
    finally:
        processes.stop(mine)
        processes.stop(other)
    assert not processes.listens(mine, port)
