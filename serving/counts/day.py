"""Count the rows, and the outcomes, of one day of one version."""

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from serving.counts import decode
from serving.counts.columns import add, count_numbers, count_texts, written
from serving.counts.records import DELAYS, LARGEST, SCORES, Bins, Column, Outcomes, Part, Rows, Version
from serving.model.contract import Contract
from serving.model.decision import confidence, decide
from serving.model.features import Input

MANY = 5000  # rows that are counted at once
TINY = np.finfo(np.float64).eps  # a sure and wrong answer costs 36, not infinity, as in the pipeline's log loss
CALLERS = 20


class Requested(NamedTuple):
    """A logged request as far as it is counted; `features` and `answers` are JSON lists of its rows."""

    request_id: str
    caller: str
    rows: int
    features: bytes
    answers: bytes


class Told(NamedTuple):
    """An outcome of one row of a request: as JSON, how long it took (seconds), and how often it was sent."""

    row: int
    outcome: str
    delay: float
    sent: int


class RowCounter:
    """Counts what was asked and answered; `result` has the sums."""

    def __init__(self, version: Version):
        self._version, self._contract = version, version.contract
        self._waiting: list[Requested] = []
        self._number = 0  # rows that wait
        self._ids = array("q")  # hashes of the requests' ids
        self.counted = Rows()

    def add(self, request: Requested) -> None:
        """Count one request."""
        self._waiting.append(request)
        self._ids.append(hash(request.request_id))
        self._number += request.rows
        if self._number >= MANY:
            self._flush()

    def result(self) -> Rows:
        """The sums over all that was added."""
        self._flush()
        counted = self.counted
        counted.repeated = len(self._ids) - len(np.unique(np.frombuffer(self._ids, dtype=np.int64)))
        largest = sorted(counted.callers.items(), key=lambda one: (-one[1], one[0]))
        counted.callers = dict(largest[:CALLERS])
        return counted

    def _flush(self) -> None:
        requests, self._waiting, self._number = self._waiting, [], 0
        if not requests:
            return
        counted = self.counted
        counted.requests += len(requests)
        for request in requests:
            counted.callers[request.caller] = counted.callers.get(request.caller, 0) + request.rows
        before = counted.rows
        for places, columns, y_pred in _read(self._contract, requests):
            counted.rows += len(y_pred)
            self._count_features(columns)
            self._count_answers(y_pred)
            if bins := self._version.deciders:
                found = decode.deciders([requests[place].answers for place in places])
                counted.deciders = add(counted.deciders, count_texts(found, bins))
        counted.unreadable += sum(request.rows for request in requests) - (counted.rows - before)

    def _count_features(self, columns: decode.Columns) -> None:
        for column, values in zip(self._contract.inputs, columns, strict=True):
            bins = self._version.features.get(column.name)
            if bins is None:
                continue
            found = _counted(values, bins, column)
            self.counted.features[column.name] = add(self.counted.features.get(column.name), found)

    def _count_answers(self, y_pred: np.ndarray) -> None:
        counted, classes = self.counted, self._contract.classes
        for name, values in zip(classes or [self._contract.target], np.atleast_2d(y_pred.T), strict=True):
            if bins := self._version.prediction.get(name):
                counted.prediction[name] = add(counted.prediction.get(name), count_numbers(values, bins))
        if classes:
            labels = decide(y_pred, self._contract.decision)
            for name, number in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True):
                counted.labels[name] = counted.labels.get(name, 0) + int(number)
            counted.expected_correct += float(confidence(y_pred, self._contract.decision).sum())
            counted.expected_loss += float(-(y_pred * np.log(np.clip(y_pred, TINY, 1))).sum())


