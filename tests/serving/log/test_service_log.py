"""The prediction log: requests and answers are stored in a database, and serving does not wait for it."""

import hashlib
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import psutil
import psycopg
import pytest

from serving.log import store as store_module
from serving.log.blocks import Prediction
from serving.log.identity import identity
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import Outcome, RefusedError, Store, StoreError
from tests.serving.bundles import make_bundle
from tests.serving.load import constant_load
from tests.serving.log.old_log import write_old
from tests.serving.service import ROOT, serving

KEY = "slipway_test-key-of-the-log"
LINE = f"shop predict,metrics,admin {hashlib.sha256(KEY.encode()).hexdigest()}"


@contextmanager
def _logging(bundle, url, *options):
    """A service with a prediction log and a key that the client sends."""
    more = {"SLIPWAY_DATABASE_URL": url, "SLIPWAY_API_KEYS": LINE}
    with serving(bundle, *options, **more) as service:
        service.session.headers["X-API-Key"] = KEY
        yield service


@pytest.fixture(scope="module")
def logging_service(tmp_path_factory):
    """A service with an embedded log, shared by tests."""
    folder = tmp_path_factory.mktemp("shared")
    with _logging(make_bundle("binary", folder / "bundle"), f"sqlite:///{folder}/log.db") as service:
        yield service


@pytest.fixture
def its_log(logging_service):
    """The URL of the log of that service."""
    return f"sqlite:///{logging_service.bundle.parent}/log.db"


def _ended(service):
    """Stop a service and wait until everything is written."""
    service.hang_up()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(30) == 0


def _rows(url, query):
    sqlite = url.startswith("sqlite")
    connection = sqlite3.connect(url.removeprefix("sqlite:///")) if sqlite else psycopg.connect(url)
    rows = connection.execute(query).fetchall()
    connection.close()
    return rows


def _json(url, value):
    """A JSON column's value; PostgreSQL returns it decoded."""
    return json.loads(value) if url.startswith("sqlite") else value


def _logged(url):
    """All blocks of a log, in which nothing may be missing."""
    with closing(Store(url)) as store:
        return list(read_blocks(store, 0, math.inf))


def _ids(url):
    """The ids of all logged requests."""
    return [request_id for block in _logged(url) for request_id in block.request_ids]


def _metric(service, series):
    return sum(map(float, re.findall(rf"^{series} (\S+)$", service.get("/metrics").text, re.MULTILINE)))


def _until(true, seconds=15):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.05)


def test_prediction_is_stored_with_all_its_fields(bundle, url):
    """Id, time, version, features in contract order, answer, latency, and client and subject as hashes."""
    with _logging(bundle, url) as service:
        began = time.time()
        answer = service.predict(service.example, request_id="one", subject="customer-17").json()
        _ended(service)
    (block,) = _logged(url)
    assert block.source == ("cars", "3", "", "")
    assert (block.request_ids, block.rows, block.roles) == (["one"], [1], ["served"])
    assert began <= block.times[0] <= time.time()
    assert (block.callers, block.subjects) == ([identity("shop")], [identity("customer-17")])
    assert "customer" not in block.subjects[0]
    assert json.loads(block.features[0]) == [list(service.example.values())]
    assert json.loads(block.answers[0]) == [{key: answer[key] for key in ("label", "class_id", "probabilities")}]
    assert block.latencies[0] == pytest.approx(answer["latency_ms"], abs=0.001)


@pytest.mark.parametrize("kind", ["regression", "columns", "multiclass"])
def test_every_kind_of_model_is_stored(tmp_path, kind):
    """One record for a batch, with its rows and answers in order; null stays null, except for a text, where it is ""."""
    url = f"sqlite:///{tmp_path}/log.db"
    with _logging(make_bundle(kind, tmp_path / "bundle"), url) as service:
        rows = service.golden["inputs"]
        answers = service.post("/predict/batch", {"features": rows}).json()["predictions"]
        service.post("/invocations", {"instances": rows})
        _ended(service)
    records = [one for block in _logged(url) for one in zip(block.rows, block.features, block.answers, strict=True)]
    (one, two) = records
    assert one == two
    assert one[0] == len(rows)
    texts = [column["type"] == "text" for column in service.contract["inputs"]]
    sent = [["" if v is None and text else v for v, text in zip(row, texts, strict=True)] for row in rows]
    assert json.loads(one[1]) == sent
    assert json.loads(one[2]) == answers


