"""What is measured on the hold-out, per task, and how each figure moves when the hold-out is drawn again.

Shapes, here and in the gate. `y_true`: (n,) class positions or values. `y_pred`: (n, k) probabilities in sorted
class order, or (n,) values. `weights`: (B, n), one row per resample, how much each row of the hold-out counts in it: how often it
was drawn, times its own weight where the data has one.
A metric that is not defined (ROC AUC without a positive row, say) is NaN; so is every metric of a prediction that
is not finite.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from pipeline import mlflow_names
from pipeline.errors import ProjectError, SettingsError, in_project
from pipeline.settings import Settings
from serving.model.decision import Threshold, decide

Resampled = Callable[[np.ndarray], np.ndarray]
Extra = Mapping[str, tuple[Callable[[np.ndarray, np.ndarray], float], bool]]


@dataclass(frozen=True)
class Metric:
    """One figure.

    `on(y_true, y_pred)` does what is common to all resamples (sorting, say) and returns a function from weights (B, n)
    to values (B,). `kind` is what a single row can change: its loss, whether it is a hit, its rank, or, for a team's
    own metric, nobody knows what. `per_row(y_true, y_pred)` says how each row fares, shape (n,), in units that are the
    same for two models. `weighted`: it takes rows that count unlike; a team's own does where it has a parameter `sample_weight`.
    """

    name: str
    higher_is_better: bool
    on: Callable[[np.ndarray, np.ndarray], Resampled]
    kind: Literal["loss", "hit", "rank", "own"]
    per_row: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    weighted: bool = True

    def seen(self, y_pred: np.ndarray, threshold: Threshold | None = None) -> np.ndarray:
        """The answers as this metric takes them: where it counts labels and a threshold decides, each row's class with probability 1.

        Metrics of probabilities, and a team's own, are told the probabilities.
        """
        if threshold is None or self.kind != "hit":
            return y_pred
        finite = np.isfinite(y_pred).all(axis=1, keepdims=True)
        return np.where(finite, np.eye(y_pred.shape[1])[decide(y_pred, threshold)], np.nan)

    def value(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray | None = None) -> float:
        """The metric over all rows, each by its weight (n,); None, or a metric that takes no weights: each once."""
        if weights is None or not self.weighted:
            weights = np.ones(len(y_true))
        return float(self.values(y_true, y_pred, np.asarray(weights, dtype=np.float64)[None])[0])

    def values(self, y_true: np.ndarray, y_pred: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The metric under each row of weights, shape (B,)."""
        if len(y_true) == 0 or not np.isfinite(y_pred).all():
            return np.full(len(weights), np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.on(y_true, np.asarray(y_pred, dtype=np.float64))(weights)


def metrics_for(task: str, positive: int | None = None, extra: Extra | None = None) -> dict[str, Metric]:
    """The metrics of a task by name, in the order of the report.

    `positive` is the position of the positive class (binary only). `extra` holds the team's own metrics: name to
    (function of y and prediction, whether higher is better); raises ProjectError when one is not that, has a name that
    MLflow does not take, or that of a metric that is there already.
    """
    metrics = {metric.name: metric for metric in _of_task(task, positive)}
    for name, own in (extra or {}).items():
        if wrong := mlflow_names.fault(name):
            raise ProjectError(
                f"METRICS in project/model.py: a metric cannot be called {name!r}: {wrong}", "choose another name"
            )
        if name in metrics:
            raise ProjectError(f"METRICS in project/model.py: {name} is there already", "choose another name")
        if not (isinstance(own, tuple) and len(own) == 2 and callable(own[0]) and isinstance(own[1], bool)):
            raise ProjectError(
                f"METRICS in project/model.py: {name} must be (function, higher_is_better), not {own!r}",
                'write METRICS = {"cost": (cost, False)} with a function of (y_true, y_pred)',
            )
        weighted = _takes_weights(own[0])
        on = partial(_own_weighted if weighted else _own, name, own[0])
        metrics[name] = Metric(name, own[1], on, "own", weighted=weighted)
    return metrics


# What the outcomes of production give without its rows; pipeline/monitor/performance.py computes it.
MEASURED = {
    "binary": ("accuracy", "precision", "recall", "f1", "roc_auc", "log_loss"),
    "multiclass": ("accuracy", "balanced_accuracy", "f1_macro", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
}


def check_monitored(settings: Settings) -> None:
    """Refuse a limit of pipeline.toml [monitor.limits] that no outcome could ever break."""
    there = MEASURED[settings.data.task]
    for name in settings.monitor.limits:
        if name not in there:
            raise SettingsError(
                f"pipeline.toml: [monitor.limits] {name!r} is not measured in production for this task",
                f"use one of {', '.join(there)}, or remove that line",
            )


def named(metrics: Mapping[str, Metric], name: str, where: str = "[gate] metric") -> Metric:
    """The metric of that name; raises SettingsError that lists those there are."""
    if name not in metrics:
        raise SettingsError(
            f"pipeline.toml: {where} {name!r} is no metric of this task", f"use one of {', '.join(metrics)}"
        )
    return metrics[name]


def evaluate(
    task: str, y_true: np.ndarray, y_pred: np.ndarray, positive: int | None = None, extra: Extra | None = None,
    threshold: Threshold | None = None,
) -> dict[str, float]:  # fmt: skip
    """Every metric of the task over all rows, each of which counts the same."""
    known = metrics_for(task, positive, extra)
    return {name: metric.value(y_true, metric.seen(y_pred, threshold)) for name, metric in known.items()}


def _of_task(task: str, positive: int | None) -> list[Metric]:
    probabilities = [
        Metric("log_loss", False, partial(_mean, _log_losses), "loss", _log_losses),
        Metric("brier", False, partial(_mean, _brier_losses), "loss", _brier_losses),
    ]
    accuracy = Metric("accuracy", True, partial(_mean, _hits), "hit")
    if task == "binary":
        return [
            accuracy,
            Metric("precision", True, partial(_confusion, _precision, positive), "hit"),
            Metric("recall", True, partial(_confusion, _recall, positive), "hit"),
            Metric("f1", True, partial(_confusion, _f1, positive), "hit"),
            Metric("roc_auc", True, partial(_rank, positive, _area), "rank", _placements),
            Metric("pr_auc", True, partial(_rank, positive, _average_precision), "rank", partial(_leverages, positive)),
            *probabilities,
        ]
    if task == "multiclass":
        return [
            accuracy,
            Metric("balanced_accuracy", True, partial(_confusion, _recall, None), "hit"),
            Metric("f1_macro", True, partial(_confusion, _f1, None), "hit"),
            Metric("roc_auc_ovr", True, _one_against_rest, "rank", _placements),
            *probabilities,
        ]
    if task == "regression":
        return [
            Metric("mae", False, partial(_mean, _absolute_errors), "loss", _absolute_errors),
            Metric("rmse", False, _rmse, "loss", _squared_errors),
            Metric("median_absolute_error", False, _median_absolute_error, "loss", _absolute_errors),
            Metric("r2", True, _r2, "loss", _squared_errors),
        ]
    raise ValueError(f"no such task: {task}")


def _one_hot(positions: np.ndarray, k: int) -> np.ndarray:
    return np.eye(k)[positions]


# --- a figure per row, and its mean ---


def _mean(per_row: Callable, y_true: np.ndarray, y_pred: np.ndarray) -> Resampled:
    figures = per_row(y_true, y_pred)
    return lambda weights: weights @ figures / weights.sum(axis=1)


def _hits(y_true, y_pred):
    return (y_pred.argmax(axis=1) == y_true).astype(np.float64)


def _log_losses(y_true, y_pred):
    # A sure and wrong answer costs 36, not infinity; scikit-learn clips at the same place.
    tiny = np.finfo(np.float64).eps
    return -np.log(np.clip(y_pred[np.arange(len(y_true)), y_true], tiny, 1 - tiny))


def _brier_losses(y_true, y_pred):
    k = y_pred.shape[1]
    squares = ((y_pred - _one_hot(y_true, k)) ** 2).sum(axis=1)
    return squares / 2 if k == 2 else squares  # two classes: customarily the squared error of one probability


def _absolute_errors(y_true, y_pred):
    return np.abs(y_true - y_pred)


def _squared_errors(y_true, y_pred):
    return (y_true - y_pred) ** 2


# --- counts of the confusion matrix ---


def _confusion(score: Callable, position: int | None, y_true: np.ndarray, y_pred: np.ndarray) -> Resampled:
    """A score of hits, predicted and actual rows: of one class, or the mean over the classes that occur."""
    k = y_pred.shape[1]
    truth, answer = _one_hot(y_true, k), _one_hot(y_pred.argmax(axis=1), k)
    if position is not None:
        truth, answer = truth[:, [position]], answer[:, [position]]

    def resampled(weights):
        scores = score(weights @ (truth * answer), weights @ answer, weights @ truth)
        occurs = ~np.isnan(scores)
        return np.where(occurs, scores, 0).sum(axis=1) / occurs.sum(axis=1)

    return resampled


def _precision(hits, predicted, actual):
    # No row predicted positive: 0, as in scikit-learn. A model that never says "positive" has not earned a NaN.
    return np.where(actual > 0, hits / np.where(predicted > 0, predicted, 1), np.nan)


def _recall(hits, predicted, actual):
    return hits / actual


def _f1(hits, predicted, actual):
    return 2 * hits / (predicted + actual)


# --- ranks ---


def _rank(position: int | None, area: Callable, y_true: np.ndarray, y_pred: np.ndarray) -> Resampled:
    """An area under a curve over falling thresholds; rows of equal score pass a threshold together."""
    score = y_pred[:, position]
    order = np.argsort(-score, kind="stable")
    is_positive = (y_true[order] == position).astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y_true) - 1)
    tied = len(ends) < len(y_true)

    def resampled(weights):
        drawn = weights[:, order]
        above = drawn.cumsum(axis=1)
        hits = np.multiply(drawn, is_positive, out=drawn).cumsum(axis=1)
        return area(hits[:, ends], above[:, ends]) if tied else area(hits, above)

    return resampled


