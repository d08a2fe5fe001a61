"""Columns as the monitor sees them: references, and counts of days that were drawn from a known distribution."""

import numpy as np
from scipy import stats

NORMAL_ROWS = 10_000


def numbers(values: np.ndarray) -> dict:
    """The reference of these values, as a bundle has it."""
    present = values[~np.isnan(values)]
    edges = np.unique(np.quantile(present, np.linspace(0, 1, 101)[1:-1])) if len(present) else np.empty(0)
    shares = counts(edges, present)[:-1] / max(len(present), 1)
    return {
        "edges": edges.tolist(),
        "shares": shares.tolist() if len(present) else [],
        "missing": float(np.isnan(values).mean()),
        "minimum": float(present.min(initial=0)),
        "maximum": float(present.max(initial=0)),
    }


def counts(edges, values: np.ndarray) -> np.ndarray:
    """Rows per bin, those with an empty cell last."""
    present = values[~np.isnan(values)]
    found = np.bincount(np.searchsorted(edges, present, side="right"), minlength=len(edges) + 1)
    return np.append(found, len(values) - len(present))


def normal(seed: int = 0, rows: int = NORMAL_ROWS) -> dict:
    """The reference of standard normal numbers."""
    return numbers(np.random.default_rng([seed, 1]).normal(size=rows))


def days(reference: dict, rng: np.random.Generator, rows: list[int], means: np.ndarray) -> np.ndarray:
    """A table: of each day so many normal numbers around that day's mean."""
    below = stats.norm.cdf(np.array(reference["edges"]) - means[:, None])
    chances = np.diff(below, axis=1, prepend=0, append=1)
    return np.array([[*rng.multinomial(n, chance), 0] for n, chance in zip(rows, chances, strict=True)])
