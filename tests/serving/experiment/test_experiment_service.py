"""A service with an experiment: what its log keeps of it, and a stop that holds for all replicas and after a restart."""

import math
import time
from contextlib import closing

import jsonschema
import pytest

from serving.log import stops
from serving.log.blocks import Source, frame_of
from serving.log.identity import identity
from serving.log.reader import read_blocks
from serving.log.store import Store
from tests.serving.bundles import graph_that_reads_numbers
from tests.serving.experiment.carried import make_experiment
from tests.serving.service import HEADERS, serving, with_keys

ROW = [30.5, "green", "2"]
ODD = [30.5, "green", "not a number"]  # the challenger has no answer to it
SOURCES = [
    Source("visitors", "3"),
    Source("visitors", "3", "new-trees", "A"),
    Source("visitors", "4", "new-trees", "B"),
]


def made(folder, mode="ab", **guardrails):
    """A bundle whose challenger answers only where the text `note` is a number."""
    folder = make_experiment(folder, mode, "columns", share=0.5, guardrails=guardrails)
    graph_that_reads_numbers(folder / "experiment" / "challenger")
    return folder


def told(answer):
    """Which variant the answer's header names, "" for none."""
    return answer.headers.get("X-Experiment", "").removeprefix("new-trees=")


def until(true, seconds=20):
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service of two workers whose challenger nothing takes out, with keys and a log."""
    folder = tmp_path_factory.mktemp("running")
    bundle = made(folder / "bundle", max_failures=1.0, max_latency_ratio=1e6)
    with serving(bundle, "--workers", "2", **with_keys(folder)) as service:
        service.session.headers.update(HEADERS)
        yield service


def test_log_has_every_answer_with_its_variant(running):
    """Rows equal answers: the version, the variant and the role of each request; a challenger's failure is a refusal of its version."""
    answers = {}
    for number in range(40):
        body = {"features": ROW, "request_id": f"r{number}", "subject": f"customer-{number}"}
        answer = running.post("/predict", body, headers={"Connection": "close"})  # so that both workers answer
        answers[f"r{number}"] = answer.json()["model_version"], told(answer), "served"
    theirs = next(f"customer-{number}" for number in range(40) if answers[f"r{number}"][1] == "B")
    for name, body, path, role in (
        ("plain", {"features": ROW}, "/predict", ""),
        ("batch", {"features": [ROW] * 3, "subject": theirs}, "/predict/batch", ""),
        ("odd", {"features": ODD, "subject": theirs}, "/predict", ""),
        ("a-test", {"features": ROW, "subject": theirs}, "/predict", "test"),
        ("flow", {"instances": [ROW]}, "/invocations", ""),
    ):
        answer = running.post(path, body, headers={"X-Request-ID": name, "Slipway-Role": role})
        answers[name] = answer.json().get("model_version", "3"), told(answer), role or "served"
    assert {name: answers[name] for name in ("plain", "batch", "odd", "a-test", "flow")} == {
        "plain": ("3", "", "served"),
        "batch": ("4", "B", "served"),
        "odd": ("3", "", "served"),
        "a-test": ("4", "B", "test"),
        "flow": ("3", "", "served"),
    }
    logged = {}

    def complete():
        with closing(Store(f"sqlite:///{running.bundle.parent}/log.db")) as store:
            for block in read_blocks(store, 0, math.inf):
                for name, role in zip(block.request_ids, block.roles, strict=True):
                    logged[name] = block.source.model_version, block.source.variant, role
                    assert block.source.experiment == ("new-trees" if block.source.variant else "")
            refused = store.query("SELECT model_version, status, requests FROM refusals")
        return len(logged) == len(answers) and refused == [("4", 500, 1)]

    until(complete)
    assert logged == answers


