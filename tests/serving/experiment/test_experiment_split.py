"""Callers of an experiment in mode `ab`: who answers, what they are told, and when the challenger is taken out."""

import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.config import read_config
from serving.experiment.experiment import CHALLENGER, FILE
from serving.experiment.guard import EVERY
from serving.model.bundle import EXPERIMENT
from serving.telemetry.prometheus import exposition
from tests.serving.bundles import change, graph_that_reads_numbers, read, write
from tests.serving.experiment.carried import make_experiment

pytestmark = pytest.mark.quick
ROW = [30.5, "green", "2"]
ODD = [30.5, "green", "not a number"]  # the challenger has no answer to it
NO_LIMITS = {"max_failures": 1.0, "max_latency_ratio": 1000.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle whose challenger answers only where the text `note` is a number."""
    folder = make_experiment(
        tmp_path_factory.mktemp("split") / "bundle", "ab", "columns", share=0.5, guardrails=NO_LIMITS
    )
    graph_that_reads_numbers(folder / EXPERIMENT / CHALLENGER)
    return folder


class Caller:
    """Asks a service in this process."""

    def __init__(self, folder, **guardrails):
        about = folder / EXPERIMENT
        write(about, FILE, {**read(about, FILE), "guardrails": guardrails or NO_LIMITS})
        config = read_config({"SLIPWAY_DATABASE_URL": "sqlite:///log.db", "SLIPWAY_RATE_LIMIT": "0"}, open=True)
        self.app = create_app(folder, config, 2)

    def post(self, path, body, **headers):
        """Status, headers and body of the answer."""
        given = {name.encode(): value.encode() for name, value in headers.items()}
        _, status, _, answer, more = self.app.respond(path, given, json.dumps(body).encode(), "")
        return status, dict(more), json.loads(answer)

    def variant(self, subject, row=ROW, **headers):
        """Who answers this subject: "A", "B", or "" where the answer is outside of the experiment."""
        status, more, answer = self.post("/predict", {"features": row, "subject": subject}, **headers)
        assert status == 200
        told = more.get(b"x-experiment", b"").decode().removeprefix("new-trees=")
        assert answer["model_version"] == ("4" if told == "B" else "3")
        assert self.is_challengers(answer) == (told == "B")
        return told

    @staticmethod
    def is_challengers(answer):
        """Whether this is the challenger's answer to ROW, which is the sigmoid of its note."""
        return abs(answer["probabilities"]["stayed"] - 0.8807970779778823) < 1e-6

    def metric(self, name, **labels):
        """The value of a metric, None where there is none."""
        for family in text_string_to_metric_families(exposition(self.app.metrics).decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@pytest.fixture(scope="module")
def shared(folder):
    """A service whose challenger nothing takes out."""
    return Caller(folder)


@pytest.fixture(scope="module")
def subjects(shared):
    """Subjects of A, and of B."""
    found = {"A": [], "B": []}
    for number in range(60):
        found[shared.variant(f"customer-{number}")].append(f"customer-{number}")
    assert min(map(len, found.values())) > 15
    return found


def test_subject_meets_the_same_model_after_a_restart(folder, subjects):
    """Whichever process answers."""
    again = Caller(folder)
    for letter, names in subjects.items():
        assert {again.variant(subject) for subject in names} == {letter}


def test_request_without_a_subject_is_outside(shared):
    """The model in production answers it, and nothing says that there is an experiment."""
    before = shared.app.metrics.trials()
    for body in ({"features": ROW}, {"features": ROW, "subject": None}):
        status, more, answer = shared.post("/predict", body)
        assert (status, more, answer["model_version"]) == (200, {}, "3")
        assert not shared.is_challengers(answer)
    assert shared.app.metrics.trials() == before


def test_batch_belongs_to_its_subject(shared, subjects):
    """All rows are answered by that subject's model; without a subject by the one in production."""
    for letter, subject in (("A", subjects["A"][0]), ("B", subjects["B"][0]), ("", None)):
        status, more, answer = shared.post("/predict/batch", {"features": [ROW] * 3, "subject": subject})
        assert (status, more.get(b"x-experiment", b"")) == (200, f"new-trees={letter}".encode() if letter else b"")
        assert answer["model_version"] == ("4" if letter == "B" else "3")
        assert [shared.is_challengers(one) for one in answer["predictions"]] == [letter == "B"] * 3


def test_mlflows_protocol_is_outside(shared):
    """It has no place for a subject."""
    status, more, answer = shared.post("/invocations", {"instances": [ROW]})
    assert (status, more) == (200, {}) and len(answer["predictions"]) == 1


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_production_answers_where_the_challenger_cannot(shared, subjects, path):
    """The caller notices nothing, the request is outside of the experiment, and the challenger's failure is counted."""
    before = shared.app.metrics.trials()
    features = ODD if path == "/predict" else [ROW, ODD]
    status, more, answer = shared.post(path, {"features": features, "subject": subjects["B"][0]})
    assert (status, more, answer["model_version"]) == (200, {}, "3")
    after = shared.app.metrics.trials()
    assert (after.failures - before.failures, after.challenger - before.challenger) == (1, 1)


def test_caller_of_a_test_is_answered_and_not_counted(shared, subjects):
    """The delivery's own requests judge no challenger."""
    before = shared.app.metrics.trials()
    assert shared.variant(subjects["B"][0], **{"slipway-role": "test"}) == "B"
    assert shared.variant(subjects["A"][0], **{"slipway-role": "test"}) == "A"
    shared.post("/predict", {"features": ODD, "subject": subjects["B"][0]}, **{"slipway-role": "test"})
    assert shared.app.metrics.trials() == before


def test_refused_request_is_no_failure_of_the_challenger(shared, subjects):
    """What the contract does not take reaches no model."""
    before = shared.app.metrics.trials()
    status, more, _ = shared.post("/predict", {"features": [1, 2], "subject": subjects["B"][0]})
    assert (status, more) == (422, {}) and shared.app.metrics.trials() == before


def test_challenger_that_fails_is_taken_out(folder, subjects, caplog):
    """Beyond the share of failures that is allowed production's model answers everybody, outside of the experiment."""
    caller = Caller(folder, max_failures=0.1, min_requests=20)
    for number in range(20 + EVERY):
        caller.variant(subjects["B"][0], ODD if number % 4 == 0 else ROW)
    assert caller.app.metrics.stopped()
    assert {caller.variant(subject) for subject in (*subjects["A"], *subjects["B"])} == {""}
    assert caller.metric("slipway_experiment_stopped", experiment="new-trees") == 1
    (line,) = [record.message for record in caplog.records if "stopped itself" in record.message]
    assert "the challenger had no answer to 2" in line and "10.0% are allowed" in line


def test_challenger_that_is_slow_is_taken_out(folder, subjects, caplog):
    """Judged by the 95th percentile of the time for a row, against that of the model in production."""
    caller = Caller(folder, max_latency_ratio=2, latency_margin_ms=5, min_requests=20)
    model = caller.app._split._challenger.predictor._model
    run_one = model.run_one
    model.run_one = lambda row: time.sleep(0.02) or run_one(row)
    for _ in range(20 + EVERY):
        caller.variant(subjects["A"][0])
        if caller.variant(subjects["B"][0]) == "":
            break
    assert caller.app.metrics.stopped()
    (line,) = [record.message for record in caplog.records if "stopped itself" in record.message]
    assert "the challenger takes" in line and "ms for a row (95th percentile)" in line


def test_few_requests_stop_nothing(folder, subjects):
    """Of three requests two may fail by chance."""
    caller = Caller(folder, max_failures=0.1, min_requests=1000)
    for _ in range(2 * EVERY):
        caller.variant(subjects["B"][0], ODD)
    assert not caller.app.metrics.stopped()


def test_another_process_can_stop_the_experiment(folder, subjects):
    """A worker's next answer is production's: no process asks the challenger after that."""
    caller = Caller(folder)
    assert caller.variant(subjects["B"][0]) == "B"
    caller.app.metrics.count_as(1)
    caller.app.metrics.stop_trial()
    caller.app.metrics.count_as(0)
    assert caller.variant(subjects["B"][0]) == ""


def test_metrics_tell_both_models_apart(folder, subjects):
    """Requests, failures and times by variant, and predictions by version."""
    caller = Caller(folder)
    for subject in (*subjects["A"][:3], *subjects["B"][:2]):
        caller.variant(subject)
    caller.post("/predict/batch", {"features": [ROW] * 4, "subject": subjects["B"][0]})
    caller.post("/predict", {"features": ODD, "subject": subjects["B"][0]})
    name = {"experiment": "new-trees"}
    about = {**name, "mode": "ab", "champion": "3", "challenger": "4"}
    assert caller.metric("slipway_experiment_info", **about) == 1
    assert caller.metric("slipway_experiment_share", **name) == 0.5
    assert caller.metric("slipway_experiment_requests_total", variant="A", **name) == 3
    assert caller.metric("slipway_experiment_requests_total", variant="B", **name) == 4
    assert caller.metric("slipway_experiment_failures_total", **name) == 1
    assert caller.metric("slipway_experiment_seconds_count", variant="A", **name) == 3
    assert caller.metric("slipway_experiment_seconds_count", variant="B", **name) == 4
    assert 0 < caller.metric("slipway_experiment_seconds_sum", variant="B", **name) < 10
    assert caller.metric("slipway_experiment_stopped", **name) == 0
    rows = {version: caller.metric("slipway_prediction_value_count", model_version=version) for version in "34"}
    assert rows == {"3": 4, "4": 6}
    classes = {name: caller.metric("slipway_predictions_total", **{"class": name, "model_version": "4"}) for name in ("left", "stayed")}  # fmt: skip
    assert classes == {"left": 0, "stayed": 6}
    assert caller.metric("slipway_shadow_rows_total") is None


def test_texts_that_only_one_model_has_seen_are_counted_by_feature(tmp_path):
    """The warning is that of the model that answers, and the count of the feature that it names."""
    folder = make_experiment(tmp_path / "bundle", "ab", "columns")
    for place, seen in ((folder, {1: ["red", "green"]}), (folder / EXPERIMENT / CHALLENGER, {1: ["red"], 2: ["red"]})):
        inputs = read(place, "contract.json")["inputs"]
        for number, values in seen.items():
            inputs[number] |= {"observed": {"values": values}}
        change(place, "contract.json", inputs=inputs)
    caller = Caller(folder)
    row = [30.5, "green", "blue"]
    _, _, ours = caller.post("/predict", {"features": row})
    _, _, theirs = caller.post("/predict", {"features": row, "subject": "customer-1"})
    _, _, many = caller.post("/predict/batch", {"features": [row] * 2, "subject": "customer-1"})
    assert "warnings" not in ours
    assert [one["feature"] for one in theirs["warnings"]] == ["colour", "note"] and len(many["warnings"]) == 4
    for feature in ("colour", "note"):
        assert caller.metric("slipway_unseen_categories_total", feature=feature) == 3


def test_a_bundle_without_an_experiment_has_none_of_its_metrics(folder, tmp_path):
    """Nor does the service say anything else of experiments."""
    inside = folder / EXPERIMENT
    away = inside.rename(tmp_path / "away")
    try:
        app = create_app(folder, read_config({}))
    finally:
        away.rename(inside)
    assert b"experiment" not in exposition(app.metrics) and b"shadow" not in exposition(app.metrics)


def test_a_shadow_answers_no_caller(tmp_path):
    """Every answer is production's, without a header, and the metrics are those of a shadow."""
    folder = make_experiment(tmp_path / "bundle", "shadow", "columns")
    graph_that_reads_numbers(folder / EXPERIMENT / CHALLENGER)
    caller = Caller(folder)
    assert caller.variant("customer-1") == ""
    assert caller.metric("slipway_shadow_rows_total", experiment="new-trees") == 0
    assert caller.metric("slipway_experiment_info", mode="shadow") == 1
    assert caller.metric("slipway_experiment_requests_total") is None
