"""Drift: how features, answers and outcomes were distributed when the model was trained, and how far data has moved since."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.data.dataset import Dataset, Kind
from serving.model.decision import Threshold, confidence

PERCENTILES = 100  # bins of a column of numbers
GROUPS = 10  # of neighbouring bins, in a stability index: its usual resolution
TOP_VALUES = 20
MODERATE, LARGE = 0.1, 0.25  # stability indices from which a column has changed somewhat, and much
SURPRISING = 0.8  # share of the absolute errors of the hold-out that are no surprise; for a regression
ROWS_OF_A_LIMIT = 20  # of the hold-out at least, from which the limit of a surprise is taken
TINY = np.finfo(np.float64).eps  # a sure and wrong answer costs 36, not infinity, as in the metric log_loss


def reference(
    dataset: Dataset, rows: np.ndarray, y_pred: np.ndarray, metrics: Mapping[str, float],
    threshold: Threshold | None = None, deciders: Mapping[str, float] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """How features and target are distributed over `rows` (bool mask), and answers and losses on the hold-out.

    Numbers: inner edges at the percentiles, and behind each value that has several of them, the share of rows in each of the bins
    they make, mean, standard deviation and range; truth values: the one edge between false and true; text: the share of each of the 20 most frequent values. `missing` is the share of empty cells. Predictions are
    numbers: the value, or each class's probability. The loss of a row is the absolute error, or -log of the probability
    that its true class was given. `metrics` are those of the hold-out, and `deciders` the share of its rows that the model decides, and each
    rule, for a model with rules. References of older bundles have deciles, and
    nothing but `rows`, `features` and `prediction`.
    """
    training = dataset.features[rows]
    outputs = y_pred if y_pred.ndim == 2 else y_pred[:, None]
    names = dataset.classes or [dataset.settings.data.target]
    y_true = dataset.y[dataset.holdout]
    loss = losses(y_true, y_pred)
    return {
        "rows": len(training),
        "features": {name: column_reference(training[name], dataset.kinds[name]) for name in training},
        "prediction": {name: number_reference(outputs[:, place]) for place, name in enumerate(names)},
        "prediction_rows": len(y_pred),
        "target": _target(dataset, rows),
        "loss": number_reference(loss),
        "metrics": {name: float(value) for name, value in metrics.items() if np.isfinite(value)},
        **({"deciders": {"shares": dict(deciders)}} if deciders else {}),
        **(_expected(y_pred, threshold) if dataset.classes else {"surprise": _surprise(y_pred, loss)}),
    }


def losses(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """The loss of each row, (n,): -log of the true class's probability (n, k), or the absolute error of values (n,)."""
    if y_pred.ndim == 1:
        return np.abs(y_true - y_pred)
    return -np.log(np.clip(y_pred[np.arange(len(y_true)), y_true], TINY, 1 - TINY))


def column_reference(column: pd.Series, kind: Kind) -> dict[str, Any]:
    """How the values of a column are distributed: float64 with NaN where empty, or texts with "" where empty."""
    if kind == "text":
        present = column[column != ""]
        shares = (present.value_counts(normalize=True)).sort_index().sort_values(ascending=False, kind="stable")
        top = shares.head(TOP_VALUES)
        return {
            "shares": {str(k): round(float(v), 6) for k, v in top.items()},
            "missing": _share(column == ""),
        }
    values = column.to_numpy()
    edges = np.array([1.0]) if kind == "boolean" else None
    return number_reference(values[~np.isnan(values)], edges) | {"missing": _share(np.isnan(values))}


def number_reference(values: np.ndarray, edges: np.ndarray | None = None) -> dict[str, Any]:
    """How numbers (n,), all finite, are distributed: between these edges, or those that are found for them."""
    if len(values) == 0:
        return {"edges": [], "shares": []}
    edges = _edges(values) if edges is None else edges
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = np.nan_to_num([np.mean(values), np.std(values)])  # JSON has no infinity
    return {
        "edges": edges.tolist(),
        "shares": np.round(counts / len(values), 6).tolist(),
        "mean": float(mean),
        "deviation": float(deviation),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
    }


def _edges(values: np.ndarray) -> np.ndarray:
    """The percentiles, and where a value is several of them the next larger one, so that it has a bin of its own.

    Without that a column which is zero in 995 rows of 1,000 would have one bin, in which no change could be seen.
    """
    percentiles, times = np.unique(np.quantile(values, np.linspace(0, 1, PERCENTILES + 1)[1:-1]), return_counts=True)
    distinct = np.unique(values)
    behind = np.searchsorted(distinct, percentiles[times > 1], side="right")
    return np.union1d(percentiles, distinct[behind[behind < len(distinct)]])


