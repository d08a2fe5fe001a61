"""Several processes as one service: shared work, shared counters, and replacements that no client notices."""

import os
import re
import signal
import time

import psutil
import pytest

from tests.serving.bundles import make_bundle
from tests.serving.load import constant_load
from tests.serving.runtime.test_service_process import _start
from tests.serving.service import serving


def _workers(service):
    """The process ids of the workers."""
    return {child.pid for child in psutil.Process(service.process.pid).children()}


def _count(service, series):
    """The sum of a series over all its labels."""
    found = re.findall(rf"^{series}(?:{{.*}})? (\S+)$", service.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


def _until(true, seconds=15):
    """Wait until a condition is true, and fail after a timeout."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


@pytest.fixture
def pair(bundle):
    """A service of two workers."""
    with serving(bundle, "--workers", "2") as service:
        _until(lambda: _count(service, "slipway_workers") == 2)
        yield service


def test_all_workers_answer_and_count_together(pair):
    """Every request over new connections is counted once, whichever worker accepted it, and no two share an id."""
    ids = set()
    with constant_load(pair.url, pair.example, callers=6) as load:
        _until(lambda: load.requests >= 300)
    assert not load.failures
    for _ in range(40):
        pair.session.close()  # a new connection, for any worker
        ids.add(pair.predict(pair.example).headers["X-Request-ID"])
    assert len(ids) == 40
    assert len({one[:16] for one in ids}) == 2, "one worker answered everything"
    assert _count(pair, "slipway_predictions_total") == 40 + load.requests


def test_killed_worker_is_replaced_while_the_other_answers(pair):
    """kill -9 loses at most the requests in progress in this worker; the counters do not fall."""
    before, total = _workers(pair), _count(pair, "slipway_requests_total")
    os.kill(min(before), signal.SIGKILL)
    _until(lambda: len(_workers(pair)) == 2 and min(before) not in _workers(pair))
    with constant_load(pair.url, pair.example) as load:
        _until(lambda: load.requests >= 50)
    assert not load.failures
    assert _count(pair, "slipway_worker_restarts_total") == 1
    assert _count(pair, "slipway_requests_total") > total
    assert _count(pair, "slipway_requests_in_flight") == 1  # the request for the metrics itself


def test_restarts_of_a_failing_worker_back_off(bundle):
    """The only worker is killed again and again: it restarts each time, later each time, and then answers."""
    with serving(bundle) as service:
        began, killed = time.monotonic(), set()
        for _ in range(3):
            _until(lambda: _workers(service) - killed)
            (worker,) = _workers(service) - killed
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        _until(lambda: _workers(service) - killed)
        assert time.monotonic() - began > 0.5
        assert service.predict(service.example).status_code == 200


def test_sighup_replaces_every_worker_and_loses_no_request(pair):
    """Under load, with keep-alive and new connections, all workers are new after a while and every request was answered."""
    before = _workers(pair)
    with constant_load(pair.url, pair.example, callers=6) as load:
        _until(lambda: load.requests > 30)
        pair.process.send_signal(signal.SIGHUP)
        _until(lambda: not before & _workers(pair), seconds=40)
        reached = load.requests
        _until(lambda: load.requests > reached + 30)
    assert not load.failures
    assert len(_workers(pair)) == 2
    assert _count(pair, "slipway_worker_restarts_total") == 0


def test_workers_exit_when_their_supervisor_is_killed(pair):
    """After kill -9 of the parent process none of the others remains."""
    left = _workers(pair)
    pair.session.close()
    pair.process.kill()
    _until(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in left))


def test_model_is_in_memory_once(tmp_path):
    """Four workers need far less than four times the memory of one: they share what was loaded before the fork."""

    def memory(workers):
        with serving(make_bundle("binary", tmp_path / str(workers)), "--workers", str(workers)) as service:
            _until(lambda: _count(service, "slipway_workers") == workers)
            process = psutil.Process(service.process.pid)
            return sum(one.memory_full_info().pss for one in [process, *process.children()])

    assert memory(4) < 2 * memory(1)


@pytest.mark.parametrize("workers", ["0", "-1", "257", "two"])
def test_impossible_number_of_workers_is_a_usage_error(bundle, workers):
    """The error comes before anything is loaded."""
    ended = _start("--bundle", bundle, "--workers", workers)
    assert ended.returncode == 2
    assert "--workers" in ended.stderr and "Traceback" not in ended.stderr


def test_no_process_remains_after_shutdown(pair):
    """SIGTERM ends all processes, and the exit status is 0."""
    left = _workers(pair)
    pair.session.close()
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(20) == 0
    assert not any(psutil.pid_exists(pid) for pid in left)