def _area(hits, above):
    misses = above - hits
    doubled = hits[:, 0] * misses[:, 0] + ((hits[:, 1:] + hits[:, :-1]) * np.diff(misses, axis=1)).sum(axis=1)
    return doubled / (2 * hits[:, -1] * misses[:, -1])


def _average_precision(hits, above):
    precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
    gained = hits[:, 0] * precision[:, 0] + (np.diff(hits, axis=1) * precision[:, 1:]).sum(axis=1)
    return gained / hits[:, -1]


def _one_against_rest(y_true, y_pred):
    each = [_rank(position, _area, y_true, y_pred) for position in range(y_pred.shape[1])]
    return lambda weights: np.mean([resampled(weights) for resampled in each], axis=0)


def _placements(y_true, y_pred):
    """Share of the rows of other classes that a row outranks in its own class's column; a tie counts half."""
    placements = np.empty(len(y_true))
    for position in np.unique(y_true):
        score, own = y_pred[:, position], y_true == position
        others = np.sort(score[~own])
        ahead = np.searchsorted(others, score[own], "left") + np.searchsorted(others, score[own], "right")
        placements[own] = ahead / max(1, 2 * len(others))
    return placements


def _leverages(position: int | None, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """How average precision would move if a row counted a little more, times the number of positive rows.

    The precision at a positive row's own threshold, against the average; and what the row does to the precision at the
    thresholds from there on down, where a positive row is one more hit and a negative one a miss.
    """
    falling = -y_pred[:, position]
    order = np.argsort(falling, kind="stable")
    is_positive, sorted_falling = y_true[order] == position, falling[order]
    first, above = (np.searchsorted(sorted_falling, sorted_falling, side) for side in ("left", "right"))
    hits = is_positive.cumsum()[above - 1]
    precision = hits / above
    per_hit = np.where(is_positive, (above - hits) / above**2, 0)[::-1].cumsum()[::-1][first]
    per_miss = np.where(is_positive, hits / above**2, 0)[::-1].cumsum()[::-1][first]
    leverages = np.empty(len(y_true))
    leverages[order] = np.where(is_positive, precision - precision[is_positive].mean() + per_hit, -per_miss)
    return leverages


# --- regression ---


def _rmse(y_true, y_pred):
    mean = _mean(_squared_errors, y_true, y_pred)
    return lambda weights: np.sqrt(mean(weights))


def _r2(y_true, y_pred):
    # About the mean of all rows, so that the sum of squares can be had from two sums without losing digits.
    centred, squares = y_true - y_true.mean(), _squared_errors(y_true, y_pred)

    def resampled(weights):
        total = weights @ centred**2 - (weights @ centred) ** 2 / weights.sum(axis=1)
        return np.where(total > 0, 1 - weights @ squares / total, np.nan)

    return resampled


def _median_absolute_error(y_true, y_pred):
    errors = np.abs(y_true - y_pred)
    order = np.argsort(errors, kind="stable")
    errors = errors[order]

    def resampled(weights):
        drawn = weights[:, order].cumsum(axis=1)
        half = drawn[:, -1:] / 2
        return (errors[(drawn >= half).argmax(axis=1)] + errors[(drawn > half).argmax(axis=1)]) / 2

    return resampled


# --- the team's own ---


def _own(name: str, function: Callable, y_true: np.ndarray, y_pred: np.ndarray) -> Resampled:
    """A function that knows no weights is called once per resample, with each row as often as it was drawn."""

    def resampled(weights):
        rows = np.arange(len(y_true))
        with in_project(f"metric {name} in project/model.py"):
            drawn = (np.repeat(rows, counts.astype(int)) for counts in weights)
            return np.array([float(function(y_true[index], y_pred[index])) for index in drawn])

    return resampled


def _own_weighted(name: str, function: Callable, y_true: np.ndarray, y_pred: np.ndarray) -> Resampled:
    """A function that takes `sample_weight` is called once per resample, with the rows that were drawn."""

    def resampled(weights):
        with in_project(f"metric {name} in project/model.py"):
            return np.array(
                [
                    float(function(y_true[there], y_pred[there], sample_weight=row[there]))
                    for row in weights
                    for there in [row > 0]
                ]
            )

    return resampled


def _takes_weights(function: Callable) -> bool:
    """Whether a function has a parameter `sample_weight`, as scikit-learn's metrics have."""
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False


def of_project() -> Mapping[str, tuple]:
    """The team's own metrics: METRICS in project/model.py, where there is one."""
    with in_project("importing project/model.py"):
        import project.model

    own = getattr(project.model, "METRICS", {})
    if not isinstance(own, Mapping):
        raise ProjectError(
            f"METRICS in project/model.py is {type(own).__name__}, not a dict",
            'write METRICS = {"cost": (cost, False)}',
        )
    return own


def check_names(settings: Settings, features: list[str], own: Mapping[str, tuple]) -> None:
    """Refuse a metric, limit or slice of pipeline.toml that is none, before anything long is done for it."""
    known = metrics_for(settings.data.task, 0, own)
    named(known, settings.gate.metric)
    for name in settings.gate.limits:
        named(known, name, "[gate.limits]")
    check_monitored(settings)
    for column in settings.gate.slices:
        if column not in features:
            raise SettingsError(
                f"pipeline.toml: [gate] slices names {column!r}, which is no feature of the data",
                f"features: {', '.join(features[:12])} …",
            )
