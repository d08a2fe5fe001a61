"""The candidate's metrics, beside production's on the rows that both can be judged on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.comparison.best_version import BestVersion, best_version, compare_with_best
from pipeline.comparison.candidate import ServedCandidate
from pipeline.comparison.production import Production
from pipeline.comparison.recent import recent_rows
from pipeline.data.dataset import Dataset
from pipeline.evaluation import gate, metrics
from pipeline.evaluation.measures import Measures
from pipeline.settings import Settings
from serving.model.decision import Threshold


@dataclass(frozen=True)
class Comparisons:
    """The candidate's metrics; and, on `rows` (mask over the hold-out), both models by every metric and on every slice."""

    values: dict[str, float]
    rows: np.ndarray
    production: np.ndarray | None  # y_pred on these rows; None: nothing could be compared
    identical: bool = False
    comparisons: Mapping[str, gate.Comparison] = field(default_factory=dict)
    slices: tuple[gate.Slice, ...] = ()
    best: BestVersion | None = None
    beside_best: gate.Best | None = None
    production_threshold: Threshold | None = None


def compared(
    client,
    settings: Settings,
    dataset: Dataset,
    measures: Measures,
    served: ServedCandidate,
    production: Production | None,
) -> Comparisons:
    """The candidate's metrics, and the comparison with production where there is one that can be compared.

    The labels of each model are decided by its own threshold, where it has one.
    """
    y_true, y_pred, threshold = measures.y_true, served.y_pred, served.threshold
    values = {
        name: one.value(y_true, one.seen(y_pred, threshold), measures.weights) for name, one in measures.known.items()
    }
    if production is None or production.problem:
        return Comparisons(values, np.ones(len(y_true), dtype=bool), None)
    rows = production.rows
    both, drawn = (y_pred[rows], production.y_pred), measures.drawn(rows)
    thresholds = threshold, production.threshold

    def seen(metric: metrics.Metric) -> tuple[np.ndarray, np.ndarray]:
        return metric.seen(both[0], thresholds[0]), metric.seen(both[1], thresholds[1])

    comparisons = {name: gate.compare(one, y_true[rows], *seen(one), **drawn) for name, one in measures.known.items()}
    masks = slice_masks(settings, dataset, rows)
    slices = gate.compare_slices(
        measures.decides, y_true[rows], *seen(measures.decides), masks, minimum_rows=settings.gate.slice_rows, **drawn
    )
    best = best_version(client, settings, dataset, production, measures.units)
    beside_best = compare_with_best(best, measures, y_pred, threshold) if best and not best.problem else None
    identical = thresholds[0] == thresholds[1] and gate.identical(*both)
    return Comparisons(values, rows, both[1], identical, comparisons, tuple(slices), best, beside_best, thresholds[1])


def slice_masks(settings: Settings, dataset: Dataset, common: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Label and mask (over the common rows) of every slice that pipeline.toml asks for, and of production's rows of late."""
    held = np.flatnonzero(dataset.holdout)[common]
    rows = np.zeros(len(dataset.holdout), dtype=bool)
    rows[held] = True
    masks = []
    for column in settings.gate.slices:
        masks += gate.slice_masks(dataset.features[column].to_numpy(), column, rows)
    if recent := recent_rows(dataset):
        label, asked_of_late = recent
        if asked_of_late[held].any():
            masks.append((label, asked_of_late[held]))
    return masks
