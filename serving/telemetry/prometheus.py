"""The counters in Prometheus' text format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.experiment.experiment import A, B, Carried
from serving.telemetry.metrics import BUCKETS, SHADOW, SINGLE, STATUSES, TIMES, Metrics

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
        if metrics.carried:
            yield from _experiment_families(metrics, metrics.carried, total)
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
            at = metrics.seconds + number * TIMES
            *counts, spent = total[at : at + TIMES]
            if any(counts):
                seconds.add_metric([path], _buckets(BUCKETS, counts), spent)
        yield requests
        yield seconds
        *counts, spent = total[metrics.explanations : metrics.explanations + TIMES]
        text = "Time to explain an answer, with the wait for other explanations."
        explanations = HistogramMetricFamily("slipway_explanation_seconds", text)
        explanations.add_metric([], _buckets(BUCKETS, counts), spent)
        yield explanations

    def _prediction_families(self, total: list[float]) -> Iterator[Metric]:
        metrics = self._metrics
        labels = ["class", "model_version"]
        predictions = CounterMetricFamily("slipway_predictions", "Rows predicted.", labels=labels)
        text = "The predicted value: of the positive class, or of the class that was predicted, its probability."
        values = HistogramMetricFamily("slipway_prediction_value", text, labels=["model_version"])
        for version, first in metrics.answering():
            for number, name in enumerate(metrics.contract.classes or ["value"]):
                # Exported as 0, so that a rate exists from the first prediction on.
                predictions.add_metric([name, version], total[first + number])
            at = first + metrics.values - metrics.predictions
            *counts, summed = total[at : at + len(metrics.limits) + 2]
            values.add_metric([version], _buckets(metrics.limits, counts), summed)
        yield predictions
        yield values
        if metrics.unseen_features:
            text = "Rows with a text that training never saw."
            unseen = CounterMetricFamily("slipway_unseen_categories", text, labels=["feature"])
            for number, name in enumerate(metrics.unseen_features):
                unseen.add_metric([name], total[metrics.unseen_texts + number])
            yield unseen
        if metrics.rule_names:
            text = "Rows that a rule has decided."
            decided = CounterMetricFamily("slipway_rule_decisions", text, labels=["rule"])
            text = "Requests without an answer, because a rule failed."
            failed = CounterMetricFamily("slipway_rule_failures", text, labels=["rule"])
            for name, place in metrics.rule_names.items():
                decided.add_metric([name], total[place])
                failed.add_metric([name], total[place + 1])
            yield decided
            yield failed


def _experiment_families(metrics: Metrics, carried: Carried, total: list[float]) -> Iterator[Metric]:
    experiment = carried.experiment
    name = experiment.name
    about = {
        "experiment": name,
        "mode": experiment.mode,
        "champion": metrics.release.version,
        "challenger": experiment.challenger,
    }
    text = "Which experiment the service carries; always 1."
    yield _with_labels(GaugeMetricFamily, "slipway_experiment_info", text, {tuple(about.values()): 1}, *about)
    text = "Share of the subjects that the challenger answers."
    yield _with_labels(GaugeMetricFamily, "slipway_experiment_share", text, {(name,): experiment.share}, "experiment")
    if experiment.mode == "shadow":
        for place, (family, text, _) in enumerate(SHADOW, metrics.shadow):
            yield _with_labels(CounterMetricFamily, family, text, {(name,): total[place]}, "experiment")
        return
    tried = metrics.trials()
    text = "Requests with a subject, by the variant that was to answer; those of tests are left out."
    requests = {(name, A): tried.control, (name, B): tried.challenger}
    yield _with_labels(CounterMetricFamily, "slipway_experiment_requests", text, requests, "experiment", "variant")
    text = "Requests to which the challenger had no answer, so that production's model gave one."
    failures = {(name,): tried.failures}
    yield _with_labels(CounterMetricFamily, "slipway_experiment_failures", text, failures, "experiment")
    text = "Time that the model of a variant took for a row."
    seconds = HistogramMetricFamily("slipway_experiment_seconds", text, labels=["experiment", "variant"])
    seconds.add_metric([name, A], _buckets(BUCKETS, tried.control_seconds), tried.control_sum)
    seconds.add_metric([name, B], _buckets(BUCKETS, tried.challenger_seconds), tried.challenger_sum)
    yield seconds
    text = "1 where the experiment has stopped itself, so that production's model answers everybody."
    stopped = {(name,): float(tried.stopped)}
    yield _with_labels(GaugeMetricFamily, "slipway_experiment_stopped", text, stopped, "experiment")


def _with_labels(family: Callable[..., Any], name: str, text: str, values: Mapping[Any, float], *labels: str) -> Metric:
    made = family(name, text, labels=labels)
    for given, value in values.items():
        made.add_metric(given, value)
    return made


def _buckets(limits: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    return list(zip([*(str(float(limit)) for limit in limits), "+Inf"], accumulate(counts), strict=True))
