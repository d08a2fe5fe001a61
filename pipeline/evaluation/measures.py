"""What is measured on the hold-out: the task's metrics and the team's own, the one that decides, and how bounds are drawn."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.errors import ProjectError
from pipeline.evaluation import gate, metrics
from pipeline.settings import Settings


@dataclass(frozen=True)
class Measures:
    """What is measured on the hold-out, which metric decides, and how bounds are drawn; `repeats` numbers the groups of alike rows."""

    known: dict[str, metrics.Metric]
    decides: metrics.Metric
    y_true: np.ndarray
    repeats: np.ndarray | None
    bounds: dict[str, Any]

    def drawn(self, rows: np.ndarray) -> dict[str, Any]:
        """How bounds are drawn on some of the rows (mask over the hold-out)."""
        return self.bounds | {"repeats": None if self.repeats is None else self.repeats[rows]}


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
    return Measures(known, metrics.named(known, settings.gate.metric), y_true, repeats, bounds)


def position_of_positive(settings: Settings, dataset: Dataset) -> int | None:
    """The place of the positive class; None where the task has none."""
    return dataset.classes.index(settings.data.positive) if settings.data.positive else None


def baseline(dataset: Dataset) -> np.ndarray:
    """Answers for the hold-out that know no feature: the training side's shares of the classes, or its mean."""
    learned, rows = dataset.y[~dataset.holdout], int(dataset.holdout.sum())
    if not dataset.classes:
        return np.full(rows, learned.mean())
    shares = np.bincount(learned.astype(int), minlength=len(dataset.classes)) / len(learned)
    return np.tile(shares, (rows, 1))


def of_baseline(metric: metrics.Metric, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """The metric of the baseline; NaN where a team's own metric cannot take the same answer for every row."""
    try:
        return metric.value(y_true, y_pred)
    except ProjectError:
        return math.nan


def distinct(rows: np.ndarray, repeats: np.ndarray | None) -> int:
    """How many of the rows (mask over the hold-out) are no copy of another."""
    return int(rows.sum()) if repeats is None else len(np.unique(repeats[rows]))
