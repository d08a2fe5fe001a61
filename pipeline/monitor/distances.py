"""Distances between a column's reference and counts of now, and their p-values: numbers to look at, which raise no alarm.

All but `exact_ks` and `exact_wasserstein` work on counts per bin, so they need no rows. Counts have as many bins as the reference: between its edges, or
its texts and all others.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.data.drift import PERCENTILES, TOP_VALUES, grouped
from pipeline.data.drift import psi as index

LEAST_EXPECTED = 5  # rows per cell, below which the chi-squared distribution does not fit


class Distances(NamedTuple):
    """How far a column is from its reference; None where one side is empty, or where the figure does not exist for its kind.

    `wasserstein` is in the units of the column. `p_value` is that of KS for numbers and of chi-squared for texts.
    """

    ks: float | None = None
    psi: float | None = None
    chi2: float | None = None
    wasserstein: float | None = None
    p_value: float | None = None


def distances(column: Mapping[str, Any], rows: int, counts: ArrayLike, missing: int = 0) -> Distances:
    """All that can be said of counts and empty cells of now against a column of the reference, which has so many rows."""
    present, empty = rows * (1 - column.get("missing", 0.0)), column.get("missing", 0.0)
    total = float(np.sum(counts))
    if present < 1 or total < 1:
        return Distances()
    before, now = shares(column), np.asarray(counts) / total
    groups = grouped(before) if "edges" in column else np.arange(len(before))
    before_groups, now_groups = np.bincount(groups, before), np.bincount(groups, now)
    gone = missing / (total + missing)
    stability = index(
        [*before_groups * (1 - empty), empty], [*now_groups * (1 - gone), gone], 0.5 / min(rows, total + missing)
    )
    statistic, chi2_p = chi2(before_groups * present, now_groups * total)
    if "edges" not in column:
        return Distances(psi=stability, chi2=statistic, p_value=chi2_p)
    largest, ks_p = ks(before, now, present, total)
    return Distances(largest, stability, statistic, wasserstein(column, now), ks_p)


def shares(column: Mapping[str, Any]) -> np.ndarray:
    """The shares of the reference per bin, those of all other texts last; they add up to one."""
    found = column["shares"]
    if "edges" not in column:
        listed = list(found.values())
        found = [*listed, max(1 - sum(listed), 0.0)]
    return np.asarray(found, dtype=float) / max(np.sum(found), 1e-12)


def ks(before: ArrayLike, now: ArrayLike, rows_before: float, rows_now: float) -> tuple[float, float]:
    """Largest distance of the cumulative shares at the edges, and its p-value for two samples of so many rows.

    Between the edges the samples may be farther apart: it is a lower bound of the statistic of Kolmogorov and Smirnov.
    """
    from scipy import stats

    largest = float(np.abs(np.cumsum(before) - np.cumsum(now))[:-1].max(initial=0.0))
    return largest, float(stats.kstwo.sf(largest, max(round(rows_before * rows_now / (rows_before + rows_now)), 1)))


def chi2(before: ArrayLike, now: ArrayLike) -> tuple[float, float]:
    """Pearson's statistic that both counts are of one distribution, and its p-value; rare bins count together."""
    from scipy import stats

    table = _dense(np.stack([before, now]).astype(float))
    if table.shape[1] < 2:
        return 0.0, 1.0
    found = stats.chi2_contingency(table, correction=False)
    return float(found.statistic), float(found.pvalue)


def _dense(table: np.ndarray) -> np.ndarray:
    """Bins with enough expected rows on both sides; all others together are one more, if that has enough."""
    expected = table.sum(axis=0) * table.sum(axis=1).min() / max(table.sum(), 1e-12)
    enough = expected >= LEAST_EXPECTED
    rest = table[:, ~enough].sum(axis=1, keepdims=True)
    return np.concatenate([table[:, enough], rest], axis=1) if expected[~enough].sum() >= 1 else table[:, enough]


def wasserstein(column: Mapping[str, Any], now: ArrayLike) -> float:
    """By how much, in the column's units, values moved on average: the area between the cumulative shares.

    Values are taken to be spread evenly within a bin, and none to be beyond the range of the reference. Where the reference has so
    few bins that its edges are its values, as of whole numbers and truth values, each bin holds the value of its lower edge.
    """
    edges, ends = column["edges"], (column.get("minimum"), column.get("maximum"))
    apart = np.cumsum(shares(column))[:-1] - np.cumsum(now)[:-1]
    places = np.array(
        [*([ends[0]] if ends[0] is not None else []), *edges, *([ends[1]] if ends[1] is not None else [])]
    )
    apart = np.concatenate([[0.0] * (ends[0] is not None), apart, [0.0] * (ends[1] is not None)])
    left, right = apart[:-1], apart[1:]
    if len(edges) < PERCENTILES - 1:
        inner = slice(ends[0] is not None, len(right) - (ends[1] is not None))
        left = np.concatenate([left[: inner.start], right[inner], left[inner.stop :]])
    same = left * right >= 0
    crossing = (left**2 + right**2) / np.maximum(2 * np.abs(left - right), 1e-300)  # two triangles
    return float((np.diff(places) * np.where(same, np.abs(left + right) / 2, crossing)).sum())


def p_of_shares(hits: float, rows: float, hits_now: float, rows_now: float) -> float:
    """The p-value that two shares are the same: Pearson's test, or Fisher's where a cell is expected to have few rows."""
    from scipy import stats

    pair = np.rint([[hits, rows - hits], [hits_now, rows_now - hits_now]])
    if (np.outer(pair.sum(axis=1), pair.sum(axis=0)) / pair.sum()).min() < LEAST_EXPECTED:
        return float(stats.fisher_exact(pair).pvalue)
    return chi2(*pair)[1]


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values adjusted for their number, so that of those below 0.05 one in twenty is wrong; None stays None."""
    from scipy import stats

    places = [place for place, value in enumerate(p_values) if value is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    if places:
        found = stats.false_discovery_control([p_values[place] for place in places])
        for place, value in zip(places, found.tolist(), strict=True):
            adjusted[place] = value
    return adjusted


def exact_ks(before: np.ndarray, now: np.ndarray) -> tuple[float, float] | None:
    """The two-sample test of Kolmogorov and Smirnov on values (n,) and (m,), NaN left out; None where one side is empty."""
    from scipy import stats

    before, now = before[~np.isnan(before)], now[~np.isnan(now)]
    if not len(before) or not len(now):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # where the exact p-value cannot be had, it takes the asymptotic one
        found = stats.ks_2samp(before, now)
    return float(found.statistic), float(found.pvalue)


def exact_chi2(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Pearson's test on texts (n,) and (m,), "" left out: of those that are most frequent on both sides together, and all others.

    The most frequent of one side alone would be so by chance, too: where there are thousands, they are rarer on the other.
    """
    counts = [Counter(one[one != ""].tolist()) for one in (before, now)]
    both = counts[0] + counts[1]
    listed = [text for text, _ in both.most_common(TOP_VALUES)]
    found = np.array(
        [[*(one[text] for text in listed), one.total() - sum(one[text] for text in listed)] for one in counts]
    )
    return chi2(*found)


def exact_wasserstein(before: np.ndarray, now: np.ndarray) -> float | None:
    """By how much values (n,) and (m,) moved on average, NaN left out; None where one side is empty or the sum is too large."""
    from scipy import stats

    before, now = before[~np.isnan(before)], now[~np.isnan(now)]
    if not len(before) or not len(now):
        return None
    with np.errstate(all="ignore"):
        found = float(stats.wasserstein_distance(before, now))
    return found if np.isfinite(found) else None
