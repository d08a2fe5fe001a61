"""Which columns the model's answers rest on: by how much its score falls when a column is shuffled.

Permutation importance: Breiman, Random Forests, 2001, section 10. The model is asked as the service asks it.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.evaluation import metrics

PREDICTED = 100_000  # rows that are predicted, all columns and shuffles together
MOST_SHUFFLES = 5
CELLS = 5_000_000  # that are asked at once: some 200 MB as the service takes them

Ask = Callable[[Sequence[pd.DataFrame]], Sequence[np.ndarray]]


def shuffled(held: int, columns: int) -> tuple[int, int]:
    """How many hold-out rows feature importance is computed on, and how often each column is shuffled.

    Both are bounded by counts, never by a clock, so that the same data gives the same importance: five shuffles of at most 2,000
    rows, fewer where all columns together would be more than PREDICTED rows to predict. More rows tell more than more shuffles of the
    same rows, so shuffles are saved first. At least two shuffles of 100 rows remain, however many the columns.
    """
    rows = min(held, 2000)
    shuffles = min(max(PREDICTED // (columns * rows), 2), MOST_SHUFFLES)
    return min(rows, max(PREDICTED // (columns * shuffles), 100)), shuffles


def counts(dataset: Dataset) -> tuple[int, int]:
    """Rows and shuffles for this data set."""
    return shuffled(int(dataset.holdout.sum()), len(dataset.kinds))


def feature_importance(ask: Ask, dataset: Dataset, seed: int, rows: int, shuffles: int) -> dict[str, float]:
    """Mean loss of score (negative log loss or R²) on hold-out rows when a column is shuffled; most important first.

    `ask` gives the model's answers to each of several frames. `rows` are drawn evenly from the hold-out.
    """
    held = np.flatnonzero(dataset.holdout)
    drawn = held[np.linspace(0, len(held) - 1, rows).astype(int)]  # evenly: data may be sorted by class
    features, y_true = dataset.features.iloc[drawn].reset_index(drop=True), dataset.y[drawn]
    frames = chain([features], _shuffles(features, list(dataset.kinds), shuffles, np.random.default_rng(seed)))
    weights = None if dataset.weights is None else dataset.weights[drawn]
    scores: list[float] = []
    while some := list(islice(frames, max(1, CELLS // features.size))):
        scores += [_score(dataset, y_true, y_pred, weights) for y_pred in ask(some)]
    lost = np.nan_to_num(scores[0] - np.reshape(scores[1:], (len(dataset.kinds), shuffles)).mean(axis=1))
    ranked = sorted(zip(dataset.kinds, lost, strict=True), key=lambda pair: -pair[1])
    return {name: round(float(value), 9) for name, value in ranked}


def _shuffles(
    features: pd.DataFrame, names: list[str], shuffles: int, rng: np.random.Generator
) -> Iterator[pd.DataFrame]:
    """The rows with one column in another order, so many times for each column."""
    for name in names:
        for _ in range(shuffles):
            order = rng.permutation(len(features))
            yield features.assign(**{name: features[name].iloc[order].to_numpy()})


def _score(dataset: Dataset, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray | None) -> float:
    """The score over the rows that the model answers: of some mixtures it may say nothing."""
    task, name = ("multiclass", "log_loss") if dataset.classes else ("regression", "r2")
    metric = metrics.metrics_for(task)[name]
    there = np.isfinite(y_pred).all(axis=tuple(range(1, y_pred.ndim)))
    value = metric.value(y_true[there], y_pred[there], None if weights is None else weights[there])
    return value if metric.higher_is_better else -value
