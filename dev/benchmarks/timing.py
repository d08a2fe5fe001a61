"""Waiting, and what many timings come to."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """The median of some rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float


def figure(values: Sequence[float]) -> Figure:
    """The figure of one value per round."""
    return Figure(statistics.median(values), min(values), max(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio in each round: what disturbs a round disturbs both sides of it."""
    return [one / other for one, other in zip(above, below, strict=True)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def eventually(true: Callable[[], bool], alive: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until something is true; None when it does not become so in time, or whoever makes it so is gone."""
    begin = time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        if true():
            return time.perf_counter() - begin
        if not alive():
            return None
        time.sleep(min(0.01, seconds - passed))
    return None