def test_feedback_is_stored_and_the_last_one_wins(bundle, url):
    """An outcome belongs to a request and a row; sending it again overwrites it, and how often it was sent is counted."""
    with _logging(bundle, url) as service:
        request_id = service.predict(service.example).json()["request_id"]
        for outcome in ("no", "yes"):
            assert service.post("/feedback", {"request_id": request_id, "outcome": outcome}).status_code == 200
            time.sleep(0.4)  # longer than records are collected
        service.post("/feedback", {"request_id": request_id, "outcome": "no", "row": 1})
        _ended(service)
    found = _rows(url, "SELECT request_id, row_index, outcome, caller, sent FROM outcomes ORDER BY row_index")
    assert [(one[0], one[1], _json(url, one[2]), *one[3:]) for one in found] == [
        (request_id, 0, "yes", identity("shop"), 2),
        (request_id, 1, "no", identity("shop"), 1),
    ]


def test_value_is_stored_beside_the_outcome(url):
    """Neither changes the other, nor when it was sent and how often; the last one of each counts."""

    def told(at, outcome="null", value=None, row=0):
        store.insert([], [Outcome("a", row, outcome, at, "c", value)])
        return outcomes_of(store, ["a"])["a", row]

    with closing(Store(url)) as store:
        assert told(1.0, value=2.5) == ("null", 1.0, 0, 2.5, 1.0)
        assert told(2.0, '"no"') == ('"no"', 2.0, 1, 2.5, 1.0)
        assert told(3.0, value=-7.0) == ('"no"', 2.0, 1, -7.0, 3.0)
        assert told(4.0, '"yes"', 0.0) == ('"yes"', 4.0, 2, 0.0, 4.0)
        assert told(5.0, '"yes"', row=1) == ('"yes"', 5.0, 1, None, None)


def test_feedback_takes_an_outcome_a_value_or_both(logging_service, its_log):
    """The answer says what was told, and all of it is in the log."""
    for body in ({"outcome": "yes"}, {"value": 24.9, "row": 2}, {"outcome": "no", "value": -3, "row": 1}):
        answer = logging_service.post("/feedback", {"request_id": "valued", **body})
        assert (answer.status_code, answer.json()) == (200, {"request_id": "valued", "row": 0, **body})

    def stored():
        with closing(Store(its_log)) as store:
            return {row: (told.outcome, told.value) for (_, row), told in outcomes_of(store, ["valued"]).items()}

    _until(lambda: stored() == {0: ('"yes"', None), 1: ('"no"', -3.0), 2: ("null", 24.9)})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "has no 'outcome' and no 'value'"),
        ({"request_id": "a", "value": "much"}, 'value is "much", allowed is a finite number'),
        ({"request_id": "a", "value": True}, "value is true"),
        ({"request_id": "a", "outcome": "yes", "value": None}, "value is null"),
        ({"request_id": "a", "outcome": None, "value": 1}, "outcome is null"),
        ({"outcome": "yes"}, "has no 'request_id'"),
        ({"request_id": "a b", "outcome": "yes"}, 'request_id is "a b"'),
        ({"request_id": "a", "outcome": "maybe"}, 'outcome is "maybe", allowed is one of "no", "yes"'),
        ({"request_id": "a", "outcome": ["yes"]}, "outcome is a list"),
        ({"request_id": "a", "outcome": "yes", "row": -1}, "row is -1"),
        ({"request_id": "a", "outcome": "yes", "row": 0.5}, "row is 0.5"),
        ({"request_id": "a", "outcome": "yes", "row": True}, "row is true"),
        ({"request_id": "a", "outcome": "yes", "when": 1}, 'unknown field "when"'),
        ([], "must be an object"),
    ],
)
def test_invalid_feedback_is_refused(logging_service, body, words):
    """The message names what is wrong."""
    response = logging_service.post("/feedback", body)
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_feedback_needs_a_database(binary):
    """A service without a log says so."""
    response = binary.post("/feedback", {"request_id": "a", "outcome": "yes"})
    assert response.status_code == 404
    assert "SLIPWAY_DATABASE_URL" in response.json()["detail"]


