"""One fit and its score: a model made by a builder, fitted on a fold of the training side and judged by the fold's other rows."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.decisions import threshold
from pipeline.errors import ProjectError, SettingsError, in_project, reason
from pipeline.evaluation import metrics
from pipeline.formats import family
from pipeline.search.fold import Folds, TrainingSide

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


def score(builders: Mapping[str, Builder], folds: Folds, metric: metrics.Metric, fit: Fit) -> Score:
    """Fit and judge once; what raises becomes a reason. The whole data's parameters and seed are those of pipeline.toml but for the fit's."""
    side, (fitted_on, judged_by) = folds.side, folds.places[fit.fold]
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hundreds of fits; the final one says what it has to say
            with in_project("build()"):
                model = builders[fit.builder](dict(fit.parameters), side.settings.train.seed)
            fitted = family.fit(model, side, fitted_on)
            between = time.perf_counter()
            with in_project("the model's answers"):
                y_pred = family.answer(fitted, side, side.features.iloc[judged_by])
        ended = time.perf_counter()
        value = judged(metric, side, judged_by, y_pred)
    except Exception as error:
        return Score(None, reason(error), time.perf_counter() - began)
    if not np.isfinite(value):
        return Score(None, f"{metric.name} is not defined on fold {fit.fold + 1}", between - began, ended - between)
    return Score(value, "", between - began, ended - between)


def judged(metric: metrics.Metric, side: TrainingSide, rows: np.ndarray, y_pred: np.ndarray) -> float:
    """The metric over these rows, each with its weight where rows have weights; a fixed threshold of [decision] names the classes."""
    y_true = side.y[rows]
    if y_pred.shape != ((len(rows), len(side.classes)) if side.classes else (len(rows),)):
        raise ProjectError(f"the model answers with shape {y_pred.shape} for {len(rows)} rows")
    y_pred = metric.seen(y_pred, threshold.of_choice(threshold.fixed(side.settings.decision), side))
    return metric.value(y_true, y_pred, None if side.weights is None else side.weights[rows])


def deciding(side: TrainingSide) -> metrics.Metric:
    """The metric by which the gate decides, for models of this data.

    Raises SettingsError for one that counts labels where their threshold is chosen only afterwards, for the model that was found.
    """
    data = side.settings.data
    positive = side.classes.index(data.positive) if data.positive else None
    known = metrics.metrics_for(data.task, positive, metrics.of_project())
    metric, rule = metrics.named(known, side.settings.gate.metric), side.settings.decision.rule
    if metric.kind == "hit" and rule in ("cost", "precision", "recall"):
        raise SettingsError(
            f'[gate] metric = "{metric.name}" counts labels, and with [decision] rule = "{rule}" their threshold is chosen after the model, so '
            "models cannot be compared by it on folds",
            'set [gate] metric to one of probabilities, such as "log_loss" or "roc_auc"; or rule = "fixed"',
        )
    return metric