def test_service_says_which_experiment_it_carries(running):
    """In /model/info, /admin/status and the document, which describes what they say."""
    about = {"name": "new-trees", "mode": "ab", "share": 0.5, "challenger": "4", "stopped": False}
    document = running.get("/openapi.json").json()
    for path, name in (("/model/info", "ModelInfo"), ("/admin/status", "Status")):
        answer = running.get(path).json()
        assert answer["experiment"] == about
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer)
    for path in ("/predict", "/predict/batch"):
        assert "X-Experiment" in document["paths"][path]["post"]["responses"]["200"]["headers"]
    assert document["components"]["headers"]["X-Experiment"]["required"] is False
    assert "X-Experiment" not in document["paths"]["/invocations"]["post"]["responses"]["200"]["headers"]


def test_page_that_may_read_answers_may_read_the_variant(tmp_path):
    """The header is one of those that a browser shows to a page of an origin that is allowed."""
    settings = {
        "SLIPWAY_DATABASE_URL": f"sqlite:///{tmp_path}/log.db",
        "SLIPWAY_CORS_ORIGINS": "https://app.example.com",
    }
    with serving(made(tmp_path / "bundle"), **settings) as service:
        headers = {"Origin": "https://app.example.com"}
        answer = service.post("/predict", {"features": ROW, "subject": "customer-1"}, headers=headers)
    assert told(answer) in ("A", "B") and "x-experiment" in answer.headers["access-control-expose-headers"]


def test_service_without_an_experiment_says_nothing_of_one(columns):
    """Nobody who compares its answers with those of before finds a difference."""
    document = columns.get("/openapi.json").json()
    assert "experiment" not in columns.get("/model/info").json() and "experiment" not in str(document).lower()


def test_stop_is_kept_and_holds_after_a_restart(tmp_path):
    """What a guardrail has taken out stays out, for the next start and for services that start elsewhere."""
    url = f"sqlite:///{tmp_path}/log.db"
    bundle = made(tmp_path / "bundle", min_requests=5, max_failures=0.1)

    def stop():
        with closing(Store(url)) as store:
            return stops.read(store, "visitors", "new-trees")

    with serving(bundle, SLIPWAY_DATABASE_URL=url) as service:
        subjects = [f"customer-{number}" for number in range(40)]
        until(lambda: all(not told(service.predict(ODD, subject=one)) for one in subjects))
        until(stop)
        assert service.get("/model/info").json()["experiment"]["stopped"] is True
        assert not told(service.predict(ROW, subject=subjects[0]))
    assert abs(stop().time - time.time()) < 60 and "the challenger had no answer to 100.0%" in stop().reason
    with serving(bundle, SLIPWAY_DATABASE_URL=url) as service:
        until(lambda: service.get("/model/info").json()["experiment"]["stopped"])
        assert not any(told(service.predict(ROW, subject=one)) for one in subjects)
        assert "the experiment has stopped itself before" in service.logged


def test_log_that_is_away_at_the_start_delays_no_answer(tmp_path):
    """Whether there was a stop is not known then, so the experiment goes on; the log of the service says so."""
    url = "postgresql://slipway:hunter2@127.0.0.1:1/none"
    with serving(made(tmp_path / "bundle"), SLIPWAY_DATABASE_URL=url) as service:
        assert told(service.predict(ROW, subject="customer-1")) in ("A", "B")
        until(lambda: "whether the experiment has stopped itself cannot be read" in service.logged)
        assert "hunter2" not in service.logged
        service.process.kill()  # it would try for seconds to write the last records


def test_a_forgotten_subject_is_forgotten_by_both_models(tmp_path):
    """Its rows of all variants go with their outcomes and values."""
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store:
        for number, source in enumerate(SOURCES):
            rows = [
                (f"{name}{number}", 1.0, "c", identity(name), "served", 1, 0.1, b"[[1]]", b"[2]")
                for name in ("anna", "ben")
            ]
            store.insert_block([frame_of(rows)], source)
            store.insert([], [(f"{name}{number}", 0, "null", 2.0, "c", 5.0) for name in ("anna", "ben")])
        assert store.delete_subject("anna") == 3
        left = [(block.source.variant, block.request_ids) for block in read_blocks(store, 0, 9)]
        assert left == [("", ["ben0"]), ("A", ["ben1"]), ("B", ["ben2"])]
        assert store.query("SELECT request_id FROM outcomes ORDER BY 1") == [("ben0",), ("ben1",), ("ben2",)]
