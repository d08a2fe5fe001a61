"""Count the values of one column into bins, with numpy alone: the log's counter and the pipeline's reference use the same bins."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from serving.counts.records import LARGEST, Bins, Column


def written(value: float, digits: int = 4) -> str:
    """A number as people write it: whole, or with so many significant digits; with an exponent only where it is very large or small."""
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0) if value else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def number_counts(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """How many of the values (n,), all finite, are in each of the len(edges) + 1 bins: edges[i-1] <= value < edges[i]."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def count_numbers(values: np.ndarray, bins: Bins, low: float = -np.inf, high: float = np.inf) -> Column:
    """A column of numbers, (n,) float64 with NaN for an empty cell; values below `low` or above `high` are counted as outside."""
    present = values[~np.isnan(values)]
    standard = np.clip((present - bins.center) / (bins.scale or 1.0), -LARGEST, LARGEST)
    return Column(
        counts=number_counts(present, bins.edges or []).tolist(),
        missing=len(values) - len(present),
        outside=int(((present < low) | (present > high)).sum()),
        total=float(standard.sum()),
        squares=float(np.square(standard).sum()),
    )


def count_texts(values: Sequence[str], bins: Bins, seen: frozenset[str] | None = None) -> Column:
    """A column of texts, "" for an empty cell: counts of each listed text, then of all others; `seen` are those of training."""
    found = Counter(values)
    missing = found.pop("", 0)
    listed = [found.get(text, 0) for text in bins.values or []]
    unseen = 0 if seen is None else sum(count for text, count in found.items() if text not in seen)
    return Column(counts=[*listed, len(values) - missing - sum(listed)], missing=missing, unseen=unseen)


def add(whole: Column | None, more: Column) -> Column:
    """The sum of two counts of the same column; `more` alone where there is none yet."""
    if whole is None:
        return more
    return Column(
        counts=[one + other for one, other in zip(whole.counts, more.counts, strict=True)],
        missing=whole.missing + more.missing,
        outside=whole.outside + more.outside,
        unseen=whole.unseen + more.unseen,
        total=whole.total + more.total,
        squares=whole.squares + more.squares,
    )
