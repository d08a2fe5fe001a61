"""A challenger in the shadow that crashes, hangs, leaks or is slow: callers are answered by A, and it is counted."""

import signal
import time
from contextlib import contextmanager

import psutil
import pytest

from tests.serving.experiment.carried import make_experiment
from tests.serving.experiment.odd_service import ODD_VALUE
from tests.serving.experiment.test_shadow import count, rows_of, shadow_of, shadowed, until

ROW = [12.5, -0.5, 4, True]
ODD = [ODD_VALUE, *ROW[1:]]


@contextmanager
def _odd(tmp_path, how, *options):
    folder = make_experiment(tmp_path / "bundle", "shadow")
    with shadowed(folder, *options, module="tests.serving.experiment.odd_service", ODD=how) as service:
        yield service


def _ask(service, row):
    """Ask for one row; the answer must be A's."""
    answer = service.predict(row)
    assert answer.status_code == 200
    assert answer.json()["model_version"] == "3"
    return answer.json()["request_id"]


def _answered_again(service):
    """Whether a usual row is answered in the shadow."""
    before = count(service, "shadow_rows_total")
    _ask(service, ROW)
    time.sleep(0.2)
    return count(service, "shadow_rows_total") > before


@pytest.mark.parametrize(("how", "word"), [("crash", "by signal SIGABRT"), ("hang", "has not moved")])
def test_challenger_that_crashes_or_hangs_is_started_again(tmp_path, how, word):
    """The row that did it is dropped and counted, the workers stay the same, and the next rows are answered."""
    with _odd(tmp_path, how, "--workers", "2") as service:
        _ask(service, ROW)
        until(lambda: count(service, "shadow_rows_total") == 1)
        shadow = shadow_of(service)
        others = set(psutil.Process(service.process.pid).children()) - {shadow}
        _ask(service, ODD)
        until(lambda: count(service, "shadow_restarts_total") == 1)
        assert word in service.logged
        until(lambda: _answered_again(service))
        assert count(service, "shadow_rows_dropped_total") >= 1
        assert others < set(psutil.Process(service.process.pid).children())
        _ends_well(service)


@pytest.mark.parametrize("how", ["leak", "fill"])
def test_challenger_that_leaks_is_ended(tmp_path, how):
    """It ends when it takes too much memory, bit by bit or at once, and is started again with what it takes at first."""
    with _odd(tmp_path, how) as service:
        until(lambda: _answered_again(service))
        shadow = shadow_of(service)

        def ended():
            _ask(service, ODD)
            assert not shadow.is_running() or shadow.memory_info().rss < 500_000_000
            return count(service, "shadow_restarts_total") > 0

        until(ended)
        assert "more memory than at its start" in service.logged
        until(lambda: _answered_again(service))


def test_slow_challenger_loses_rows_and_delays_nobody(tmp_path):
    """It answers what it can; what its queue has no room for is dropped and counted, and nothing waits for it at the end."""
    with _odd(tmp_path, "slow") as service:
        until(lambda: _answered_again(service))
        many = [ODD] * 1000  # takes it ten seconds; the channel has room for a few of these batches, the queue for one
        for _ in range(8):
            assert service.post("/predict/batch", {"features": many}).json()["model_version"] == "3"
            time.sleep(0.1)
        until(lambda: count(service, "shadow_rows_dropped_total") >= 1000)
        assert count(service, "shadow_restarts_total") == 0
        _ends_well(service)


def test_challenger_that_cannot_be_loaded_takes_nobody_with_it(tmp_path):
    """Its process says why in one line and is tried again; callers are answered."""
    with _odd(tmp_path, "refuse") as service:
        until(lambda: count(service, "shadow_restarts_total") >= 2)
        _ask(service, ROW)
        assert "the challenger cannot answer in the shadow: no such library" in service.logged
        assert "Traceback" not in service.logged
        _ends_well(service)
    assert len(rows_of(tmp_path / "bundle", "A")) == 1


def _ends_well(service):
    """SIGTERM ends all its processes in a moment, with status 0."""
    processes = psutil.Process(service.process.pid).children()
    service.hang_up()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(20) == 0
    assert not psutil.wait_procs(processes, 5)[1]
