"""One fit and its score: a model made by a builder, fitted on a fold of the training side and judged by the fold's other rows."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import ProjectError, in_project, reason
from pipeline.evaluation import metrics
from pipeline.formats import family
from pipeline.search.fold import Fold

Builder = Callable[[dict[str, Any], int], Any]


@dataclass(frozen=True)
class Fit:
    """What is to be fitted: a builder by name, its parameters, and the fold by its place."""

    builder: str
    parameters: Mapping[str, Any]
    fold: int


@dataclass(frozen=True)
class Score:
    """The score on a fold, or the reason why there is none; seconds of the fit, and for the answers to all judged rows."""

    value: float | None
    reason: str = ""
    fit_seconds: float = 0.0
    answer_seconds: float = 0.0


def score(builders: Mapping[str, Builder], folds: list[Fold], metric: metrics.Metric, fit: Fit) -> Score:
    """Fit and judge once; what raises becomes a reason. The whole data's parameters and seed are those of pipeline.toml but for the fit's."""
    fold = folds[fit.fold]
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hundreds of fits; the final one says what it has to say
            with in_project("build()"):
                model = builders[fit.builder](dict(fit.parameters), fold.settings.train.seed)
            fitted = family.fit(model, fold, np.flatnonzero(~fold.holdout))
            between = time.perf_counter()
            with in_project("the model's answers"):
                y_pred = family.answer(fitted, fold, fold.features[fold.holdout])
        ended = time.perf_counter()
        value = judged(metric, fold, y_pred)
    except Exception as error:
        return Score(None, reason(error), time.perf_counter() - began)
    if not np.isfinite(value):
        return Score(None, f"{metric.name} is not defined on fold {fit.fold + 1}", between - began, ended - between)
    return Score(value, "", between - began, ended - between)


def judged(metric: metrics.Metric, fold: Fold, y_pred: np.ndarray) -> float:
    """The metric over the judged rows, each with its weight where rows have weights."""
    y_true = fold.y[fold.holdout]
    if y_pred.shape[:1] != y_true.shape or (fold.classes and y_pred.shape[1:] != (len(fold.classes),)):
        raise ProjectError(f"the model answers with shape {y_pred.shape} for {len(y_true)} rows")
    return metric.value(y_true, y_pred, None if fold.weights is None else fold.weights[fold.holdout])


def deciding(fold: Fold) -> metrics.Metric:
    """The metric by which the gate decides, for models of this data."""
    data = fold.settings.data
    positive = fold.classes.index(data.positive) if data.positive else None
    known = metrics.metrics_for(data.task, positive, metrics.of_project())
    return metrics.named(known, fold.settings.gate.metric)
