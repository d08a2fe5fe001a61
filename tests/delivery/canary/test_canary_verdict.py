"""The canary's verdict, on counts that were chosen to have one."""

import json
from dataclasses import asdict

import pytest
from prometheus_client import REGISTRY

from delivery.canary.verdict import Counts, Side, judge, lost, read, spread
from pipeline.errors import DeployError
from pipeline.settings import Canary
from serving.http.endpoints import PATHS
from serving.model.bundle import open_bundle
from serving.telemetry.metrics import Metrics
from serving.telemetry.prometheus import exposition
from tests.serving.bundles import make_bundle

RULES = Canary()
INFINITE = float("inf")


def counts(requests: int, errors: int = 0, milliseconds: float = 1.0) -> Counts:
    """Requests of which all took about the same time."""
    edges = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, INFINITE)
    return Counts(
        requests,
        errors,
        requests * milliseconds / 1000,
        {edge: requests * (milliseconds / 1000 <= edge) for edge in edges},
    )


def side(requests: int, errors: int = 0, milliseconds: float = 1.0, batches: Counts | None = None) -> Side:
    """Single rows, and perhaps batches."""
    return Side({"/predict": counts(requests, errors, milliseconds), "/predict/batch": batches or Counts()})


def verdict(stable: Side, canary: Side, waited: float = 1.0, differs: str | None = None):
    """The verdict by default settings."""
    return judge(stable, canary, differs, RULES, waited).verdict


@pytest.fixture
def metrics(tmp_path):
    """Metrics of a service, without the service."""

    return Metrics(open_bundle(make_bundle("binary", tmp_path / "bundle")), PATHS)


def test_what_the_service_counts_is_read_by_path_without_its_probes(metrics):
    """Requests, errors and seconds of predictions; health checks and /metrics are left out."""
    for path, status, seconds in (
        ("/predict", 200, 0.001), ("/predict", 500, 0.003), ("/predict", 422, 0.002), ("/predict/batch", 503, 0.5),
        ("/healthz", 500, 9.0), ("/metrics", 200, 9.0), ("other", 404, 9.0),
    ):  # fmt: skip
        metrics.answered(path, status, seconds)
    found = read(exposition(metrics).decode())
    rows, batches = found.on("/predict"), found.on("/predict/batch")
    assert (rows.requests, rows.errors, rows.timed) == (3, 1, 3)
    assert rows.seconds == pytest.approx(0.006)
    assert rows.buckets[0.001] == 1 and rows.buckets[INFINITE] == 3
    assert (batches.requests, batches.errors) == (1, 1)
    assert (found.requests, found.errors) == (4, 2)


def test_a_service_that_was_never_asked_counts_nothing(metrics):
    """Before the first request the labels are missing, and that is no error."""
    assert read(exposition(metrics).decode()).requests == 0


@pytest.mark.parametrize(
    "text", ["", "<html>no</html>", "process_cpu_seconds_total 1\n", 'slipway_requests_total{a="1" 3']
)
def test_a_text_that_is_not_of_this_service_is_refused(text):
    """Nothing must pass for "no errors"."""
    with pytest.raises(DeployError):
        read(text)


def test_growth_is_what_came_since():
    """The same counters later, less what they were."""
    assert side(300, 3, 1000) - side(100, 1, 1000) == side(200, 2, 1000)


def test_a_pod_that_was_started_anew_has_grown_by_all_that_it_says():
    """As increase() of Prometheus has it; whichever of its counters fell back."""
    assert side(40, 2) - side(100, 1) == side(40, 2)
    assert side(100, 1) - side(100, 3) == side(100, 1)


def test_sides_add_up_over_pods():
    """Two pods are one side, whichever paths they were asked on."""
    assert side(100, 1, 1000) + side(50, 2, 1000) + Side() == side(150, 3, 1000)


def test_equal_sides_without_errors_go_on():
    """The normal case must not hold for ever: 400 golden requests a side are enough."""
    assert verdict(side(400), side(400)) == "go"
    assert verdict(side(3600), side(400)) == "go"


def test_no_errors_in_a_few_requests_are_not_enough():
    """Of 300 requests none fails in one of twenty services that err at the margin of 1 %."""
    assert verdict(side(300), side(300)) == "hold"
    assert verdict(side(400), side(400, 1)) == "hold"