def test_refused_requests_are_not_stored(tmp_path, bundle):
    """Only answers are in the log."""
    url = f"sqlite:///{tmp_path}/log.db"
    with _logging(bundle, url) as service:
        assert service.predict({}).status_code == 422
        assert service.post("/predict/batch", {"features": []}).status_code == 422
        assert service.post("/invocations", {"instances": [["x"]]}).status_code == 422
        service.predict(service.example)
        _ended(service)
    assert len(_ids(url)) == 1


def test_requests_marked_as_tests_are_told_apart(logging_service, its_log):
    """The header Slipway-Role: test sets the role of a request; any other value is as none."""
    for request_id, role in (("a-test", "test"), ("a-caller", "shadow")):
        headers = {"Slipway-Role": role, "X-Request-ID": request_id}
        body = {"features": logging_service.example}
        assert logging_service.post("/predict", body, headers=headers).status_code == 200
    _until(lambda: {"a-test", "a-caller"} <= set(_ids(its_log)))
    roles = {one: role for block in _logged(its_log) for one, role in zip(block.request_ids, block.roles, strict=True)}
    assert (roles["a-test"], roles["a-caller"]) == ("test", "served")


def test_refusals_are_counted_per_day(logging_service, its_log):
    """By status, for what is wrong with a prediction's request; not for a key, another path, or a test."""
    counted = "SELECT model, model_version, day, status, requests FROM refusals"
    before = {row[:4]: row[4] for row in _rows(its_log, counted)}
    wrong, compressed = {"features": {}}, {"Content-Encoding": "gzip"}
    for _ in range(2):
        logging_service.post("/predict", wrong)
    logging_service.post("/predict/batch", data="{")
    logging_service.post("/invocations", {}, headers=compressed)
    logging_service.post("/predict", wrong, headers={"X-API-Key": "wrong"})
    logging_service.post("/predict", wrong, headers={"Slipway-Role": "test"})
    logging_service.post("/feedback", {})
    logging_service.get("/predict")

    def grown():
        return {row[:4]: row[4] - before.get(row[:4], 0) for row in _rows(its_log, counted)}

    today = int(time.time() // 86_400)
    _until(lambda: len(grown()) == 3)
    time.sleep(0.3)  # what should not be counted would have come by now
    assert grown() == {("cars", "3", today, status): number for status, number in ((400, 1), (415, 1), (422, 2))}


def test_refusals_of_several_workers_are_added_up(url):
    """The store adds counts to those of the same day, version and status."""
    with closing(Store(url, "cars", "3")) as store:
        store.add_refusals({("3", 20_000, 422): 2, ("3", 20_000, 429): 1})
        store.add_refusals({("3", 20_000, 422): 3, ("3", 20_001, 422): 1, ("4", 20_000, 422): 7})
    found = _rows(url, "SELECT model_version, day, status, requests FROM refusals ORDER BY model_version, day, status")
    assert found == [("3", 20_000, 422, 5), ("3", 20_000, 429, 1), ("3", 20_001, 422, 1), ("4", 20_000, 422, 7)]


def test_nothing_is_lost_on_sigterm(bundle, url):
    """Rows equal answers, with several workers under load that are replaced and stopped in between."""
    with _logging(bundle, url, "--workers", "2") as service:
        with constant_load(service.url, service.example, callers=6, headers={"X-API-Key": KEY}) as load:
            _until(lambda: load.requests > 200)
            service.process.send_signal(signal.SIGHUP)
            _until(lambda: load.requests > 1000)
        assert not load.failures
        _ended(service)
    ids = _ids(url)
    assert len(ids) == len(set(ids)) == load.requests


def test_kill_9_loses_at_most_the_last_answers(tmp_path, bundle):
    """All processes are killed at once: answers of a second before are in the log."""
    url = f"sqlite:///{tmp_path}/log.db"
    with _logging(bundle, url) as service:
        for _ in range(20):
            service.predict(service.example)
        time.sleep(1.0)
        service.predict(service.example)
        processes = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children()]
        assert len(processes) == 3
        for process in processes:
            process.kill()
        service.process.wait(10)
    assert 20 <= len(_ids(url)) <= 21


