"""Drift: how features and predictions were distributed when the model was trained, and how far data has moved since."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset

BINS = 10  # deciles: the usual resolution of a population stability index
TOP_VALUES = 20
MODERATE, LARGE = 0.1, 0.25  # stability indices from which a column has changed somewhat, and much


def reference(dataset: Dataset, rows: np.ndarray, y_pred: np.ndarray) -> dict[str, Any]:
    """Shares per bin of each feature over `rows` (bool mask), and of the prediction on the hold-out.

    Numbers: inner edges at the deciles and the share of rows in each of the bins they make; text: the share of each of the
    20 most frequent values. `missing` is the share of empty cells. Predictions: deciles of the value, or of each class's probability.
    """
    training = dataset.features[rows]
    features = {name: _column(training[name], dataset.kinds[name]) for name in training}
    outputs = y_pred if y_pred.ndim == 2 else y_pred[:, None]
    names = dataset.classes or [dataset.settings.data.target]
    return {
        "rows": len(training),
        "features": features,
        "prediction": {name: _numbers(outputs[:, place]) for place, name in enumerate(names)},
    }


def _column(column: pd.Series, kind: str) -> dict[str, Any]:
    if kind == "text":
        present = column[column != ""]
        shares = (present.value_counts(normalize=True)).sort_index().sort_values(ascending=False, kind="stable")
        top = shares.head(TOP_VALUES)
        return {
            "shares": {str(k): round(float(v), 6) for k, v in top.items()},
            "missing": _share(column == ""),
        }
    values = column.to_numpy()
    return _numbers(values[~np.isnan(values)]) | {"missing": _share(np.isnan(values))}


def _numbers(values: np.ndarray) -> dict[str, Any]:
    if len(values) == 0:
        return {"edges": [], "shares": []}
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": np.round(counts / len(values), 6).tolist()}


def _share(mask: Any) -> float:
    return round(float(np.mean(mask)), 6)


def psi(expected: Sequence[float], actual: Sequence[float], least: float) -> float:
    """Population stability index of two distributions over the same bins: Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ).

    Zero when they are alike, and always positive else; a share below `least` counts as `least`, for an empty bin has no
    logarithm. From N. Siddiqi, Credit Risk Scorecards, 2006, chapter 6; it is Jeffreys' divergence (Proc. R. Soc. A 186,
    1946). By its rule of thumb a column below 0.1 (`MODERATE`) has not changed, and above 0.25 (`LARGE`) surely has.
    """
    e, a = (np.maximum(np.asarray(shares, dtype=np.float64), least) for shares in (expected, actual))
    return float(np.sum((a - e) * np.log(a / e)))


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
    # A column that was empty has neither edges nor shares.
    return _whole(was["shares"] or [0.0], was["missing"]), _whole(
        counts / max(len(present), 1), np.isnan(values).mean()
    )


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
