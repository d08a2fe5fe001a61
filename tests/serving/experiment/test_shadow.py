"""A challenger in the shadow answers what callers asked, after they have their answer, and only the log shows it."""

import json
import math
import os
import re
import signal
import time
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from serving.experiment.experiment import open_experiment, position
from serving.log.reader import read_blocks
from serving.log.store import Store
from serving.model.bundle import open_bundle
from serving.model.predictor import load_predictor
from serving.requests.response_writer import AnswerWriter
from tests.serving.bundles import graph_that_reads_numbers
from tests.serving.experiment.carried import make_experiment
from tests.serving.service import serving


@contextmanager
def shadowed(folder, *options, **more):
    """A service whose challenger answers in the shadow."""
    with serving(folder, *options, SLIPWAY_DATABASE_URL=_log(folder), **more) as service:
        yield service


def _log(folder):
    return f"sqlite:///{folder.parent}/log.db"


def count(service, name):
    """The sum of a metric."""
    return sum(map(float, re.findall(rf"^slipway_{name}{{.*}} (\S+)$", service.get("/metrics").text, re.MULTILINE)))


def until(true, seconds=30):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


def rows_of(folder, variant):
    """What the log holds of a variant: by request id its role, time, rows, features and answers."""
    with closing(Store(_log(folder))) as store:
        blocks = [block for block in read_blocks(store, 0, math.inf) if block.source.variant == variant]
    return {
        one[0]: one[1:]
        for block in blocks
        for one in zip(
            block.request_ids, block.roles, block.times, block.rows, block.features, block.answers, strict=True
        )
    }


def _answers(folder, rows):
    """What the challenger itself answers."""
    production = open_bundle(folder)
    challenger = open_experiment(folder, production).challenger
    numbers = [[math.nan if value is None else value for value in row] for row in rows]
    outputs = load_predictor(challenger).predict(numbers)
    return json.loads(AnswerWriter(challenger.contract).write(outputs))