class OutcomeCounter:
    """Counts how the rows of requests turned out; `result` has the sums."""

    def __init__(self, version: Version, window: float):
        """`window`: seconds within which an outcome is in time."""
        self._version, self._contract, self._window = version, version.contract, window
        self._places = {name: place for place, name in enumerate(version.contract.classes)}
        self._waiting: list[tuple[Requested, list[Told]]] = []
        self._number = 0
        k = len(self._places)
        self.counted = Outcomes(delay=[0] * (len(DELAYS) + 1), confusion=[[0] * k for _ in range(k)])
        if version.contract.positive is not None:
            self.counted.scores, self.counted.positives = [0] * SCORES, [0] * SCORES

    def add(self, request: Requested, told: list[Told]) -> None:
        """Count the outcomes of one request."""
        self._waiting.append((request, told))
        self._number += request.rows
        if self._number >= MANY:
            self._flush()

    def result(self) -> Outcomes:
        """The sums over all that was added."""
        self._flush()
        return self.counted

    def _flush(self) -> None:
        waiting, self._waiting, self._number = self._waiting, [], 0
        for places, columns, y_pred in _read(self._contract, [request for request, _ in waiting]):
            self._count([waiting[place] for place in places], columns, y_pred)

    def _count(
        self, waiting: Sequence[tuple[Requested, list[Told]]], columns: decode.Columns, y_pred: np.ndarray
    ) -> None:
        counted = self.counted
        start, places, truth, delays = 0, [], [], []
        for request, told in waiting:
            for one in told:
                counted.repeated += one.sent > 1
                y = self._truth(one.outcome) if one.row < request.rows else None
                if one.delay > self._window:
                    counted.late += 1
                elif y is None:
                    counted.unknown += 1
                else:
                    places.append(start + one.row)
                    truth.append(y)
                    delays.append(max(one.delay, 0.0))  # the clocks of two machines differ
            start += request.rows
        if not places:
            return
        chosen = np.array(places)
        for place, number in enumerate(np.bincount(np.searchsorted(DELAYS, delays), minlength=len(DELAYS) + 1)):
            counted.delay[place] += int(number)
        wrong, loss = self.count(np.array(truth), y_pred[chosen])
        self._count_slices(columns, chosen, wrong, loss)

    def count(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count rows whose outcomes are known: positions of classes and probabilities (n, k), or values, both (n,).

        Returns which answers were wrong (a surprise, for a regression), and the loss of each row.
        """
        counted = self.counted
        counted.rows += len(y_true)
        wrong, loss = self._classified(y_true, y_pred) if self._places else self._valued(y_true, y_pred)
        counted.wrong += int(wrong.sum())
        counted.loss = add(counted.loss, count_numbers(loss, self._version.loss))
        counted.loss_sum += float(loss.sum())
        counted.loss_squares += float(np.square(loss).sum())
        return wrong, loss

    def _truth(self, outcome: str) -> float | None:
        """The position of the class, or the value; None for what is neither."""
        try:
            value = msgspec.json.decode(outcome)
        except msgspec.DecodeError:
            return None
        if self._places:
            return self._places.get(value) if isinstance(value, str) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            return float(value)
        except OverflowError:
            return None

    def _classified(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counted, k = self.counted, len(self._places)
        y_true = y_true.astype(int)
        answered = decide(y_pred, self._contract.decision)
        for actual, row in enumerate(np.bincount(y_true * k + answered, minlength=k * k).reshape(k, k).tolist()):
            counted.confusion[actual] = [one + more for one, more in zip(counted.confusion[actual], row, strict=True)]
        counted.expected_correct += float(confidence(y_pred, self._contract.decision).sum())
        names = self._contract.classes
        counted.target = add(counted.target, count_texts([names[place] for place in y_true], self._version.target))
        if counted.scores:
            positive = self._places[str(self._contract.positive)]
            bins = np.minimum((y_pred[:, positive] * SCORES).astype(int), SCORES - 1)
            for given, rows in ((counted.scores, bins), (counted.positives, bins[y_true == positive])):
                for place, number in enumerate(np.bincount(rows, minlength=SCORES)):
                    given[place] += int(number)
        loss = -np.log(np.clip(y_pred[np.arange(len(y_true)), y_true], TINY, 1 - TINY))
        return answered != y_true, loss

    def _valued(self, y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(over="ignore"):  # limited right after
            loss = np.minimum(np.abs(y_true - y_pred), LARGEST * (self._version.target.scale or 1.0))
        self.counted.target = add(self.counted.target, count_numbers(y_true, self._version.target))
        wrong = np.zeros(len(loss), dtype=bool)
        if self._version.surprise:
            edges, limits = self._version.surprise
            wrong = loss > np.array(limits)[np.searchsorted(edges, y_pred, side="right")]
            self.counted.surprises += int(wrong.sum())
        return wrong, loss

    def _count_slices(self, columns: decode.Columns, chosen: np.ndarray, wrong: np.ndarray, loss: np.ndarray) -> None:
        inputs = {column.name: place for place, column in enumerate(self._contract.inputs)}
        for name, bins in self._version.slices.items():
            place = inputs[name]
            for label, rows in _slices(self._contract.inputs[place], bins, columns[place], chosen):
                if rows.any():
                    part = self.counted.slices.setdefault(label, Part())
                    part.rows += int(rows.sum())
                    part.wrong += int(wrong[rows].sum())
                    part.loss += float(loss[rows].sum())


def _counted(values: np.ndarray | list[str], bins: Bins, column: Input) -> Column:
    seen = column.observed
    if isinstance(values, list):
        known = None if seen is None or seen.values is None else frozenset(seen.values)
        return count_texts(values, bins, known)
    low = -np.inf if seen is None or seen.minimum is None else seen.minimum
    high = np.inf if seen is None or seen.maximum is None else seen.maximum
    return count_numbers(values, bins, low, high)


def _read(contract: Contract, requests: Sequence[Requested]) -> Iterator[tuple[list[int], decode.Columns, np.ndarray]]:
    """Features and answers of all requests at once, or one by one where one of them cannot be read, which is left out.

    Comes with the places of the requests that were read.
    """
    try:
        columns = decode.features(contract, [one.features for one in requests])
        y_pred = decode.answers(contract, [one.answers for one in requests])
        if not len(columns[0]) == len(y_pred) == sum(one.rows for one in requests):
            raise decode.Unreadable("another number of rows")
        yield list(range(len(requests))), columns, y_pred
    except decode.Unreadable:
        if len(requests) > 1:
            for place, one in enumerate(requests):
                for _, columns, y_pred in _read(contract, [one]):
                    yield [place], columns, y_pred


def _slices(column: Input, bins: Bins, values: np.ndarray | list[str], chosen: np.ndarray):
    """The label of each slice of a column, and which of the chosen rows are in it."""
    name = column.name
    if isinstance(values, list):
        given = np.array(values, dtype=object)[chosen]
        for text in bins.values or []:
            yield f"{name} = {text}", given == text
        return
    given = values[chosen]
    edges = bins.edges or []
    places = np.searchsorted(edges, given, side="right")
    for place in range(len(edges) + 1):
        low = f"{written(edges[place - 1])} ≤ " if place else ""
        high = f" < {written(edges[place])}" if place < len(edges) else ""
        label = f"{low}{name}{high}"
        if column.type == "boolean" and edges == [1.0]:
            label = f"{name} = {'true' if place else 'false'}"
        yield label, (places == place) & ~np.isnan(given)
