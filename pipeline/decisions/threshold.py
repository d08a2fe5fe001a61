"""The threshold from which on a row is of the positive class: chosen on folds of the training side, judged on the hold-out.

Shapes: `score` (n,) probabilities of the positive class, `hit` (n,) whether a row is of it, `weight` (n,) how much it
counts ([data] weight), None where each row counts the same.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import Struct

from pipeline.data.dataset import Dataset
from pipeline.data.split import folds
from pipeline.errors import DataError, ProjectError, StageError
from pipeline.settings import Decision
from serving.model.decision import Threshold

FOLDS = 5
Answers = Callable[[np.ndarray, np.ndarray], np.ndarray]  # fits on the rows at the first places, answers for the others


class Choice(Struct, frozen=True, kw_only=True):
    """The threshold and what it is expected to give, by the `rows` of the training side that folds judged; None: not known."""

    rule: str
    threshold: float
    rows: int = 0
    precision: float | None = None
    recall: float | None = None
    cost: float | None = None  # mean per row, in the units of [decision]


@dataclass(frozen=True)
class Curve:
    """Precision, recall and mean cost per row at each of some thresholds, which rise; NaN where a figure is not defined."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    cost: np.ndarray | None


def check(dataset: Dataset) -> None:
    """Before the long fit: raises DataError where the training side does not suffice for the folds that a threshold is chosen on."""
    if dataset.settings.decision.rule not in ("most_probable", "fixed"):
        folds(dataset, FOLDS)


def choose(dataset: Dataset, answers: Answers) -> Choice | None:
    """The threshold that pipeline.toml [decision] asks for; None where the most probable class is the answer.

    `answers` fits the team's model on rows, by their places, and gives its probabilities (n, k) for others. A threshold that is looked
    for is chosen on answers to rows of the training side that the model was not fitted on. Raises StageError where no threshold
    reaches the floor.
    """
    decision = dataset.settings.decision
    if decision.rule == "most_probable":
        if idle := [
            key for key, value in decision if key != "rule" and value != type(decision).model_fields[key].default
        ]:
            print(f'[decision] {", ".join(idle)} is not used: rule = "most_probable" takes the most probable class')
        return None
    if given := fixed(decision):
        return given
    score, hit, weight = out_of_fold(dataset, answers)
    threshold = best(score, hit, decision, weight)
    expected = measure(score, hit, threshold, decision, weight)
    return Choice(rule=decision.rule, threshold=threshold, rows=len(score), **expected)


def fixed(decision: Decision) -> Choice | None:
    """The threshold that pipeline.toml [decision] itself says, if it does."""
    return Choice(rule="fixed", threshold=decision.threshold) if decision.rule == "fixed" else None