def _target(dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
    if not dataset.classes:
        return number_reference(dataset.y[rows])
    return {"shares": {name: _share(dataset.target[rows] == name) for name in dataset.classes}}


def _expected(y_pred: np.ndarray, threshold: Threshold | None) -> dict[str, float]:
    """The accuracy that the probabilities (n, k) promise."""
    return {"expected_accuracy": round(float(confidence(y_pred, threshold).mean()), 6)}


def _surprise(y_pred: np.ndarray, loss: np.ndarray) -> dict[str, list[float]]:
    """Inner edges of the prediction, and in each of the bins the largest absolute error that is no surprise.

    One row in five is a surprise while the model errs as on the hold-out, wherever its predictions lie: the quantile is the
    one that holds on average for new rows, not for those that it was taken from.
    """
    bins = max(min(GROUPS, len(y_pred) // ROWS_OF_A_LIMIT), 1)
    edges = np.unique(np.quantile(y_pred, np.linspace(0, 1, bins + 1)[1:-1]))
    places = np.searchsorted(edges, y_pred, side="right")
    inside = [loss[places == place] for place in range(len(edges) + 1)]
    limits = [np.quantile(own if len(own) else loss, SURPRISING, method="weibull") for own in inside]
    return {"edges": edges.tolist(), "limits": [float(limit) for limit in limits]}


def _share(mask: Any) -> float:
    return round(float(np.mean(mask)), 6)


def psi(expected: ArrayLike, actual: ArrayLike, least: float) -> float:
    """Population stability index of two distributions over the same bins: Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ).

    Zero when they are alike, and always positive else; a share below `least` counts as `least`, for an empty bin has no
    logarithm. From N. Siddiqi, Credit Risk Scorecards, 2006, chapter 6; it is Jeffreys' divergence (Proc. R. Soc. A 186,
    1946). By its rule of thumb a column below 0.1 (`MODERATE`) has not changed, and above 0.25 (`LARGE`) surely has.
    """
    e, a = (np.maximum(np.asarray(shares, dtype=np.float64), least) for shares in (expected, actual))
    return float(np.sum((a - e) * np.log(a / e)))


def grouped(shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """To which of at most 10 groups of neighbours each bin belongs, (bins,): groups of about the same share of the reference."""
    if len(shares) <= GROUPS:
        return np.arange(len(shares))
    middles = np.cumsum(shares) - np.asarray(shares) / 2
    return np.unique(np.minimum((middles * GROUPS).astype(int), GROUPS - 1), return_inverse=True)[1]


def compare(before: Mapping[str, Any], dataset: Dataset, rows: np.ndarray) -> list[dict[str, Any]]:
    """The stability index of each column that reference and data share, over `rows` (bool mask); largest first.

    `missing` is the share of empty cells, then and now.
    """
    now = dataset.features[rows]
    least = 0.5 / max(min(before["rows"], len(now)), 1)  # half a row of the smaller side
    found = []
    for name, was in before["features"].items():
        if name not in now or ("edges" in was) == (dataset.kinds[name] == "text"):
            continue
        shares = _text_shares if dataset.kinds[name] == "text" else _number_shares
        expected, actual = shares(was, now[name])
        missing = {"before": was["missing"], "now": actual[-1]}
        found.append({"column": name, "psi": round(psi(expected, actual, least), 6), "missing": missing})
    return sorted(found, key=lambda one: -one["psi"])


def _number_shares(was: Mapping, column: pd.Series) -> tuple[list[float], list[float]]:
    """Shares per bin, then and now; the last is that of empty cells."""
    values = column.to_numpy()
    present = values[~np.isnan(values)]
    bins = len(was["edges"]) + 1
    counts = np.bincount(np.searchsorted(was["edges"], present, side="right"), minlength=bins)
    before = was["shares"] or [0.0]  # a column that was empty has neither edges nor shares
    groups = grouped(before)
    actual = np.bincount(groups, counts) / max(len(present), 1)
    return _whole(np.bincount(groups, before), was["missing"]), _whole(actual, np.isnan(values).mean())


def _text_shares(was: Mapping, column: pd.Series) -> tuple[list[float], list[float]]:
    """Shares of the values of then, of all others together, and of empty cells."""
    present = column[column != ""]
    counts = present.value_counts()
    listed = [counts.get(value, 0) / max(len(present), 1) for value in was["shares"]]
    before = list(was["shares"].values())
    others = [max(1 - sum(shares), 0.0) if some else 0.0 for shares, some in ((before, before), (listed, len(present)))]
    return _whole([*before, others[0]], was["missing"]), _whole([*listed, others[1]], (column == "").mean())


def _whole(shares: Iterable[float], missing: float) -> list[float]:
    """Shares of the cells that are not empty, as shares of all; the empty ones last."""
    return [*(float(share) * (1 - missing) for share in shares), float(missing)]
