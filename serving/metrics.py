"""What the service counts, in the Prometheus format."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from serving.bundle import Release
from serving.contract import Contract
from serving.numbers import Numbers
from serving.predictor import Answer

# Seconds. One row takes well under a millisecond, so the first buckets lie there; the last are batches.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
STATUSES = (200, 304, 400, 401, 403, 404, 405, 413, 415, 422, 429, 499, 500, 503)
OTHER = "other"  # one name for all unknown paths: a scanner must not be able to grow the metrics


class Metrics(Collector):
    """The counters of one service: this worker's to write, those of all workers to read.

    Plain numbers at fixed places, because finding a counter by its labels takes longer than a prediction.
    """

    def __init__(self, contract: Contract, release: Release, paths: tuple[str, ...], workers: int = 1):
        self._release, self._task = release, contract.task
        self._paths = {path: number for number, path in enumerate((*paths, OTHER))}
        self._statuses = {status: number for number, status in enumerate(STATUSES)}
        self._classes = {name: number for number, name in enumerate(contract.classes or ["value"])}
        self._requests = 0
        self._seconds = self._requests + len(self._paths) * len(STATUSES)
        self._predictions = self._seconds + len(self._paths) * (len(BUCKETS) + 2)
        self._numbers = Numbers(self._predictions + len(self._classes), workers)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.write_as(0)

    def write_as(self, worker: int) -> None:
        """Count as this worker from now on."""
        self._own = self._numbers.row(worker)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request; a path or status that is not ours counts as "other" or as 500."""
        own, at = self._own, self._paths.get(path, len(self._paths) - 1)
        own[at * len(STATUSES) + self._statuses.get(status, 12)] += 1
        at = self._seconds + at * (len(BUCKETS) + 2)
        own[at + bisect_left(BUCKETS, seconds)] += 1
        own[at + len(BUCKETS) + 1] += seconds

    def predicted(self, answers: list[Answer]) -> None:
        """Count predictions by class; a regression's all as "value"."""
        own = self._own
        for answer in answers:
            own[self._predictions + answer.get("class_id", 0)] += 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """What all workers counted, as prometheus_client wants it."""
        total = self._numbers.total().tolist()
        requests = CounterMetricFamily("slipway_requests", "Requests answered.", labels=["path", "status"])
        seconds = HistogramMetricFamily("slipway_request_seconds", "Time to answer a request.", labels=["path"])
        for path, number in self._paths.items():
            for status, place in self._statuses.items():
                if count := total[number * len(STATUSES) + place]:
                    requests.add_metric([path, str(status)], count)
            at = self._seconds + number * (len(BUCKETS) + 2)
            counts = list(accumulate(total[at : at + len(BUCKETS) + 1]))
            if counts[-1]:
                limits = [*(str(float(limit)) for limit in BUCKETS), "+Inf"]
                seconds.add_metric([path], list(zip(limits, counts, strict=True)), total[at + len(BUCKETS) + 1])
        yield requests
        yield seconds
        predictions = CounterMetricFamily("slipway_predictions", "Rows predicted.", labels=["class"])
        for name, place in self._classes.items():  # present at 0, so that a rate exists from the first prediction
            predictions.add_metric([name], total[self._predictions + place])
        yield predictions
        about = {**self._release.model_dump(), "task": self._task}
        info = GaugeMetricFamily("slipway_model_info", "Which model serves; always 1.", labels=list(about))
        info.add_metric(list(about.values()), 1)
        yield info

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._registry)
