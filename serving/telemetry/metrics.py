"""The service's counters."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.experiment.experiment import Carried
from serving.model.bundle import Bundle
from serving.model.predictor import Answer, Outputs
from serving.model.unseen import Unseen
from serving.telemetry.shared_counters import Numbers

# Seconds. One row takes well under a millisecond, so the first buckets are below that; the last are for batches.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STATUSES = (200, 202, 304, 307, 308, 400, 401, 403, 404, 405, 408, 413, 414, 415, 422, 429, 431, 499, 500, 503)
TIMES = len(BUCKETS) + 2  # numbers of a histogram of times: one more for what is beyond all buckets, and the sum
OTHER = "other"  # one name for all unknown paths, so that a scanner cannot grow the metrics

# Single numbers: name, help text, and whether it is a counter (only grows).
SINGLE = (
    ("slipway_requests_in_flight", "Requests being answered.", False),
    ("slipway_workers", "Processes that answer requests.", False),
    ("slipway_worker_restarts", "Workers that ended by themselves and were replaced.", True),
    ("slipway_log_queue_records", "Records of the prediction log that wait to be written.", False),
    ("slipway_log_written", "Records of the prediction log that were written.", True),
    ("slipway_log_lost", "Records of the prediction log that could not be kept.", True),
    ("slipway_log_errors", "Failed attempts to write to the prediction log.", True),
    ("slipway_log_begun_anew", "Times that the file of the prediction log was gone and a new one was begun.", True),
    ("slipway_connections_refused", "Connections refused because there were too many.", True),
)
IN_FLIGHT, WORKERS, RESTARTS, LOG_QUEUE, LOG_WRITTEN, LOG_LOST, LOG_ERRORS, LOG_BEGUN, REFUSED = range(len(SINGLE))
STOPPED = len(SINGLE)  # whether the experiment has stopped itself; any process may say so, and none takes it back
# The same of an experiment, where the bundle carries one.
SHADOW = (
    ("slipway_shadow_rows", "Rows that the challenger answered in the shadow.", True),
    ("slipway_shadow_rows_failed", "Rows to which the challenger had no answer in the shadow.", True),
    ("slipway_shadow_rows_dropped", "Rows that the challenger was not asked, because it is too slow or does not run.", True),
    ("slipway_shadow_restarts", "Times that the process of the challenger ended and was started again.", True),
)  # fmt: skip
ANSWERED, FAILED, DROPPED, SHADOW_RESTARTS = range(len(SHADOW))


class Tried(NamedTuple):
    """An experiment's requests so far: how many were A's and B's, how B did, and how long both took for a row, by BUCKETS."""

    control: int
    challenger: int
    failures: int
    stopped: bool
    control_seconds: list[float]
    challenger_seconds: list[float]
    control_sum: float
    challenger_sum: float


