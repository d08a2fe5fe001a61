"""The drift reference: how features and predictions were distributed when the model was trained."""

from typing import Any

import numpy as np
import pandas as pd

from pipeline.dataset import Dataset

BINS = 10  # deciles: the usual resolution of a population stability index
TOP_VALUES = 20


def reference(dataset: Dataset, rows: np.ndarray, prediction: np.ndarray) -> dict[str, Any]:
    """Shares per bin of each feature over `rows` (bool mask), and of the prediction on the hold-out.

    Numbers: inner edges at the deciles and the share of rows in each of the bins they make; text: the share of each of the
    20 most frequent values. `missing` is the share of empty cells. Predictions: deciles of the value, or of each class's probability.
    """
    training = dataset.features[rows]
    features = {name: _column(training[name], dataset.kinds[name]) for name in training}
    outputs = prediction if prediction.ndim == 2 else prediction[:, None]
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
