"""How far two predictions of the same rows are apart."""

from dataclasses import dataclass

import numpy as np

from serving.model.decision import Threshold, decide, lead


@dataclass(frozen=True)
class Parity:
    """Largest difference of an answer (relative above 1 for values), and the rows whose label differs.

    `unanswered` are the rows that only the trained model answers, `answered` those that only the served one does.
    """

    difference: float
    labels: int
    unanswered: int = 0
    answered: int = 0

    def holds(self, tolerance: float) -> bool:
        """True when both answer the same rows, with the same labels, and no answer differs by more than the tolerance."""
        return not (self.labels or self.unanswered or self.answered) and self.difference <= tolerance


def answered(given: np.ndarray) -> np.ndarray:
    """Which rows of a prediction, (n, k) or (n,), have an answer: all of it is finite, shape (n,)."""
    return np.isfinite(given).all(axis=tuple(range(1, given.ndim)))


def parity(
    trained: np.ndarray, served: np.ndarray, tolerance: float = 0.0, threshold: Threshold | None = None
) -> Parity:
    """Compare two predictions of the same rows: probabilities (n, k) or values (n,).

    A row that is not all finite has no answer. A label counts where the trained model is clear about it: with two classes less than
    twice the tolerance apart, or within the tolerance of the threshold, it may fall on either side.
    """
    ours, theirs = answered(trained), answered(served)
    differ = {"unanswered": int((ours & ~theirs).sum()), "answered": int((theirs & ~ours).sum())}
    trained, served = trained[ours & theirs], served[ours & theirs]
    labels = 0
    if trained.ndim == 2 and len(trained):
        clear = lead(trained, threshold) > 2 * tolerance
        labels = int((clear & (decide(trained, threshold) != decide(served, threshold))).sum())
    with np.errstate(over="ignore"):  # two values of opposite sign near the largest
        off = np.abs(trained - served) / np.maximum(1, np.abs(trained))
    difference = float("inf") if any(differ.values()) else float(off.max(initial=0.0))
    return Parity(difference, labels, **differ)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By how much two answers to a row differ, as `parity` measures it, shape (n,); infinite where only one is there."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one - other) / np.maximum(1, np.abs(one))
    off = off.max(axis=tuple(range(1, off.ndim)), initial=0.0) if off.ndim > 1 else off
    there = [answered(given) for given in (one, other)]
    return np.where(there[0] & there[1], off, np.where(there[0] == there[1], 0.0, np.inf))