class Metrics:
    """The counters of one service: each process writes its own row and reads the sum of all.

    They are plain numbers at fixed positions, because finding a counter by its labels takes longer than a prediction.
    """

    def __init__(self, bundle: Bundle, paths: Sequence[str], rows: int = 1, carried: Carried | None = None):
        """Counters for `rows` processes; this one uses the first row until `count_as` is called."""
        self.contract, self.release = bundle.contract, bundle.release
        self.carried = carried
        self.limits = _value_limits(bundle)
        self.paths = {path: number for number, path in enumerate((*paths, OTHER))}
        self.statuses = {status: number for number, status in enumerate(STATUSES)}
        self.requests = len(SINGLE) + 1
        self.seconds = self.requests + len(self.paths) * len(STATUSES)
        self.predictions = self.seconds + len(self.paths) * TIMES
        self.values = self.predictions + (len(self.contract.classes) or 1)
        contracts = [bundle.contract, *([carried.challenger.contract] if carried else [])]
        # Of both models: what one of them has seen of a text, the other may not list.
        names = dict.fromkeys(name for each in contracts for _, name, _ in Unseen(each).columns)
        self.unseen_features = {name: number for number, name in enumerate(names)}
        self.unseen_texts = self.values + len(self.limits) + 2
        self.explanations = self.unseen_texts + len(self.unseen_features)
        self.challengers = self.explanations + TIMES  # B's predictions and values, as A's above
        self.trial = self.challengers + (self.unseen_texts - self.predictions if carried else 0)
        self.shadow = self.trial + (1 + 2 * TIMES if carried else 0)
        self.rules = self.shadow + (
            len(SHADOW) if carried else 0
        )  # of each rule, the rows that it decided, and its failures
        names = dict.fromkeys(name for each in contracts for name in each.rule_names)
        self.rule_names = {name: self.rules + 2 * number for number, name in enumerate(names)}
        self.numbers = Numbers(self.rules + 2 * len(self.rule_names), rows)
        self._rules_of = [
            contracts[0].rule_names,
            contracts[-1].rule_names,
        ]  # of the model in production, of the challenger
        self._stops = self.numbers.column(STOPPED)
        self._positive = self.contract.positive
        self._unknown_status = self.statuses[500]
        self._places = {
            path: (self.requests + number * len(STATUSES), self.seconds + number * TIMES)
            for path, number in self.paths.items()
        }
        self._to_values, self._to_sum = self.values - self.predictions, len(self.limits) + 1
        self.count_as(0)

    def count_as(self, row: int) -> None:
        """Use this row from now on."""
        self.own = self.numbers.row(row)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request; an unknown path counts as "other", an unknown status as 500."""
        own = self.own
        requests, times = self._places.get(path) or self._places[OTHER]
        own[requests + self.statuses.get(status, self._unknown_status)] += 1
        own[times + bisect_left(BUCKETS, seconds)] += 1
        own[times + TIMES - 1] += seconds

    def predicted(self, answer: Answer, challenger: bool = False) -> None:
        """Count a prediction by its class (a regression's as "value"), and its value in the histogram."""
        own = self.own
        first = self.challengers if challenger else self.predictions
        if "label" in answer:
            own[first + answer["class_id"]] += 1
            value = answer["probabilities"][self._positive or answer["label"]]
        else:
            own[first] += 1
            value = answer["value"]
        values = first + self._to_values
        own[values + bisect_left(self.limits, value)] += 1
        own[values + self._to_sum] += value
        if self.rule_names and "rule" in answer:
            own[self.rule_names[answer["rule"]]] += 1

    def unseen(self, feature: str, rows: int = 1) -> None:
        """Count rows with a category unseen in training, of one of the features that `Unseen` knows."""
        self.own[self.unseen_texts + self.unseen_features[feature]] += rows

    def predicted_many(self, outputs: Outputs, challenger: bool = False) -> None:
        """Count all rows of a model's outputs."""
        positions, values = outputs[0].reshape(-1), outputs[-1]
        first = self.challengers if challenger else self.predictions
        if self.contract.task == "regression":
            self.own[first] += len(values)
        else:
            self._add(first, np.bincount(positions))
            asked = self.contract.classes.index(self._positive) if self._positive else positions
            values = values[np.arange(len(values)), asked]
        values = values.reshape(-1)
        self._add(first + self._to_values, np.bincount(np.searchsorted(self.limits, values)))
        self.own[first + self._to_values + self._to_sum] += values.sum(dtype=float)
        names = self._rules_of[challenger]
        if names:
            decided = outputs[1][outputs[1] >= 0]
            for name, rows in zip(names, np.bincount(decided, minlength=len(names)).tolist(), strict=True):
                self.own[self.rule_names[name]] += rows

    def rule_failed(self, rule: str) -> None:
        """Count a request that has no answer because a rule failed."""
        self.own[self.rule_names[rule] + 1] += 1

    def _add(self, first: int, counts: np.ndarray) -> None:
        for number, count in enumerate(counts.tolist(), first):
            self.own[number] += count

    def explained(self, seconds: float) -> None:
        """Count an explanation that took so long, with the time that it waited for others."""
        own, times = self.own, self.explanations
        own[times + bisect_left(BUCKETS, seconds)] += 1
        own[times + TIMES - 1] += seconds

    def tried(self, challenger: bool, failed: bool, seconds: float) -> None:
        """Count a request that a variant of the experiment was to answer, with the time that its model took for a row."""
        own, times = self.own, self.trial + 1 + (TIMES if challenger else 0)
        own[times + bisect_left(BUCKETS, seconds)] += 1
        own[times + TIMES - 1] += seconds
        own[self.trial] += failed

    def stop_trial(self) -> None:
        """Let nobody be answered by the challenger any more."""
        self.own[STOPPED] = 1

    def stopped(self) -> bool:
        """Whether the experiment has stopped itself."""
        return any(self._stops)  # for few processes faster than numpy, and it is asked with each request

    def trials(self) -> Tried:
        """The experiment's counts over all processes."""
        total = self.numbers.total()
        failures, *times = total[self.trial : self.shadow]
        *ours, our_sum = times[:TIMES]
        *theirs, their_sum = times[TIMES:]
        return Tried(
            int(sum(ours)), int(sum(theirs)), int(failures), total[STOPPED] > 0, ours, theirs, our_sum, their_sum
        )

    def answering(self) -> list[tuple[str, int]]:
        """The versions that answer callers, each with the place of its predictions."""
        versions = [(self.release.version, self.predictions)]
        if self.carried and self.carried.experiment.mode == "ab":
            versions.append((self.carried.experiment.challenger, self.challengers))
        return versions

    def workers(self) -> int:
        """Number of processes that answer requests."""
        return int(self.numbers.total()[WORKERS])


def _value_limits(bundle: Bundle) -> tuple[float, ...]:
    """Bucket limits for predicted values: tenths of a probability, or of the range of a regression's golden answers."""
    if bundle.values is None:
        return PROBABILITIES
    low, high = bundle.values
    step = (high - low) / 10 or 1.0
    # Few digits, so that a limit is a readable number; the set drops duplicates.
    return tuple(sorted({float(f"{low + step * number:.4g}") for number in range(11)}))