def out_of_fold(dataset: Dataset, answers: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Score, hit and weight of the rows of the training side that folds judge, each by a model that did not see the row."""
    training, positive = np.flatnonzero(~dataset.holdout), dataset.classes.index(str(dataset.settings.data.positive))
    scores, hits, judged, began = [], [], [], time.monotonic()
    for number, (fit, judge) in enumerate(folds(dataset, FOLDS), 1):
        given = answers(training[fit], training[judge])[:, positive]
        if not np.isfinite(given).all():
            raise ProjectError(
                "the model's answers are not all finite on the training side", "correct project/model.py"
            )
        scores.append(given)
        hits.append(dataset.y[training[judge]] == positive)
        judged.append(training[judge])
        print(f"threshold: fold {number} of {FOLDS}, {time.monotonic() - began:.1f} s")
    weight = None if dataset.weights is None else dataset.weights[np.concatenate(judged)]
    if weight is not None and not weight[np.concatenate(hits)].any():
        raise DataError(
            f"no row of class {dataset.settings.data.positive!r} on the training side has a weight, so no threshold can be chosen",
            "correct the column of [data] weight",
        )
    return np.concatenate(scores), np.concatenate(hits), weight


def best(score: np.ndarray, hit: np.ndarray, decision: Decision, weight: np.ndarray | None = None) -> float:
    """The threshold that the rule asks for, between 0 and 1 and never at a score: a hair's breadth of a score moves no row.

    Of those that reach a floor of precision the one with the highest recall, and the other way round; or that of the least cost. Of
    equal ones the highest for recall, so that fewer rows are called positive, and the nearest to 0.5 for cost.
    """
    found = curve(score, hit, decision, weight)
    floored = found.precision if decision.rule == "precision" else found.recall
    other = found.recall if decision.rule == "precision" else found.precision
    if decision.rule == "cost":
        assert found.cost is not None
        least = np.flatnonzero(found.cost <= found.cost.min())
        return float(found.thresholds[least[np.abs(found.thresholds[least] - 0.5).argmin()]])
    floored, other = np.nan_to_num(floored, nan=-1), np.nan_to_num(other, nan=-1)
    reached = np.flatnonzero(floored >= decision.floor)
    if not len(reached):
        at = int(floored.argmax())
        raise StageError(
            f"no threshold reaches a {decision.rule} of {decision.floor:g} on the training side: the best is "
            f"{floored[at]:.4g}, at {found.thresholds[at]:.4g}",
            "lower floor in pipeline.toml [decision], or improve the model",
        )
    top = reached[other[reached] >= other[reached].max()]
    return float(found.thresholds[top[-1]])


def curve(score: np.ndarray, hit: np.ndarray, decision: Decision, weight: np.ndarray | None = None) -> Curve:
    """What each threshold between two scores gives, and those below and above all of them, as far as they are between 0 and 1."""
    order = np.argsort(score, kind="stable")
    sorted_score, sorted_hit = score[order], hit[order]
    counts = np.ones(len(score)) if weight is None else weight[order]
    edges = np.unique(np.concatenate([[0.0], sorted_score, [1.0]]))
    thresholds = (edges[1:] + edges[:-1]) / 2
    first = np.searchsorted(sorted_score, thresholds, side="left")  # the rows from there on are called positive
    hits, above = _from_each_on(counts * sorted_hit), _from_each_on(counts)
    missed = np.concatenate([[0.0], (counts * sorted_hit).cumsum()])[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(above[first] > 0, hits[first] / above[first], np.nan)
        recall = hits[first] / hits[0]
    cost = None
    if decision.rule == "cost":
        alarms = _from_each_on(counts * ~sorted_hit)[first]
        cost = (alarms * decision.cost_false_positive + missed * decision.cost_false_negative) / counts.sum()
    return Curve(thresholds, precision, recall, cost)


def _from_each_on(counts: np.ndarray) -> np.ndarray:
    """The sum from each row to the last, and 0 after it: added up from the end, so that no rounding is left where there are no rows."""
    return np.concatenate([counts[::-1].cumsum()[::-1], [0.0]])


def measure(
    score: np.ndarray, hit: np.ndarray, threshold: float, decision: Decision, weight: np.ndarray | None = None
) -> dict[str, float | None]:
    """Precision, recall and, by the rule "cost", the mean cost per row at one threshold; None where a figure is not defined."""
    said, counts = score >= threshold, np.ones(len(score)) if weight is None else weight
    right, called, all_hits = (float(counts[rows].sum()) for rows in (said & hit, said, hit))
    cost = None
    if decision.rule == "cost":
        alarms, missed = counts[said & ~hit].sum(), counts[~said & hit].sum()
        false = alarms * decision.cost_false_positive + missed * decision.cost_false_negative
        cost = float(false / counts.sum())
    return {
        "precision": right / called if called else None,
        "recall": right / all_hits if all_hits else None,
        "cost": cost,
    }


def contract_part(choice: Choice | None) -> dict[str, Any]:
    """What the contract says of it; nothing where the most probable class is the answer."""
    return {"labels": "threshold", "threshold": choice.threshold} if choice else {}


def of_choice(choice: Choice | None, dataset: Dataset) -> Threshold | None:
    """The same as what decides."""
    return Threshold(dataset.classes.index(str(dataset.settings.data.positive)), choice.threshold) if choice else None
