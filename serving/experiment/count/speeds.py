"""Quantiles of times, counted in bins of 5 %."""

import math
from collections.abc import Sequence

import numpy as np

from serving.experiment.count.records import Speed

STEP = math.log(1.05)
FASTEST = 1e-6  # seconds
BINS = 500  # up to hours


class Times:
    """How often a time was in each bin."""

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, dtype=np.int64)

    def add(self, milliseconds: Sequence[float]) -> None:
        """Count some times."""
        seconds = np.maximum(np.array(milliseconds) / 1000, FASTEST)
        places = np.minimum(np.log(seconds / FASTEST) / STEP, BINS - 1).astype(int)
        self._counts += np.bincount(places, minlength=BINS)

    def speed(self) -> Speed:
        """The median and the 95th percentile; None without times."""
        total = self._counts.sum()
        if not total:
            return Speed()
        below = self._counts.cumsum()
        median, p95 = (FASTEST * math.exp((np.searchsorted(below, q * total) + 0.5) * STEP) for q in (0.5, 0.95))
        return Speed(median=median, p95=p95)