def test_killed_writer_is_replaced(tmp_path, bundle):
    """When the writer dies, predictions are still answered, and after a while logged again."""
    url = f"sqlite:///{tmp_path}/log.db"
    with _logging(bundle, url) as service:
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 1)
        writer = next(c for c in psutil.Process(service.process.pid).children() if c.nice() > 0)
        writer.kill()
        with constant_load(service.url, service.example, headers={"X-API-Key": KEY}) as load:
            _until(lambda: load.requests > 20 and _metric(service, "slipway_log_written_total") > 10)
        assert not load.failures
        _ended(service)


def test_database_outage_loses_no_answer_and_no_record(bundle, server, postgres_url):
    """PostgreSQL stops and comes back: every request is answered meanwhile, and every record is written afterwards."""
    start, stop, url = server
    with _logging(bundle, url) as service:
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 1)
        stop()
        for _ in range(30):
            assert service.predict(service.example).status_code == 200
        _until(lambda: _metric(service, "slipway_log_errors_total") >= 1)
        assert _metric(service, "slipway_log_queue_records") == 30
        start()
        _until(lambda: _metric(service, "slipway_log_written_total") == 31, seconds=30)
        _ended(service)
    assert len(_ids(url)) == 31


def _delete(path):
    path.unlink()


def _move(path):
    path.rename(path.with_suffix(".away"))


def _replace(path):
    other = path.with_suffix(".new")
    other.touch()
    other.rename(path)


@pytest.mark.parametrize("lose", [_delete, _move, _replace])
def test_deleted_database_file_is_noticed_and_recreated(tmp_path, bundle, lose):
    """No record is counted as written without a file: the next goes to a new file, and log and metrics say so."""
    url, file = f"sqlite:///{tmp_path}/log.db", tmp_path / "log.db"
    with _logging(bundle, url) as service:
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 1)
        lose(file)
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 2)
        assert len(_ids(url)) == 1
        assert _metric(service, "slipway_log_begun_anew_total") == 1
        assert "was deleted, moved or replaced; a new one is begun" in service.logged


def test_dropped_tables_are_named_and_recreated(bundle, url):
    """The log says which table was missing, and the record is written once the table exists again."""
    with _logging(bundle, url) as service:
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 1)
        _drop(url)
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_written_total") == 2)
        assert len(_ids(url)) == 1
        assert re.search(r"cannot be written, trying again: .*prediction_blocks", service.logged)


def _drop(url):
    statement = "DROP TABLE prediction_blocks"
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as connection:
            connection.execute(statement)
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)


def test_memory_of_queued_records_is_returned(tmp_path, bundle):
    """While a database is locked, records take tens of megabytes; once all are written, the service is about as small as before."""
    url = f"sqlite:///{tmp_path}/log.db"
    with _logging(bundle, url) as service:

        def batches(number):
            for _ in range(number):
                assert service.post("/predict/batch", {"features": [service.example] * 200}).status_code == 200

        batches(100)
        _until(lambda: _metric(service, "slipway_log_written_total") == 100)
        before = _own_memory(service)
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            _until(lambda: batches(100) or _own_memory(service) > before + 40e6, seconds=240)
        _until(lambda: _metric(service, "slipway_log_queue_records") == 0, seconds=120)
        _until(lambda: _own_memory(service) < before + 10e6, seconds=60)
        _ended(service)


