"""What is measured on the hold-out: the task's metrics and the team's own, the one that decides, and how bounds are drawn."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.data.holdout import shown
from pipeline.errors import ProjectError
from pipeline.evaluation import gate, metrics
from pipeline.evaluation.record import Counting
from pipeline.settings import Settings


@dataclass(frozen=True)
class Measures:
    """What is measured on the hold-out, which metric decides, and how bounds are drawn.

    `repeats` numbers the groups of alike rows, `subjects` those of the group column, which are drawn as a whole; `weights` is
    what each row counts. Each is of shape (held-out rows,), or None.
    """

    known: dict[str, metrics.Metric]
    decides: metrics.Metric
    y_true: np.ndarray
    repeats: np.ndarray | None
    bounds: dict[str, Any]
    subjects: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def units(self) -> np.ndarray | None:
        """The number of what a row is drawn with; None: each row by itself."""
        return self.repeats if self.subjects is None else self.subjects

    def drawn(self, rows: np.ndarray) -> dict[str, Any]:
        """How bounds are drawn on some of the rows (mask over the hold-out)."""
        whole = {"repeats": self.repeats, "subjects": self.subjects, "weights": self.weights}
        return self.bounds | {name: None if one is None else one[rows] for name, one in whole.items()}


def to_measure(settings: Settings, dataset: Dataset) -> Measures:
    """The metrics of the task and the team's own, the one that decides, and how bounds are drawn."""
    positive = position_of_positive(settings, dataset)
    own = metrics.of_project()
    metrics.check_names(settings, list(dataset.features), own)
    known = metrics.metrics_for(settings.data.task, positive, own)
    y_true = dataset.y[dataset.holdout]
    together = settings.gate.repeated_rows == "together"
    repeats = gate.repeated(dataset.features[dataset.holdout], y_true) if together else None
    bounds = {
        "confidence": settings.gate.confidence,
        "resamples": settings.gate.resamples,
        "seed": settings.train.seed,
    }
    groups, weights = (None if one is None else one[dataset.holdout] for one in (dataset.groups, dataset.weights))
    subjects = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return Measures(known, metrics.named(known, settings.gate.metric), y_true, repeats, bounds, subjects, weights)


def position_of_positive(settings: Settings, dataset: Dataset) -> int | None:
    """The place of the positive class; None where the task has none."""
    return dataset.classes.index(settings.data.positive) if settings.data.positive else None


def baseline(dataset: Dataset) -> np.ndarray:
    """Answers for the hold-out that know no feature: the training side's shares of the classes, or its mean."""
    learned, rows = dataset.y[~dataset.holdout], int(dataset.holdout.sum())
    weights = None if dataset.weights is None else dataset.weights[~dataset.holdout]
    if not dataset.classes:
        return np.full(rows, np.average(learned, weights=weights))
    counts = np.bincount(learned.astype(int), weights, minlength=len(dataset.classes))
    shares = counts / counts.sum()
    return np.tile(shares, (rows, 1))


def of_baseline(
    metric: metrics.Metric, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """The metric of the baseline; NaN where a team's own metric cannot take the same answer for every row."""
    try:
        return metric.value(y_true, y_pred, weights)
    except ProjectError:
        return math.nan


def distinct(rows: np.ndarray, units: np.ndarray | None) -> int:
    """How many of the rows (mask over the hold-out) are no copy of another, or of how many subjects they are."""
    return int(rows.sum()) if units is None else len(np.unique(units[rows]))


def counting(dataset: Dataset, measures: Measures, rows: np.ndarray) -> Counting | None:
    """How the rows (mask over the hold-out) count, as the record says it; None where each counts the same, by itself."""
    data, by_time = dataset.settings.data, dataset.cut is not None
    if measures.weights is None and measures.subjects is None and not by_time:
        return None
    return Counting(
        weight=data.weight,
        unweighted=[name for name, one in measures.known.items() if data.weight and not one.weighted],
        group=data.group,
        groups=None if measures.subjects is None else distinct(rows, measures.subjects),
        time=data.time if by_time else "",
        cut=shown(dataset.cut) if by_time else "",
    )
