"""What the service counts, in the Prometheus format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from serving.bundle import Release
from serving.contract import Contract
from serving.predictor import Answer

# Seconds. One row takes well under a millisecond, so the first buckets lie there; the last are batches.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The counters of one service, in a registry of its own."""

    def __init__(self, contract: Contract, release: Release):
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter("slipway_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "slipway_request_seconds",
            "Time to answer a request.",
            ["path"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._predictions = Counter("slipway_predictions", "Rows predicted.", ["class"], registry=self._registry)
        # Present at 0, so that a rate exists from the first prediction; looking a label up costs more than counting.
        self._classes = {name: self._predictions.labels(name) for name in contract.classes or ["value"]}
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        Gauge(
            "slipway_model_info",
            "Which model serves; always 1.",
            ["name", "version", "run_id", "commit", "digest", "task"],
            registry=self._registry,
        ).labels(**release.model_dump(), task=contract.task).set(1)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        counter, histogram = self._children.get((path, status)) or self._child(path, status)
        counter.inc()
        histogram.observe(seconds)

    def predicted(self, answers: list[Answer]) -> None:
        """Count predictions by class; a regression's all as "value"."""
        for answer in answers:
            self._classes[answer.get("label", "value")].inc()

    def _child(self, path: str, status: int) -> tuple[Counter, Histogram]:
        child = self._requests.labels(path, str(status)), self._seconds.labels(path)
        return self._children.setdefault((path, status), child)

    def text(self) -> bytes:
        """All metrics as Prometheus reads them."""
        return generate_latest(self._registry)