def test_rows_of_the_shadow_are_the_challengers_own_answers(tmp_path):
    """One row, a batch of 10,000 and MLflow's protocol: each request has a second record, with its id, time and features."""
    folder = make_experiment(tmp_path / "bundle", "shadow")
    with shadowed(folder) as service:
        golden, example = service.golden["inputs"], list(service.example.values())
        many = golden * (10_000 // len(golden))
        answers = [service.predict(example, request_id="one", subject="customer-17")]
        answers.append(service.post("/predict/batch", {"features": many, "request_id": "many"}))
        answers.append(service.post("/invocations", {"inputs": golden}, headers={"X-Request-ID": "mlflow"}))
        service.post("/predict", {"features": example, "request_id": "own"}, headers={"slipway-role": "test"})
        until(lambda: count(service, "shadow_rows_total") == 1 + 10_000 + len(golden))
        assert count(service, "shadow_rows_failed_total") == count(service, "shadow_rows_dropped_total") == 0
        assert not any("x-experiment" in answer.headers for answer in answers)
        assert answers[0].json()["model_version"] == "3"
    served, shadow = rows_of(folder, "A"), rows_of(folder, "B")
    assert {one: record[0] for one, record in served.items()} == {
        "one": "served",
        "many": "served",
        "mlflow": "served",
        "own": "test",
    }
    assert shadow.keys() == {"one", "many", "mlflow"}
    for name, rows in {"one": [example], "many": many, "mlflow": golden}.items():
        assert shadow[name][0] == "shadow"
        assert shadow[name][1:4] == served[name][1:4]
        expected = _answers(folder, rows)
        assert json.loads(shadow[name][4]) == [
            {**one, "probabilities": pytest.approx(one["probabilities"], rel=1e-6)} for one in expected
        ]
        assert shadow[name][4] != served[name][4]


@pytest.mark.parametrize("kind", ["columns", "regression"])
def test_shadow_reads_nulls_texts_and_values(tmp_path, kind):
    """A row with nulls and texts reaches the challenger as it reached A, alone and in a batch."""
    folder = make_experiment(tmp_path / "bundle", "shadow", kind)
    with shadowed(folder) as service:
        golden = service.golden["inputs"]
        service.post("/predict/batch", {"features": golden, "request_id": "many"})
        for number, row in enumerate(golden):
            service.predict(row, request_id=f"row-{number}")
        until(lambda: count(service, "shadow_rows_total") == 2 * len(golden))
        assert count(service, "shadow_rows_failed_total") == 0
    shadow, served = rows_of(folder, "B"), rows_of(folder, "A")
    together = json.loads(shadow["many"][4])
    alone = [json.loads(shadow[f"row-{number}"][4])[0] for number in range(len(golden))]
    for left, right, other in zip(together, alone, json.loads(served["many"][4]), strict=True):
        assert _value(left) == pytest.approx(_value(right), rel=1e-6)
        assert _value(left) != pytest.approx(_value(other), rel=1e-6)


def _value(answer):
    return answer.get("value") or answer["probabilities"]["stayed"]


def test_share_of_the_shadow_is_chosen_by_request(tmp_path):
    """With a share of a half, the requests are asked whose id stands below it, whoever sent them."""
    folder = make_experiment(tmp_path / "bundle", "shadow", share=0.5)
    ids = [f"request-{number}" for number in range(60)]
    chosen = {one for one in ids if position("new-trees", one) < 0.5}
    with shadowed(folder) as service:
        for one in ids:
            service.predict(service.example, request_id=one)
        until(lambda: count(service, "shadow_rows_total") == len(chosen))
    assert rows_of(folder, "B").keys() == chosen


def test_row_that_the_challenger_refuses_is_counted(tmp_path):
    """It has no answer to a text; the caller has A's, and the next row is answered again."""
    folder = make_experiment(tmp_path / "bundle", "shadow", "columns")
    graph_that_reads_numbers(folder / "experiment" / "challenger")
    with shadowed(folder) as service:
        assert service.predict([30, "red", "blue"], request_id="odd").status_code == 200
        assert service.predict([30, "red", "7"], request_id="fine").status_code == 200
        until(lambda: count(service, "shadow_rows_total") == 1)
        assert count(service, "shadow_rows_failed_total") == 1
        assert count(service, "shadow_restarts_total") == 0
    assert rows_of(folder, "B").keys() == {"fine"}


def test_writer_that_dies_gets_the_challenger_again(tmp_path):
    """Both are started again, the challenger for no fault of its own, and callers notice nothing."""
    folder = make_experiment(tmp_path / "bundle", "shadow")
    with shadowed(folder, "--workers", "2") as service:
        service.predict(service.example, request_id="before")
        until(lambda: _written(service) == 2)
        os.kill(_writer(service), signal.SIGKILL)
        sent = 0

        def answered():
            nonlocal sent
            sent += 1
            assert service.predict(service.example, request_id=f"after-{sent}").status_code == 200
            return count(service, "shadow_rows_total") > 1

        until(answered)
        assert count(service, "shadow_restarts_total") == 0
        until(lambda: len(psutil.Process(service.process.pid).children()) == 4)
    shadow = rows_of(folder, "B")
    assert "before" in shadow
    assert len(shadow) > 1


def shadow_of(service):
    """The process of the challenger."""
    (found,) = [one for one in psutil.Process(service.process.pid).children() if one.nice() == 19]
    return found


def _written(service):
    return float(re.findall(r"^slipway_log_written_total (\S+)$", service.get("/metrics").text, re.MULTILINE)[0])


def _writer(service):
    (_, found, *_) = sorted(psutil.Process(service.process.pid).children(), key=lambda one: -one.nice())
    return found.pid


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux runs a process when nothing else wants to")
def test_challenger_gives_way_to_everything(tmp_path):
    """It runs when the processor is idle, goes first when memory is short, and has a limit of memory of its own."""
    with shadowed(make_experiment(tmp_path / "bundle", "shadow")) as service:
        service.predict(service.example)
        until(lambda: count(service, "shadow_rows_total") == 1)
        shadow = shadow_of(service)
        assert os.sched_getscheduler(shadow.pid) == os.SCHED_IDLE
        assert Path(f"/proc/{shadow.pid}/oom_score_adj").read_text().strip() == "1000"
        assert 256_000_000 < shadow.rlimit(psutil.RLIMIT_DATA)[0] < 1_000_000_000


def test_killed_service_leaves_no_orphan(tmp_path):
    """kill -9 of the supervisor ends all its processes, also the challenger's."""
    with shadowed(make_experiment(tmp_path / "bundle", "shadow")) as service:
        service.predict(service.example)
        until(lambda: count(service, "shadow_rows_total") == 1)
        children = psutil.Process(service.process.pid).children()
        assert len(children) == 3
        service.hang_up()
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(children, 20)
        assert not alive