def _own_memory(service):
    """Bytes of the service's processes that are not shared."""
    family = psutil.Process(service.process.pid)
    return sum(one.memory_full_info().uss for one in (family, *family.children()))


def test_database_that_never_works_is_counted_and_logged(tmp_path, bundle):
    """With a folder in place of the database, answers continue, errors are counted, the shutdown is in time and reports the loss."""
    (tmp_path / "log.db").mkdir()
    with _logging(bundle, f"sqlite:///{tmp_path}/log.db") as service:
        for _ in range(5):
            assert service.predict(service.example).status_code == 200
        _until(lambda: _metric(service, "slipway_log_errors_total") >= 1)
        _ended(service)
        lines = [json.loads(line) for line in service.logged.splitlines()]
    assert "5 records of the prediction log were lost" in lines[-1]["message"]
    assert sum("cannot be written, trying again" in line["message"] for line in lines) == 1


def test_database_password_is_never_logged(tmp_path, bundle):
    """The error of an unreachable database does not contain its password."""
    url = "postgresql://slipway:hunter2@127.0.0.1:1/none"
    with _logging(bundle, url) as service:
        service.predict(service.example)
        _until(lambda: _metric(service, "slipway_log_errors_total") >= 1)
        assert "hunter2" not in service.get("/admin/status").text
        _ended(service)
        written = service.logged
    assert "trying again" in written and "hunter2" not in written


def _prediction(request_id="a", at=1.0, subject=None, rows=1):
    return Prediction(request_id, at, "c", subject, "served", rows, 0.1, b"[[1]]", b'[{"value": 1}]')


def test_refused_record_does_not_block_others(url):
    """The store refuses records with a bad one as a whole, and accepts the good ones alone."""
    store = Store(url, "it's 100 %", "1")
    good = Outcome("a", 0, "1", 1.0, "c")
    with pytest.raises(RefusedError):
        store.insert([_prediction()], [good, good._replace(request_id=None)])
    store.insert([_prediction()], [good])
    store.close()
    (block,) = _logged(url)
    assert (block.request_ids, block.source) == (["a"], ("it's 100 %", "1", "", ""))
    assert _rows(url, "SELECT request_id FROM outcomes") == [("a",)]


def test_old_records_are_deleted(url):
    """Predictions and outcomes from before the given time are deleted, in as many steps as needed; newer ones stay."""
    store = Store(url)
    for _ in range(250):
        store.insert([_prediction("old", 1000.0), _prediction("old", 1001.0)])
    store.insert([_prediction("new", 3000.0)])
    store.insert([], [Outcome("old", row, "1", 1000.0, "c") for row in range(1500)])
    store.insert([], [Outcome("new", 0, "1", 3000.0, "c")])
    assert store.delete_older(2000.0) == 500
    store.close()
    assert _ids(url) == ["new"]
    assert _rows(url, "SELECT request_id FROM outcomes") == [("new",)]


def test_all_records_of_a_subject_are_deleted(url):
    """Its predictions and their outcomes, in whichever form, and nobody else's."""
    write_old(url, [("older", 1.0, identity("me"), "1"), ("old", 1.0, identity("you"), "1")])
    store = Store(url)
    mine = _prediction("mine", 1.0, identity("me"))
    store.insert([mine])
    store.insert([mine, _prediction("other", 2.0, identity("you")), _prediction("none", 3.0)])
    names = ("older", "old", "mine", "other")
    store.insert([], [Outcome(name, 0, "1", 1.0, "c") for name in names])
    store.close()
    done = _store(url, "delete-subject", "--subject", "me")
    assert (done.returncode, done.stdout) == (0, "3 predictions deleted\n")
    assert _rows(url, "SELECT requests, rows, first_time, last_time FROM prediction_blocks") == [(2, 2, 2.0, 3.0)]
    assert sorted(_ids(url)) == ["none", "old", "other"]
    assert sorted(_rows(url, "SELECT request_id FROM outcomes")) == [("old",), ("other",)]