def test_golden_predictions_that_differ_abort_at_once():
    """Whatever the counters say, and before there is anything to count."""
    judgement = judge(Side(), Side(), "row 3 differs", RULES, 0.0)
    assert judgement.verdict == "abort" and judgement.reasons[0] == "row 3 differs"


@pytest.mark.parametrize(("stable", "canary"), [(199, 5000), (5000, 199), (0, 0)])
def test_too_few_requests_on_either_side_hold_and_then_abort(stable, canary):
    """Too little traffic is no proof of anything, and cannot be waited for without end."""
    assert verdict(side(stable), side(canary)) == "hold"
    assert verdict(side(stable), side(canary), waited=RULES.hold_seconds) == "abort"


def test_evidence_in_the_last_second_still_counts():
    """After hold_seconds it is the undecided that is aborted, not what may go on."""
    assert verdict(side(5000), side(5000), waited=9999) == "go"


def test_errors_on_one_side_only_abort():
    """5 % against none, in the shares of 10 % and 50 %."""
    assert verdict(side(1800), side(200, 10)) == "abort"
    assert verdict(side(400), side(400, 20)) == "abort"


def test_errors_of_stable_speak_for_the_canary():
    """A canary that errs less than stable goes on."""
    assert verdict(side(2000, 100), side(2000, 40)) == "go"


def test_a_slow_canary_is_aborted_and_the_path_named():
    """Twice the latency is surely more than 1.2 times."""
    judgement = judge(side(5000, milliseconds=20), side(1000, milliseconds=40), None, RULES, 1.0)
    assert judgement.verdict == "abort" and "1.2 times as long on /predict" in judgement.reasons[0]


def test_another_mix_of_batches_is_no_slowness():
    """The canary got ten times the batches, each as fast as on stable."""
    stable = side(9000, batches=counts(300, milliseconds=90))
    canary = side(1000, batches=counts(3000, milliseconds=90))
    assert verdict(stable, canary) == "go"


def test_slow_batches_abort_however_fast_the_rows_are():
    """Each path is judged by itself."""
    stable, canary = (side(90_000, batches=counts(3000, milliseconds=ms)) for ms in (40, 90))
    judgement = judge(stable, canary, None, RULES, 1.0)
    assert judgement.verdict == "abort" and "/predict/batch" in judgement.reasons[0]


def test_batches_that_fail_abort_among_many_rows_that_do_not():
    """Errors are compared path by path and added up."""
    assert verdict(side(9000, batches=counts(90)), side(1000, batches=counts(20, errors=10))) == "abort"


def test_one_pause_does_not_abort():
    """A single request of two seconds, 2000 times the mean."""
    slow = Counts(1, 0, 2.0, {INFINITE: 1})
    assert verdict(side(3600), side(400) + Side({"/predict": slow})) == "hold"


def test_requests_that_no_pod_answered_are_errors_without_a_time():
    """A canary that does not answer must not look like one without traffic, nor like a fast one."""
    gone = lost(20)
    assert (gone.requests, gone.errors, gone.on("/predict").timed) == (20, 20, 0)
    assert verdict(side(400), side(380) + gone) == "abort"
    assert verdict(side(400), lost(400)) == "abort"


def test_the_spread_is_that_of_the_buckets():
    """Evenly from 0 to 1 ms: one divided by the root of three; values beyond the last edge count by what the sum leaves."""
    assert spread(Counts(100, 0, 0.05, {0.001: 100, INFINITE: 100})) == pytest.approx(3**-0.5)
    assert spread(Counts(100, 0, 10.0, {0.001: 99, INFINITE: 100})) > 5


def test_a_judgement_is_a_line_for_people_and_json_for_programs():
    """Rates, latencies, ratio with its bounds, requests; and no number that JSON has not."""
    judgement = judge(side(3600, 4), side(400, 1), None, RULES, 2.0)
    line = str(judgement)
    assert "\n" not in line and "0.25 % against 0.11 % (1 of 400, 4 of 3600)" in line and "1 ms against 1 ms" in line
    json.dumps(asdict(judgement), allow_nan=False)
    json.dumps(asdict(judge(side(400), lost(400), None, RULES, 2.0)), allow_nan=False)


def test_reading_leaves_the_global_registry_alone(metrics):
    """The parser and the service's registry are their own."""
    before = list(REGISTRY._names_to_collectors)
    read(exposition(metrics).decode())
    assert list(REGISTRY._names_to_collectors) == before
