"""How well production answers: metrics from counted outcomes, and estimates from the model's own probabilities before they come.

The daily counts hold sums, not rows, so that they add up over any days. Metrics of hits (accuracy, precision, recall, F1) and means
(log loss, mean absolute error, root mean squared error, R²) are exact. The area under the ROC curve is read from a histogram.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from pipeline.evaluation.metrics import metrics_for
from pipeline.monitor.findings import Estimate, Limit, Measured, SliceRow, TTest
from serving.counts.columns import add
from serving.counts.records import DELAYS, Outcomes, Part, Rows, Version

CONFIDENCE = 0.95
RESAMPLES = 1000
CELLS = 2_000_000  # of resampled confusion matrices that are in memory at once
LAST, LEAST = 1000, 100  # rows of the t-test: this many of the newest, and no test with fewer than that
T_LEVEL = 0.01
LARGEST_T = 1e6  # where neither side varies, it would be infinite, which JSON has not


def total(outcomes: Sequence[Outcomes]) -> Outcomes:
    """The sum of the counts of some days of one version; empty counts for no days."""
    whole = Outcomes()
    for one in outcomes:
        for name in ("rows", "late", "repeated", "unknown", "wrong", "surprises"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ("expected_correct", "loss_sum", "loss_squares"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        for name in ("confusion", "scores", "positives", "delay"):
            before, more = getattr(whole, name), getattr(one, name)
            setattr(whole, name, (np.array(before) + np.array(more)).tolist() if before and more else before or more)
        for name in ("target", "loss"):
            more = getattr(one, name)
            setattr(whole, name, getattr(whole, name) if more is None else add(getattr(whole, name), more))
        for label, part in one.slices.items():
            known = whole.slices.setdefault(label, Part())
            known.rows += part.rows
            known.wrong += part.wrong
            known.loss += part.loss
    return whole


def measured(
    version: Version, outcomes: Outcomes, holdout: Mapping[str, float], intervals: bool = True
) -> list[Measured]:
    """Every metric of the task that the counts give, with the hold-out's value; none without outcomes.

    Intervals are what takes long where there are many classes: a second with a few hundred.
    """
    if not outcomes.rows:
        return []
    positive = version.contract.positive
    place = version.contract.classes.index(positive) if positive else None
    found = _classified(outcomes, place, intervals) if version.contract.classes else _valued(version, outcomes)
    better = {name: metric.higher_is_better for name, metric in metrics_for(version.contract.task, place).items()}
    return [
        Measured(
            name=name,
            value=value,
            low=low,
            high=high,
            holdout=holdout.get(name),
            rows=outcomes.rows,
            higher_is_better=better.get(name, True),
        )
        for name, (value, low, high) in found.items()
        if np.isfinite(value)
    ]


def weighted(outcomes: Outcomes) -> list[Measured]:
    """Precision, recall and F1 of each class, averaged with the number of its rows as weight; none without outcomes.

    As scikit-learn's average="weighted". The weighted recall is the accuracy.
    """
    if not outcomes.rows:
        return []
    counts = np.array(outcomes.confusion)
    drawn, values = _resampled(counts, _of_weights), _of_weights(counts[None])
    found = {name: _between(float(value[0]), drawn[name]) for name, value in values.items()}
    return [
        Measured(name=name, value=value, low=low, high=high, rows=outcomes.rows, higher_is_better=True)
        for name, (value, low, high) in found.items()
    ]


def _of_weights(counts: np.ndarray) -> dict[str, np.ndarray]:
    hits = np.diagonal(counts, axis1=1, axis2=2)
    actual, answered = counts.sum(axis=2), counts.sum(axis=1)
    share = actual / counts.sum(axis=(1, 2))[:, None]
    return {
        "precision_weighted": (share * hits / np.maximum(answered, 1)).sum(axis=1),
        "recall_weighted": (share * hits / np.maximum(actual, 1)).sum(axis=1),
        "f1_weighted": (share * 2 * hits / np.maximum(actual + answered, 1)).sum(axis=1),
    }


Interval = tuple[float, float | None, float | None]


def _classified(outcomes: Outcomes, positive: int | None, intervals: bool) -> dict[str, Interval]:
    counts = np.array(outcomes.confusion)
    values = _of_confusion(counts[None], positive)
    resampled = _resampled(counts, lambda drawn: _of_confusion(drawn, positive)) if intervals else {}
    found = {name: _between(float(value[0]), resampled.get(name, np.empty(0))) for name, value in values.items()}
    if outcomes.scores and positive is not None:
        found["roc_auc"] = _area(outcomes)
    found["log_loss"] = _mean(outcomes.loss_sum, outcomes.loss_squares, outcomes.rows)
    return found


def _resampled(counts: np.ndarray, metrics: Callable[[np.ndarray], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metrics of the bootstrap's confusion matrices, (B,) each; only some of the matrices, (b, k, k), are in memory at once."""
    rng, some = np.random.default_rng(0), np.flatnonzero(counts)
    shares, parts = counts.ravel()[some] / counts.sum(), []
    at_once = max(CELLS // counts.size, 1)
    for start in range(0, RESAMPLES, at_once):
        drawn = np.zeros((min(at_once, RESAMPLES - start), counts.size), dtype=int)
        drawn[:, some] = rng.multinomial(counts.sum(), shares, size=len(drawn))
        parts.append(metrics(drawn.reshape(-1, *counts.shape)))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_confusion(counts: np.ndarray, positive: int | None) -> dict[str, np.ndarray]:
    """Metrics of confusion matrices (B, k, k), actual by answered class; as in pipeline/evaluation/metrics.py."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.diagonal(counts, axis1=1, axis2=2)
        actual, answered = counts.sum(axis=2), counts.sum(axis=1)
        recall = hits / actual
        precision = np.where(actual > 0, hits / np.where(answered > 0, answered, 1), np.nan)
        f1 = 2 * hits / (answered + actual)
        found = {"accuracy": hits.sum(axis=1) / counts.sum(axis=(1, 2))}
        if positive is not None:
            return found | {"precision": precision[:, positive], "recall": recall[:, positive], "f1": f1[:, positive]}
        return found | {"balanced_accuracy": _nanmean(recall), "f1_macro": _nanmean(f1)}


def _nanmean(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)


def _between(value: float, resampled: np.ndarray) -> Interval:
    """A value with the bootstrap's interval (percentiles)."""
    there = resampled[np.isfinite(resampled)]
    if not len(there):
        return value, None, None
    low, high = np.quantile(there, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return value, float(low), float(high)


def _area(outcomes: Outcomes) -> Interval:
    """The area under the ROC curve from rows per hundredth of the score; rows in one bin count as ties.

    The standard error is that of Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    positives = np.array(outcomes.positives, dtype=float)
    negatives = np.array(outcomes.scores, dtype=float) - positives
    p, n = positives.sum(), negatives.sum()
    if not p or not n:
        return np.nan, None, None
    below = np.cumsum(negatives) - negatives
    area = float((positives * (below + negatives / 2)).sum() / (p * n))
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (p - 1) * (q1 - area * area) + (n - 1) * (q2 - area * area)) / (p * n)
    wide = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(max(variance, 0))
    return area, float(max(area - wide, 0)), float(min(area + wide, 1))


def _mean(total: float, squares: float, rows: int) -> Interval:
    mean = total / rows
    if rows < 2:
        return mean, None, None
    wide = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(_variance(total, squares, rows) / rows)
    return mean, float(mean - wide), float(mean + wide)


def _variance(total: float, squares: float, rows: int) -> float:
    return max((squares - total * total / rows) / max(rows - 1, 1), 0.0)


def _valued(version: Version, outcomes: Outcomes) -> dict[str, Interval]:
    n = outcomes.rows
    mse = outcomes.loss_squares / n
    found: dict[str, Interval] = {
        "mae": _mean(outcomes.loss_sum, outcomes.loss_squares, n),
        "rmse": (float(np.sqrt(mse)), None, None),
    }
    if outcomes.target and n > 1:
        spread = _variance(outcomes.target.total, outcomes.target.squares, n) * (n - 1) / n * version.target.scale**2
        found["r2"] = (1 - mse / spread if spread else np.nan, None, None)
    return found


def limits(asked: Mapping[str, float], metrics: Sequence[Measured], rows: int, least: int) -> list[Limit]:
    """The absolute limits: maximum of a loss, minimum of a score; without a value until there are `least` outcomes."""
    known = {metric.name: metric for metric in metrics}
    found = []
    for name, limit in asked.items():
        metric = known.get(name)
        if metric is None or rows < least:
            found.append(Limit(metric=name, limit=limit, value=None, rows=rows, broken=False))
            continue
        broken = metric.value < limit if metric.higher_is_better else metric.value > limit
        found.append(Limit(metric=name, limit=limit, value=metric.value, rows=rows, broken=broken))
    return found


def slices(outcomes: Outcomes) -> list[SliceRow]:
    """The outcomes by slice, the worst first."""
    found = [
        SliceRow(slice=label, rows=part.rows, wrong=part.wrong / part.rows, loss=part.loss / part.rows)
        for label, part in outcomes.slices.items()
        if part.rows
    ]
    return sorted(found, key=lambda one: -one.loss)


def t_test(days: Sequence[Outcomes], reference: Mapping[str, Any]) -> TTest | None:
    """Welch's t-test of the loss of the newest days, back to LAST rows, against the hold-out's; None with fewer than LEAST rows.

    Shown because many ask for it. It looks every day and corrects for nothing, so it cries wolf a few times a year.
    """
    chosen: list[Outcomes] = []
    for one in reversed(days):
        if sum(part.rows for part in chosen) >= LAST:
            break
        chosen.append(one)
    now, before = total(chosen), reference.get("loss", {})
    if now.rows < LEAST or before.get("mean") is None or "prediction_rows" not in reference:
        return None
    mean, variance = now.loss_sum / now.rows, _variance(now.loss_sum, now.loss_squares, now.rows)
    t, p = stats.ttest_ind_from_stats(
        mean,
        np.sqrt(variance),
        now.rows,
        before["mean"],
        before["deviation"],
        reference["prediction_rows"],
        equal_var=False,
    )
    if np.isnan(t):  # both sides are one and the same number
        t, p = 0.0, 1.0
    return TTest(
        rows=now.rows,
        mean_before=before["mean"],
        mean_now=mean,
        t=float(np.clip(t, -LARGEST_T, LARGEST_T)),
        p_value=float(p),
        drifted=bool(p < T_LEVEL),
    )


def estimated(rows: Sequence[Rows]) -> list[Estimate]:
    """Accuracy and log loss as the model's own probabilities promise them; none for a regression.

    CBPE, confidence-based performance estimation (NannyML): if the probabilities are calibrated and the relation of inputs to
    target has not changed, the expected accuracy is the mean of the largest probability, and the expected log loss the mean entropy.
    """
    number = sum(one.rows for one in rows if one.labels)
    if not number:
        return []
    correct, loss = sum(one.expected_correct for one in rows), sum(one.expected_loss for one in rows)
    return [
        Estimate(name="accuracy", value=correct / number, rows=number),
        Estimate(name="log_loss", value=loss / number, rows=number),
    ]


def delays(outcomes: Outcomes) -> dict[str, float]:
    """Median and 90 % quantile of the seconds from prediction to outcome, as the upper end of the bin that holds them."""
    counts = np.cumsum(outcomes.delay)
    if not len(counts) or not counts[-1]:
        return {}
    ends = [*DELAYS, 2 * DELAYS[-1]]
    return {share: float(ends[int(np.searchsorted(counts, float(share) * counts[-1]))]) for share in ("0.5", "0.9")}