def _store(url, *options):
    environment = {**os.environ, "SLIPWAY_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "serving.log.store", *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def test_a_forgotten_subject_is_nowhere_in_the_files(tmp_path):
    """Not on a page that SQLite keeps for later, nor in the file beside the database, while a service has it open."""
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url, "cars", "1")) as service, closing(Store(url)) as store:
        service.insert([("a", 1.0, "me", identity("anna"), "served", 1, 0.5, b"[[1.5]]", b"[2]")])
        write_old(url, [("b", 2.0, identity("anna"), "1")])
        ((piece,),) = service.query("SELECT about FROM prediction_blocks")
        assert store.delete_subject("anna") == 2
        whole = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert piece not in whole and identity("anna").encode() not in whole


def test_a_subject_is_forgotten_while_its_records_move(url, monkeypatch):
    """A step that finds some of its records moved away by another process is not the last one."""
    monkeypatch.setattr(store_module, "CHUNK", 2)
    write_old(url, [(f"r{number}", float(number), identity("anna"), "1") for number in range(5)])
    with closing(Store(url)) as store:
        delete = store._delete

        def fewer(*what):
            with monkeypatch.context() as patch:
                patch.setattr(store_module, "CHUNK", 1)
                monkeypatch.setattr(store, "_delete", delete)
                return delete(*what)

        monkeypatch.setattr(store, "_delete", fewer)
        assert store.delete_subject("anna") == 5


def test_delete_older_command(tmp_path):
    """`delete-older --days` keeps newer rows."""
    url = f"sqlite:///{tmp_path}/log.db"
    store = Store(url)
    for name, days in (("young", 0), ("old", 3)):
        store.insert([_prediction(name, time.time() - days * 86_400)])
    store.close()
    assert _store(url, "delete-older", "--days", "2").stdout == "1 predictions deleted\n"
    assert _ids(url) == ["young"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "SLIPWAY_DATABASE_URL is not set"),
        ("postgresql://u:hunter2@127.0.0.1:1/x", "failed"),
        ("sqlite:////proc/no/log.db", "proc"),
    ],
)
def test_command_without_a_database_fails_in_one_line(url, words):
    """It says what is wrong, without a password, and exits with 1."""
    done = _store(url, "delete-older", "--days", "2")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr and "hunter2" not in done.stderr


@pytest.mark.parametrize("verb", [["delete-subject", "--subject", "me"], ["delete-older", "--days", "2"]])
def test_nothing_is_deleted_from_a_mistyped_database(tmp_path, verb):
    """Nobody may believe that a person was forgotten because a new, empty file knows nothing of them."""
    done = _store(f"sqlite:///{tmp_path}/lgo.db", *verb)
    assert done.returncode == 1 and "lgo.db: No such file or directory" in done.stderr and not [*tmp_path.iterdir()]


def test_embedded_database_is_private(tmp_path):
    """Only its owner can read the file of an embedded log."""
    Store(f"sqlite:///{tmp_path}/deep/log.db").close()
    assert (tmp_path / "deep/log.db").stat().st_mode & 0o077 == 0


def test_store_error_is_one_line_without_a_password():
    """A driver's message of several lines with a URL becomes one line."""
    with pytest.raises(StoreError) as caught:
        Store("postgresql://u:hunter2@127.0.0.1:1/x?connect_timeout=2")
    assert "\n" not in str(caught.value) and "hunter2" not in str(caught.value)


def test_expired_predictions_are_deleted(tmp_path, bundle):
    """A service deletes records older than SLIPWAY_LOG_RETENTION_DAYS."""
    url = f"sqlite:///{tmp_path}/log.db"
    store = Store(url)
    for name, days in (("old", 91), ("young", 89)):
        store.insert([_prediction(name, time.time() - days * 86_400)])
    store.close()
    with _logging(bundle, url):
        _until(lambda: _ids(url) == ["young"], seconds=30)
