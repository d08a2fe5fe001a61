"""Prometheus' rules, tested by Prometheus itself: what each records, and when each alert fires."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring.rules import FILES, FOLDER, ROOT, alerts, exposed, grows, recorded, rules, series, stays

HOUR, DAY = 60, 24 * 60  # minutes
# Rules are evaluated less often in longer stories, or these take seconds. An alert may be evaluated before what it reads is recorded:
# so one that reads a recorded value needs 5 minutes, after which that is too old, and one over half an hour of them, less than that.
INTERVALS = ((8 * DAY, "3h"), (2 * DAY, "15m"), (6 * HOUR, "5m"), (-1, "1m"))
FIRING = 'count by (alertname, environment) (ALERTS{alertstate="firing"})'


def promtool(*arguments: str | Path, cwd: Path = FOLDER) -> str:
    """promtool's output; fails when it finds an error."""
    done = subprocess.run(["promtool", *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(tmp_path: Path, given: list[dict], minute: int, wanted: dict[str, dict[str, float]]) -> None:
    """Assert the results of queries at a minute of these series: {query: {labels: value}}, no more and no less."""
    asked = [
        {"expr": query, "eval_time": f"{minute}m", "exp_samples": [{"labels": k, "value": v} for k, v in found.items()]}
        for query, found in wanted.items()
    ]
    test = {"interval": "1m", "input_series": given, "promql_expr_test": asked}
    file = {
        "rule_files": [str(file) for file in FILES],
        "evaluation_interval": next(interval for longer, interval in INTERVALS if minute > longer),
        "tests": [test],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(file), encoding="utf-8")
    promtool("test", "rules", "test.yml", cwd=tmp_path)


def requests(minutes: int, path: str = "/predict", **statuses: float) -> list[dict]:
    """Request counters, per minute, by status (written s200=60)."""
    return [
        series("slipway_requests_total", grows((rate, minutes)), path=path, status=status[1:])
        for status, rate in statuses.items()
    ]


def latency(slow: float, minutes: int = 30, path: str = "/predict", a_minute: float = 60) -> list[dict]:
    """A histogram in which a share of requests takes between 0.5 and 1 s, and the others under 1 ms."""
    fast = a_minute * (1 - slow)
    by_limit = {"0.001": fast, "0.5": fast, "1.0": a_minute, "+Inf": a_minute}
    return [
        series("slipway_request_seconds_bucket", grows((rate, minutes)), path=path, le=limit)
        for limit, rate in by_limit.items()
    ] + requests(minutes, path, s200=a_minute)


def values(*phases: tuple[float, float, int], version: str = "3", limit: str = "0.5") -> list[dict]:
    """Predicted values by phases of (number per minute, share at or below the limit, minutes); two classes."""
    low = grows(*((rate * share, minutes) for rate, share, minutes in phases))
    high = grows(*((rate * (1 - share), minutes) for rate, share, minutes in phases))
    every = grows(*((rate, minutes) for rate, _, minutes in phases))
    total = grows(*((rate * (share * 0.25 + (1 - share) * 0.75), minutes) for rate, share, minutes in phases))
    return [
        series("slipway_prediction_value_bucket", low, model_version=version, le=limit),
        series("slipway_prediction_value_bucket", every, model_version=version, le="+Inf"),
        series("slipway_prediction_value_count", every, model_version=version),
        series("slipway_prediction_value_sum", total, model_version=version),
        series("slipway_predictions_total", low, model_version=version, **{"class": "no"}),
        series("slipway_predictions_total", high, model_version=version, **{"class": "yes"}),
    ]


def log(queue: str, written: float, errors=0.0, lost=0.0, begun_anew=0.0, minutes: int = 30) -> list[dict]:
    """The prediction log's metrics: how many records wait, and how many per minute are written, fail, are lost and are begun anew."""
    counters = {"written": written, "errors": errors, "lost": lost, "begun_anew": begun_anew}
    return [series("slipway_log_queue_records", queue)] + [
        series(f"slipway_log_{name}_total", grows((rate, minutes))) for name, rate in counters.items()
    ]


def up(*phases: tuple[float, int], environment: str = "production") -> dict:
    """Whether a scrape succeeded."""
    return series("up", stays(*phases), environment=environment)


def predictions(*phases: tuple[float, int], **labels: str) -> list[dict]:
    return [series("slipway_predictions_total", grows(*phases), model_version="3", **{"class": "yes"}, **labels)]


def alarm(kind: str, *phases: tuple[float, int], feature: str = "") -> list[dict]:
    """An alarm of the monitor, on two pods."""
    pods = ({"instance": f"pod-{pod}:8000"} for pod in "ab")
    return [series("slipway_drift_alarm", stays(*phases), feature=feature, kind=kind, **pod) for pod in pods]


def accuracy(value: float, outcomes: int, version: str = "3") -> list[dict]:
    """The accuracy that was measured on so many outcomes."""
    return [
        series("model_accuracy", stays((value, 60)), model_version=version),
        series("slipway_outcomes", stays((outcomes, 60)), model_version=version),
    ]


def feedback(*phases: tuple[float, int]) -> list[dict]:
    """Outcomes that callers sent, per minute."""
    return [series("slipway_requests_total", grows(*phases), path="/feedback", status="200")]


def monitored(*phases: tuple[float, int]) -> list[dict]:
    """When the monitor last ran, in days since the test's first moment."""
    return [series("slipway_monitor_last_success_timestamp_seconds", stays(*((day * 86400, m) for day, m in phases)))]


def gone(minutes: int, given: list[dict]) -> list[dict]:
    """The same series, which are not shown any more at their end."""
    return [{**one, "values": f"{one['values']} _x{minutes}"} for one in given]


def restarts(*phases: tuple[float, int]) -> list[dict]:
    return [series("slipway_worker_restarts_total", grows(*phases))]


def stopped(*phases: tuple[float, int]) -> list[dict]:
    """Whether an experiment has stopped itself, on two pods, of which one learns of it from the log."""
    pods = ({"instance": f"pod-{pod}:8000"} for pod in "ab")
    return [series("slipway_experiment_stopped", stays(*phases), experiment="greener", **pod) for pod in pods]


def shadow(answered: float, dropped: float, failed: float = 0, restarts: float = 0) -> list[dict]:
    """Rows per minute by what became of them in the shadow, and restarts per minute, for an hour."""
    counters = {"rows": answered, "rows_failed": failed, "rows_dropped": dropped, "restarts": restarts}
    return [
        series(f"slipway_shadow_{name}_total", grows((rate, HOUR)), experiment="greener")
        for name, rate in counters.items()
    ]


# Alert, situation, series, minute of the check, and whether it fires.
CASES = [
    ("ServiceDown", "production has been down for 3 minutes", [up((1, 30), (0, 10))], 33, True),
    ("ServiceDown", "production was never up", [up((0, 10))], 5, True),
    ("ServiceDown", "staging was up an hour ago", [up((1, 30), (0, HOUR), environment="staging")], 80, True),
    ("ServiceDown", "staging was never deployed", [up((1, 30)), up((0, 30), environment="staging")], 25, False),
    ("ServiceDown", "production misses one scrape", [up((1, 10), (0, 1), (1, 10))], 10, False),
    ("ErrorRatioHigh", "5 % of the requests fail", requests(30, s200=57, s500=3), 20, True),
    ("ErrorRatioHigh", "every request fails", requests(30, s503=60), 20, True),
    ("ErrorRatioHigh", "probes succeed, requests do not", requests(30, s500=60) + requests(30, "/healthz", s200=6000), 20, True),
    ("ErrorRatioHigh", "1 % of the requests fail", requests(30, s200=594, s500=6), 20, False),
    ("ErrorRatioHigh", "callers send what is wrong", requests(30, s200=1, s422=60), 20, False),
    ("ErrorRatioHigh", "two requests a quarter of an hour, one fails", requests(30, s200=0.1, s500=0.1), 20, False),
    ("ErrorRatioHigh", "nobody asks", requests(30, s200=0, s500=0), 20, False),
    ("LatencyHigh", "2 % take over 0.5 s", latency(0.02), 20, True),
    ("LatencyHigh", "2 % of MLflow's protocol take over 0.5 s", latency(0.02, path="/invocations"), 20, True),
    ("LatencyHigh", "0.5 % take over 0.5 s", latency(0.005), 20, False),
    ("LatencyHigh", "a page takes over 0.5 s", latency(1, path="/docs"), 20, False),
    ("LatencyHigh", "a request a minute, all slow", latency(1, a_minute=1), 20, False),
    ("RateLimited", "10 % are too many", requests(30, s200=54, s429=6), 20, True),
    ("RateLimited", "1 % are too many", requests(30, s200=594, s429=6), 20, False),
    ("CallersRefused", "3 % without a key, 3 % without the scope", requests(30, s200=94, s401=3, s403=3), 20, True),
    ("CallersRefused", "4 % without a key", requests(30, s200=96, s401=4), 20, False),
    ("CallersRefused", "a scanner tries other paths", requests(30, s200=60) + requests(30, "other", s404=600), 20, False),
    ("WorkersRestarting", "a worker ends each minute", restarts((0, 10), (1, 20)), 25, True),
    ("WorkersRestarting", "one worker ended", restarts((0, 10), (1, 1), (0, 20)), 20, False),
    ("LogRecordsLost", "records were lost", log(stays((0, 30)), written=60, lost=1), 20, True),
    ("LogRecordsLost", "none is lost", log(stays((0, 30)), written=60), 20, False),
    ("LogDatabaseFailing", "every attempt fails", log(stays((0, 30)), written=0, errors=12), 20, True),
    ("LogDatabaseFailing", "an attempt fails, the others do not", log(stays((0, 30)), written=60, errors=1), 20, False),
    ("LogBegunAnew", "the file was gone, once an hour", log(stays((0, 30)), written=60, begun_anew=1 / 60), 20, True),
    ("LogBegunAnew", "the file stays", log(stays((0, 30)), written=60), 20, False),
    ("LogQueueGrowing", "a minute's worth waits", log(stays((60, 30)), written=60), 20, True),
    ("LogQueueGrowing", "the database hangs", log(grows((5, 30)), written=0), 20, True),
    ("LogQueueGrowing", "many come, half a second's worth waits", log(stays((2500, 30)), written=300_000), 20, False),
    ("LogQueueGrowing", "nobody predicts", log(stays((0, 30)), written=0), 20, False),
    ("NoPredictions", "none for an hour, yesterday there were", predictions((6, DAY), (0, 2 * HOUR)), DAY + HOUR, True),
    ("NoPredictions", "a quiet hour every day", predictions((6, DAY - HOUR), (0, HOUR), (6, DAY - HOUR), (0, HOUR)), 2 * DAY - 10, False),
    ("NoPredictions", "yesterday a release was tested once", predictions((0, 60), (900, 2), (0, DAY)), DAY + 70, False),
    ("NoPredictions", "a service of today", predictions((6, HOUR), (0, HOUR)), 2 * HOUR - 5, False),
    ("NoPredictions", "no fewer than yesterday", predictions((6, DAY + 2 * HOUR)), DAY + HOUR, False),
    ("PredictedValuesShifted", "30 % of the values moved", values((20, 0.3, DAY), (20, 0.6, 2 * HOUR)), DAY + 100, True),
    ("PredictedValuesShifted", "10 % of the values moved", values((20, 0.3, DAY), (20, 0.4, 2 * HOUR)), DAY + 100, False),
    ("PredictedValuesShifted", "too few values in the hour", values((20, 0.3, DAY), (2, 0.9, 2 * HOUR)), DAY + 100, False),
    ("PredictedValuesShifted", "too few values before", values((20, 0.3, 30), (20, 0.9, HOUR)), 85, False),
    ("ClassesShifted", "30 % of the rows moved", values((20, 0.3, DAY), (20, 0.6, 2 * HOUR)), DAY + 100, True),
    ("ClassesShifted", "10 % of the rows moved", values((20, 0.3, DAY), (20, 0.4, 2 * HOUR)), DAY + 100, False),
    ("DataBroken", "a feature is empty", alarm("data_broken", (1, HOUR), feature="mass"), 20, True),
    ("DataBroken", "requests are refused", alarm("data_broken", (1, HOUR)), 20, True),
    ("DataBroken", "it is mended", alarm("data_broken", (0, HOUR), feature="mass"), 20, False),
    ("DataBroken", "the first minutes", alarm("data_broken", (1, HOUR)), 10, False),
    ("DataBroken", "it was mended half an hour ago", alarm("data_broken", (1, HOUR), (0, HOUR)), 90, True),
    ("DataBroken", "it was mended two hours ago", alarm("data_broken", (1, HOUR), (0, 3 * HOUR)), 180, False),
    ("FeatureDrift", "a feature drifted", alarm("data_drift", (1, HOUR), feature="mass"), 20, True),
    ("FeatureDrift", "none did", alarm("data_drift", (0, HOUR), feature="mass"), 20, False),
    ("PredictionDrift", "the predictions drifted", alarm("prediction_drift", (1, HOUR), feature="prediction: yes"), 20, True),
    ("PredictionDrift", "they did not", alarm("prediction_drift", (0, HOUR)), 20, False),
    ("TargetDrift", "the outcomes drifted", alarm("target_drift", (1, HOUR)), 20, True),
    ("TargetDrift", "they did not", alarm("target_drift", (0, HOUR)), 20, False),
    ("ConceptDrift", "the relation changed", alarm("concept_drift", (1, HOUR)), 20, True),
    ("ConceptDrift", "it did not", alarm("concept_drift", (0, HOUR)), 20, False),
    ("PerformanceLow", "more answers are wrong", alarm("performance", (1, HOUR)), 20, True),
    ("PerformanceLow", "as many as ever are", alarm("performance", (0, HOUR)), 20, False),
    ("AccuracyBelowLimit", "79 % of 100", accuracy(0.79, 100), 20, True),
    ("AccuracyBelowLimit", "80 % of 100", accuracy(0.8, 100), 20, False),
    ("AccuracyBelowLimit", "none of 99", accuracy(0, 99), 20, False),
    ("AccuracyBelowLimit", "enough outcomes of another version", accuracy(0.5, 40, "4") + accuracy(0.9, 1000), 20, False),
    ("OutcomesStopped", "none for four days", feedback((1, 18 * DAY), (0, 5 * DAY)), 22 * DAY, True),
    ("OutcomesStopped", "none since a release that is four days old", gone(5 * DAY, feedback((1, 18 * DAY))), 22 * DAY, True),
    ("OutcomesStopped", "none for two days", feedback((1, 18 * DAY), (0, 5 * DAY)), 20 * DAY, False),
    ("OutcomesStopped", "they come once a month", feedback((0, 10 * DAY), (60, HOUR), (0, 13 * DAY)), 22 * DAY, False),
    ("OutcomesStopped", "one was tried in a service of nine days", feedback((1, DAY), (0, 9 * DAY)), 9 * DAY, False),
    ("MonitorStale", "it ran three days ago", monitored((1, 4 * DAY)), 4 * DAY - 30, True),
    ("MonitorStale", "it ran three days ago, and the service forgot", gone(3 * DAY, monitored((1, DAY))), 4 * DAY - 30, True),
    ("MonitorStale", "it ran yesterday", monitored((1, DAY), (2, DAY), (3, 2 * DAY)), 4 * DAY - 30, False),
    ("MonitorStale", "it never ran", log(stays((0, 4 * DAY)), written=60, minutes=4 * DAY), 4 * DAY - 30, False),
    ("ExperimentStopped", "a guardrail was broken", stopped((0, 10), (1, HOUR)), 15, True),
    ("ExperimentStopped", "the service has just started again", stopped((1, 20), (0, 5)), 23, True),
    ("ExperimentStopped", "it runs", stopped((0, HOUR)), 15, False),
    ("ExperimentStopped", "it was ended half an hour ago", gone(HOUR, stopped((1, 10))), 45, False),
    ("ShadowRowsDropped", "three of four rows", shadow(20, 60), 40, True),
    ("ShadowRowsDropped", "no row is answered", shadow(0, 60), 40, True),
    ("ShadowRowsDropped", "one of four rows", shadow(60, 20), 40, False),
    ("ShadowRowsDropped", "most, of a row a minute", shadow(0.2, 0.8), 40, False),
    ("ShadowRowsDropped", "none, but many without an answer", shadow(20, 0, failed=60), 40, False),
    ("ShadowRestarting", "once a minute", shadow(60, 1, restarts=1), 40, True),
    ("ShadowRestarting", "once in ten minutes", shadow(60, 1, restarts=0.1), 40, False),
    ("RetrainsExhausted", "two were in vain", [series("slipway_retrains_exhausted", stays((1, HOUR)))], 20, True),
    ("RetrainsExhausted", "one may follow", [series("slipway_retrains_exhausted", stays((0, HOUR)))], 20, False),
]  # fmt: skip
TOGETHER = {"PredictedValuesShifted": {"ClassesShifted"}, "ClassesShifted": {"PredictedValuesShifted"}}


def test_every_alert_is_tested_both_ways():
    """Each alert has a case in which it fires and one in which it does not."""
    for fires in (True, False):
        assert {case[0] for case in CASES if case[4] is fires} == set(alerts())


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(("alert", "case", "given", "minute", "fires"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_alert_fires_when_it_should_and_no_other_does(tmp_path, alert, case, given, minute, fires):
    """In each case exactly the right alerts are firing."""
    environment = re.search(r'environment="(\w+)"', given[-1]["series"])[1]
    firing = {alert} | TOGETHER.get(alert, set()) if fires else set()
    wanted = {f'{{alertname="{name}", environment="{environment}"}}': 1 for name in firing}
    ask(tmp_path, given, minute, {FIRING: wanted})


@pytest.mark.needs("promtool")
@pytest.mark.parametrize(("week_ago", "fires"), [(0, False), (6, True)])
def test_usually_quiet_day_does_not_alert(tmp_path, week_ago, fires):
    """A day without predictions is no alert if there were none a week ago either, even though there were some yesterday."""
    given = predictions((week_ago, DAY), (6, 6 * DAY), (0, DAY))
    found = {'{alertname="NoPredictions", environment="production"}': 1} if fires else {}
    ask(tmp_path, given, 7 * DAY + 12 * HOUR, {FIRING: found})


@pytest.mark.needs("promtool")
def test_new_version_is_not_compared_with_the_previous_one(tmp_path):
    """Its predictions may differ: it is compared with its own day once it has one."""
    old = values((20, 0.3, DAY), (0, 0, 2 * HOUR), version="3")
    new = values((0, 0, DAY), (20, 0.9, 2 * HOUR), version="4")
    ask(tmp_path, old + new, DAY + 100, {FIRING: {}})


@pytest.mark.needs("promtool")
def test_recorded_request_metrics_are_right(tmp_path):
    """Rates, shares, the error ratio and the quantiles are those of the series, and probes count in no share."""
    given = requests(30, s200=54, s429=3, s500=3) + requests(30, "/healthz", s200=600)
    given += [one for one in latency(0.25, path="/invocations") if "_bucket" in one["series"]]
    where, path = 'environment="production"', 'environment="production", path="/invocations"'
    wanted = {
        "environment:slipway_requests:rate5m": {f"environment:slipway_requests:rate5m{{{where}}}": 1},
        'environment_path_status:slipway_requests:rate5m{path="/healthz"}': {
            f'environment_path_status:slipway_requests:rate5m{{{where}, path="/healthz", status="200"}}': 10
        },
        "sum(environment_status:slipway_requests:share5m)": {"{}": 1},
        'environment_status:slipway_requests:share5m{status="429"}': {
            f'environment_status:slipway_requests:share5m{{{where}, status="429"}}': 0.05
        },
        "environment:slipway_requests:error_ratio5m": {f"environment:slipway_requests:error_ratio5m{{{where}}}": 0.05},
        "round(environment_path:slipway_request_seconds:p50_5m * 1e6)": {f"{{{path}}}": 667},  # in the first bucket
        "environment_path:slipway_request_seconds:p99_5m": {
            f"environment_path:slipway_request_seconds:p99_5m{{{path}}}": 0.98  # 24/25 of the way from 0.5 to 1 s
        },
    }
    ask(tmp_path, given, 20, wanted)


@pytest.mark.needs("promtool")
def test_recorded_prediction_metrics_are_right(tmp_path):
    """Rates, class shares, the mean value and both shifts are those of the series."""
    given = values((20, 0.3, DAY), (20, 0.6, 2 * HOUR))
    where, version = 'environment="production"', 'environment="production", model_version="3"'
    share = "environment_version_class:slipway_predictions:share1h"
    wanted = {
        "round(environment:slipway_predictions:rate5m * 60)": {f"{{{where}}}": 20},
        "round(environment_class:slipway_predictions:rate5m * 60)": {
            f'{{class="no", {where}}}': 12,
            f'{{class="yes", {where}}}': 8,
        },
        f"round({share}, 0.0001)": {f'{{class="no", {version}}}': 0.6, f'{{class="yes", {version}}}': 0.4},
        "round(environment_version:slipway_prediction_value:mean1h, 0.0001)": {f"{{{version}}}": 0.45},
        # The day before contains the first of the two unusual hours: 0.6 - (0.3 x 23 + 0.6) / 24 and some minutes.
        "round(environment_version:slipway_prediction_value:shift, 0.01)": {f"{{{version}}}": 0.29},
        "round(environment_version:slipway_predictions:class_shift, 0.01)": {f"{{{version}}}": 0.29},
    }
    ask(tmp_path, given, DAY + 100, wanted)


@pytest.mark.needs("promtool")
def test_prometheus_accepts_the_files(tmp_path):
    """Configuration and rules are valid as shipped, once there is a key."""
    config = (FOLDER / "prometheus.yml").read_text(encoding="utf-8").replace("rules/*.yml", f"{FOLDER}/rules/*.yml")
    key = tmp_path / "metrics"
    key.write_text("a key", encoding="utf-8")
    assert "/etc/slipway/keys/metrics" in config
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/slipway/keys/metrics", str(key)), encoding="utf-8")
    said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert sum(map(int, re.findall(r"(\d+) rules found", said))) == len(recorded()) + len(alerts())
    promtool("check", "rules", *FILES)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_has_a_runbook(alert):
    """Each has a severity, a summary, a description, and a runbook link to an existing heading."""
    told = alerts()[alert]
    assert told["labels"]["severity"] in ("critical", "warning")
    assert set(told["annotations"]) == {"summary", "description", "runbook_url"} and all(told["annotations"].values())
    page, _, heading = told["annotations"]["runbook_url"].partition("#")
    assert not heading or heading in headings(ROOT / page)
    assert heading or (page.startswith("docs/runbooks/") and (ROOT / page).exists())


def test_rules_use_existing_metrics():
    """Each series in a rule is exposed by the service or recorded by another rule."""
    for rule in rules():
        found = re.findall(
            r"(?:\w+:)?(?:slipway|model|data)_\w+(?::\w+)?", re.sub(r"\([\w, ]+\)|\{.*?\}", "", rule["expr"])
        )
        for name in found:
            known = name in recorded() if ":" in name else re.sub("_(total|bucket|sum|count)$", "", name) in exposed()
            assert known, (name, rule)


def test_every_alert_is_documented():
    """The tables of alerts in docs/monitoring.md name each alert once."""
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8").split("## The alerts")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|[^|]+\| (critical|warning) \|", page, re.M)
    named = [(name, severity) for names, severity in rows for name in re.findall(r"`([A-Za-z]+)`", names)]
    assert sorted(named) == sorted((name, rule["labels"]["severity"]) for name, rule in alerts().items())
