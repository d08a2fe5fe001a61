"""How a class is chosen from probabilities: the one function that decides, for the service, the pipeline and the monitor alike."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Threshold(NamedTuple):
    """A row is of the positive class, whose position this is, when its probability is at least `value`."""

    positive: int
    value: float


def threshold_of(contract: Mapping[str, Any]) -> Threshold | None:
    """The threshold of a contract as JSON has it; None where the most probable class is the answer."""
    if contract.get("labels") != "threshold":
        return None
    return Threshold(contract["classes"].index(contract["positive"]), contract["threshold"])


def decide(probabilities: np.ndarray, threshold: Threshold | None = None) -> np.ndarray:
    """The position of the class of each row, shape (n,), from its probabilities (n, k)."""
    if threshold is None:
        return probabilities.argmax(axis=1)
    # In float64: what is asked alone, in a batch or read from the log again must fall on the same side.
    reached = probabilities[:, threshold.positive].astype(np.float64) >= threshold.value
    return np.where(reached, threshold.positive, 1 - threshold.positive)


def decide_one(probabilities: Sequence[float], threshold: Threshold | None = None) -> int:
    """The same for one row, from a list of Python's floats."""
    if threshold is None:
        return probabilities.index(max(probabilities))
    positive, value = threshold
    return positive if probabilities[positive] >= value else 1 - positive


def lead(probabilities: np.ndarray, threshold: Threshold | None = None) -> np.ndarray:
    """How clear each row's class is, shape (n,): the lead of the most probable class, or twice the distance to the threshold.

    With two classes and a threshold of 0.5 both are the same. Where it is below twice the tolerance of parity, a row may fall on either
    side.
    """
    if threshold is None:
        top = np.sort(probabilities, axis=1)
        return top[:, -1] - top[:, -2]
    return 2 * np.abs(probabilities[:, threshold.positive] - threshold.value)


def confidence(probabilities: np.ndarray, threshold: Threshold | None = None) -> np.ndarray:
    """The probability of the class that each row is given, shape (n,)."""
    return probabilities[np.arange(len(probabilities)), decide(probabilities, threshold)]
