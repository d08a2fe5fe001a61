"""What the monitor found, in Prometheus' text format, read from the database at most once a minute."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.counts.exposed import Exposed
from serving.counts.findings import Kept, make, read
from serving.log.store import Store, StoreError

FRESH = 60.0  # seconds for which what was read is shown; the monitor runs once a day
PATIENCE = 2.0  # seconds that a scrape waits for the first reading, and for no other
_log = logging.getLogger("serving")


class Gauges:
    """The gauges of one worker. A thread of its own reads and renders them, so that a slow database delays no answer.

    What was read last stays while the database is away: slipway_monitor_last_success_timestamp_seconds says how old it is.
    """

    def __init__(self, database: str, model: str, now: Callable[[], float] = time.monotonic):
        """`database` is the URL of the prediction log, "" where there is none: then there are no gauges."""
        self._database, self._model, self._now = database, model, now
        self._thread = ThreadPoolExecutor(1, "findings")
        self._reading: asyncio.Future | None = None
        self._next = 0.0
        self._read_once = self._failing = False
        self._text = b""

    async def text(self) -> bytes:
        """The gauges as they were read last; starts another reading when it is time. Never raises."""
        if not self._database:
            return b""
        idle = self._reading is None or self._reading.done()
        if idle and self._now() >= self._next:
            self._next = self._now() + FRESH
            self._reading = asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        if not self._read_once and self._reading is not None:
            await asyncio.wait([self._reading], timeout=PATIENCE)
        return self._text

    def _read(self) -> None:
        try:
            # Not kept open: where the log's file is lost, a new one could not be begun beside a connection to the old one.
            with closing(Store(self._database)) as store:
                make(store)
                kept = read(store, self._model)
            self._text = exposition(kept) if kept else b""
            self._failing = False
        except (StoreError, ValueError) as error:
            if not self._failing:
                _log.warning("what the monitor found cannot be read, the last of it stays: %s", error)
            self._failing = True
        self._read_once = True


def exposition(kept: Kept) -> bytes:
    """The gauges in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Found(kept))
    return generate_latest(registry)


class _Found(Collector):
    def __init__(self, kept: Kept):
        self._time, self._exposed = kept

    def collect(self) -> Iterator[Metric]:
        """The gauges as prometheus_client's metric families."""
        text = "When the monitor last wrote what it found, in seconds since 1970."
        yield GaugeMetricFamily("slipway_monitor_last_success_timestamp_seconds", text, value=self._time)
        yield from _of_features(self._exposed)
        yield from _of_outcomes(self._exposed)
        text = "1 where a kind of incident is open, for one feature or (empty) for all rows; 0 where it is over or never was."
        alarms = {(one.feature, one.kind): float(one.open) for one in self._exposed.alarms}
        yield _family("slipway_drift_alarm", text, ("feature", "kind"), alarms)
        exhausted = float(self._exposed.retrains_exhausted)
        text = "1 if the allowed number of retrainings did not end an incident, so that a person must look."
        yield GaugeMetricFamily("slipway_retrains_exhausted", text, value=exhausted)


def _of_features(exposed: Exposed) -> Iterator[Metric]:
    score = {(one.name,): one.score for one in exposed.features}
    text = "Distance of the last days from training, 0 to 1: Kolmogorov-Smirnov for numbers, total variation for texts."
    yield _family("data_drift_score", text, ("feature",), score)
    evidence = {(one.name,): one.evidence for one in exposed.features}
    text = "Evidence of the drift detector as a share of its limit, both as logarithms: 1 is an alarm."
    yield _family("slipway_drift_evidence", text, ("feature",), evidence)
    missing = {(one.name,): one.missing for one in exposed.features}
    yield _family(
        "slipway_missing_ratio", "Share of rows with an empty cell, over the last days.", ("feature",), missing
    )


def _of_outcomes(exposed: Exposed) -> Iterator[Metric]:
    version = exposed.version
    measured = {(name, version): value for name, value in exposed.performance.items()}
    text = "Performance over the last days, measured from outcomes."
    yield _family("slipway_performance", text, ("metric", "model_version"), measured)
    accuracy = {(version,): exposed.performance.get("accuracy")}
    text = "Share of right answers over the last days, measured from outcomes."
    yield _family("model_accuracy", text, ("model_version",), accuracy)
    estimated = {(name,): value for name, value in exposed.estimated.items()}
    text = "Performance over the last days, estimated from the model's own probabilities."
    yield _family("slipway_performance_estimated", text, ("metric",), estimated)
    outcomes = {(version,): exposed.outcomes} if version else {}
    text = "Rows of the last days with an outcome: those that performance is measured on."
    yield _family("slipway_outcomes", text, ("model_version",), outcomes)
    text = "Share of the rows of the last days, old enough to have an outcome, that have one."
    yield _family("slipway_label_coverage", text, ("model_version",), {(version,): exposed.coverage})
    delay = {(quantile,): seconds for quantile, seconds in exposed.label_delay.items()}
    text = "Time from a prediction to its outcome, by quantile."
    yield _family("slipway_label_delay_seconds", text, ("quantile",), delay)


def _family(name: str, text: str, labels: tuple[str, ...], values: dict) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family
