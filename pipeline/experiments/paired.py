"""Two models' answers to the same rows, compared by the gate's own bootstrap: a replay, or a challenger in the shadow.

Pure functions over arrays. Shapes as in pipeline/evaluation/metrics.py: answers (n, k) probabilities in sorted class order or
(n,) values; outcomes (n,) class positions or values, NaN where a row has none.
"""

import math

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from pipeline.evaluation import gate, metrics
from pipeline.settings import Settings
from serving.model.decision import decide

Labels = tuple[np.ndarray, np.ndarray]  # positions of the classes that two models gave, each (n,)


class Paired(Struct, frozen=True, kw_only=True):
    """Model B beside model A on the same rows.

    `difference` is B - A by the metric, between `lower` and `upper`, each with `confidence`; None where the rows allow no
    statement. `rows` were answered by both, and `agreement` is the share of them with the same answer (None without a row);
    the metric rests on the `outcomes` of them that are known, of `subjects` (None: each row counts as one of its own).
    """

    metric: str
    higher_is_better: bool
    confidence: float
    rows: int
    agreement: float | None
    outcomes: int
    subjects: int | None = None
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None

    @property
    def better(self) -> str:
        """Which model is better, as the whole interval says: "A", "B" or ""."""
        if self.lower is None or self.upper is None or self.lower <= 0 <= self.upper:
            return ""
        return "B" if (self.lower > 0) == self.higher_is_better else "A"


def metric_of(settings: Settings, classes: list[str]) -> metrics.Metric:
    """The gate's metric for answers in this order of classes; raises SettingsError or ProjectError."""
    positive = classes.index(settings.data.positive) if settings.data.positive else None
    known = metrics.metrics_for(settings.data.task, positive, metrics.of_project())
    return metrics.named(known, settings.gate.metric)


def agree(a: np.ndarray, b: np.ndarray, tolerance: float, labels: Labels | None = None) -> np.ndarray:
    """Which rows both answer alike, shape (n,): with the same class, or with values as near as the gate's parity asks for.

    `labels` are the positions of the classes that each model gave; None: the most probable ones. Values are alike when they differ by at most `tolerance`, relative to A's where that is above 1.
    """
    if a.ndim > 1:
        ours, theirs = labels or (decide(a), decide(b))
        return ours == theirs
    return np.abs(a - b) <= tolerance * np.maximum(1, np.abs(a))


def compare(
    settings: Settings,
    metric: metrics.Metric,
    a: np.ndarray,
    b: np.ndarray,
    outcomes: np.ndarray,
    subjects: np.ndarray | None = None,
    labels: Labels | None = None,
) -> Paired:
    """B beside A on the same rows, by `metric` where the outcome is known; [gate] has the confidence and the resamples.

    `subjects` gives each row the number of whom it is about, shape (n,): rows of one subject are drawn together, for they do not tell
    as much as rows of several. Answers must be finite; without an outcome there is agreement alone. `labels` are the
    positions of the classes that each model gave, by its own threshold and rules; None: the most probable ones.
    """
    same = agree(a, b, settings.gate.parity, labels)
    if gate.identical(b, a, settings.gate.parity):  # what is left is rounding, and no difference of the models
        b = a
    known = ~np.isnan(outcomes)
    found = Paired(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        confidence=settings.gate.confidence,
        rows=len(a),
        agreement=float(same.mean()) if len(a) else None,
        outcomes=int(known.sum()),
        subjects=None if subjects is None else len(np.unique(subjects[known])),
    )
    if not known.any():
        return found
    if labels is not None and metric.kind == "hit":
        a, b = (np.eye(a.shape[1])[one] for one in labels)
    y_true = outcomes[known].astype(np.int64 if a.ndim > 1 else np.float64)
    comparison = gate.compare(
        metric, y_true, b[known], a[known],
        confidence=settings.gate.confidence, resamples=settings.gate.resamples, seed=settings.train.seed,
        subjects=None if subjects is None else subjects[known],
    )  # fmt: skip
    figures = {
        "a": comparison.production,
        "b": comparison.candidate,
        "difference": comparison.difference,
        "lower": comparison.lower,
        "upper": comparison.upper,
    }
    return replace(found, **{name: value for name, value in figures.items() if math.isfinite(value)})
