"""The metrics tell what the service did."""

import re


def _metric(client, name, **labels):
    """The value of one series, 0 when it does not exist yet."""
    for line in client("GET", "/metrics").text.splitlines():
        if line.startswith(f"{name}{{") and all(f'{key}="{value}"' in line for key, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_requests_are_counted_by_path_and_status(client, example):
    """Each answer moves the counter of its path and status; others may ask at the same time."""
    before = {s: _metric(client, "slipway_requests_total", path="/predict", status=s) for s in ("200", "422")}
    client("POST", "/predict", json={"features": example})
    client("POST", "/predict", json={"features": {}})
    for status, count in before.items():
        assert _metric(client, "slipway_requests_total", path="/predict", status=status) >= count + 1


def test_predictions_are_counted_by_class(client, contract, golden):
    """The rows of a batch move the counters of the classes that were predicted."""
    labels = [answer.get("label", "value") for answer in golden["expected"]]
    before = {label: _metric(client, "slipway_predictions_total", **{"class": label}) for label in set(labels)}
    client("POST", "/predict/batch", json={"features": golden["inputs"]})
    for label, count in before.items():
        after = _metric(client, "slipway_predictions_total", **{"class": label})
        assert after >= count + labels.count(label)


def test_latency_is_a_histogram_from_a_tenth_of_a_millisecond(client, example):
    """The first bucket ends at 0.1 ms, and a prediction moves the count."""
    before = _metric(client, "slipway_request_seconds_count", path="/predict")
    client("POST", "/predict", json={"features": example})
    assert _metric(client, "slipway_request_seconds_count", path="/predict") >= before + 1
    text = client("GET", "/metrics").text
    buckets = re.findall(r'slipway_request_seconds_bucket\{le="([^"]+)",path="/predict"\}', text)
    assert float(buckets[0]) == 0.0001


def test_the_metrics_name_the_model(client, bundle):
    """The information gauge carries version and digest of the release."""
    release = bundle("release.json")
    labels = {key: release[key] for key in ("version", "digest")}
    assert _metric(client, "slipway_model_info", **labels) == 1
