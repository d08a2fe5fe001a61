"""Health, model information and metrics of the service."""

import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.config import read_config
from serving.problems import Problem
from tests.serving.bundles import read
from tests.serving.service import serving


def _metric(service, series, **labels):
    """The value of one series, 0 when there is none."""
    for family in text_string_to_metric_families(service.get("/metrics").text):
        for sample in family.samples:
            if sample.name == series and labels.items() <= sample.labels.items():
                return sample.value
    return 0


def test_health_is_a_readable_summary(binary):
    """Status, model, version and a growing uptime."""
    first = binary.get("/health").json()
    assert first | {"uptime_seconds": 0} == {
        "status": "ok",
        "model": "cars",
        "version": "3",
        "uptime_seconds": 0,
    }
    time.sleep(0.11)
    assert binary.get("/health").json()["uptime_seconds"] > first["uptime_seconds"]


def test_liveness_and_readiness(service):
    """Both return 200 when the model answers its example."""
    assert service.get("/healthz").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready", "model_version": "3"}


def test_failing_model_is_not_ready(bundle):
    """/readyz runs a real prediction: with a model that fails, it returns 503."""
    app = create_app(bundle, read_config({}))
    assert b"ready" in app.ready()
    app.predictor._model = None
    with pytest.raises(Problem) as caught:
        app.ready()
    assert caught.value.status == 503
    assert "does not answer its example row" in caught.value.detail


def test_model_info_describes_the_model(service):
    """Everything from release.json, and the contract's task, classes and inputs."""
    info, contract = service.get("/model/info").json(), service.contract
    release = read(service.bundle, "release.json")
    assert {key: info[key] for key in release} == release
    assert {key: info[key] for key in ("task", "classes", "positive", "target")} == {
        key: contract[key] for key in ("task", "classes", "positive", "target")
    }
    for given, column in zip(info["inputs"], contract["inputs"], strict=True):
        assert {key: given[key] for key in column if key != "observed"} == {
            key: value for key, value in column.items() if key != "observed"
        }


def test_requests_are_counted_by_path_and_status(binary):
    """Each response increments exactly its own counter."""
    counts = {("200", "/predict"): 3, ("422", "/predict"): 2, ("200", "/predict/batch"): 1}
    before = {key: _metric(binary, "slipway_requests_total", status=key[0], path=key[1]) for key in counts}
    for _ in range(3):
        binary.predict(binary.example)
    for _ in range(2):
        binary.predict({})
    binary.post("/predict/batch", {"features": [binary.example]})
    for (status, path), expected in counts.items():
        after = _metric(binary, "slipway_requests_total", status=status, path=path)
        assert after - before[status, path] == expected


def test_unknown_paths_share_one_counter(binary):
    """A scanner that tries many paths cannot grow the metrics."""
    before = _metric(binary, "slipway_requests_total", path="other", status="404")
    for number in range(5):
        binary.get(f"/scan/{number}")
    assert _metric(binary, "slipway_requests_total", path="other", status="404") == before + 5
    assert "/scan/" not in binary.get("/metrics").text


def test_predictions_are_counted_by_class(service):
    """A batch increments the counter of each row's class; a regression counts values."""
    labels = [expected.get("label", "value") for expected in service.golden["expected"]]
    names = service.contract["classes"] or ["value"]
    before = {name: _metric(service, "slipway_predictions_total", **{"class": name}) for name in names}
    service.post("/predict/batch", {"features": service.golden["inputs"]})
    for name in names:
        after = _metric(service, "slipway_predictions_total", **{"class": name})
        assert after - before[name] == labels.count(name)


def test_every_class_starts_at_0(bundle):
    """A fresh service exports each class as 0, so that a rate exists from the start."""
    with serving(bundle) as fresh:
        text = fresh.get("/metrics").text
    assert 'slipway_predictions_total{class="no",model_version="3"} 0.0' in text
    assert 'slipway_predictions_total{class="yes",model_version="3"} 0.0' in text


def test_latency_buckets_start_at_a_tenth_of_a_millisecond(binary):
    """Buckets from 0.1 ms to 2.5 s; each prediction is observed once."""
    before = _metric(binary, "slipway_request_seconds_count", path="/predict")
    binary.predict(binary.example)
    assert _metric(binary, "slipway_request_seconds_count", path="/predict") == before + 1
    text = binary.get("/metrics").text
    limits = re.findall(r'slipway_request_seconds_bucket\{le="([^"]+)",path="/predict"\}', text)
    assert [float(limits[0]), float(limits[-2]), limits[-1]] == [0.0001, 2.5, "+Inf"]


def test_metrics_name_the_release(binary):
    """The info gauge has the release in its labels."""
    release = read(binary.bundle, "release.json")
    assert _metric(binary, "slipway_model_info", **release, task="binary") == 1


def test_metrics_are_in_prometheus_format(binary):
    """Content type and process metrics are those that Prometheus expects."""
    response = binary.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    if Path("/proc").exists():
        assert _metric(binary, "process_resident_memory_bytes") > 10_000_000
