"""The counters in Prometheus' text format."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.telemetry.metrics import BUCKETS, SINGLE, STATUSES, Metrics

# Exported as 0 from the start, so that a rate exists from the first request on.
FROM_THE_START = {(path, status) for path in ("/predict", "/predict/batch") for status in (200, 422, 429, 500)}


def exposition(metrics: Metrics) -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Counted(metrics))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Counted(Collector):
    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """The sums over all processes as prometheus_client's metric families."""
        metrics = self._metrics
        total = metrics.numbers.total()
        for place, (name, text, grows) in enumerate(SINGLE):
            family = CounterMetricFamily if grows else GaugeMetricFamily
            yield family(name, text, value=total[place])
        yield from self._request_families(total)
        yield from self._prediction_families(total)
        about = {**msgspec.structs.asdict(metrics.release), "task": metrics.contract.task}
        info = GaugeMetricFamily("slipway_model_info", "Which model serves; always 1.", labels=list(about))
        info.add_metric(list(about.values()), 1)
        yield info

    def _request_families(self, total: list[float]) -> Iterator[Metric]:
        metrics = self._metrics
        requests = CounterMetricFamily("slipway_requests", "Requests answered.", labels=["path", "status"])
        seconds = HistogramMetricFamily("slipway_request_seconds", "Time to answer a request.", labels=["path"])
        for path, number in metrics.paths.items():
            for status, place in metrics.statuses.items():
                count = total[metrics.requests + number * len(STATUSES) + place]
                if count or (path, status) in FROM_THE_START:
                    requests.add_metric([path, str(status)], count)
            at = metrics.seconds + number * (len(BUCKETS) + 2)
            counts = total[at : at + len(BUCKETS) + 1]
            if any(counts):
                seconds.add_metric([path], _buckets(BUCKETS, counts), total[at + len(BUCKETS) + 1])
        yield requests
        yield seconds

    def _prediction_families(self, total: list[float]) -> Iterator[Metric]:
        metrics = self._metrics
        version = metrics.release.version
        labels = ["class", "model_version"]
        predictions = CounterMetricFamily("slipway_predictions", "Rows predicted.", labels=labels)
        for number, name in enumerate(metrics.contract.classes or ["value"]):
            # Exported as 0, so that a rate exists from the first prediction on.
            predictions.add_metric([name, version], total[metrics.predictions + number])
        yield predictions
        text = "The predicted value: of the positive class, or of the class that was predicted, its probability."
        values = HistogramMetricFamily("slipway_prediction_value", text, labels=["model_version"])
        counts = total[metrics.values : metrics.values + len(metrics.limits) + 1]
        values.add_metric([version], _buckets(metrics.limits, counts), total[metrics.values + len(metrics.limits) + 1])
        yield values
        if metrics.unseen_features:
            text = "Rows with a text that training never saw."
            unseen = CounterMetricFamily("slipway_unseen_categories", text, labels=["feature"])
            for number, name in enumerate(metrics.unseen_features):
                unseen.add_metric([name], total[metrics.unseen_texts + number])
            yield unseen


def _buckets(limits: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    return list(zip([*(str(float(limit)) for limit in limits), "+Inf"], accumulate(counts), strict=True))
