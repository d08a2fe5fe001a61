"""Latencies of any number of requests in memory that does not grow: counted in narrow buckets, over time."""

import math
from array import array

import numpy as np

SLOTS = 100  # parts of the time, from left to right of a picture
FINEST = 1e-6  # seconds; what is shorter counts as this
PER_E = 1 / math.log(1.01)  # a bucket is 1 % wide
BUCKETS = math.ceil(math.log(1e9) * PER_E)  # up to 1000 seconds; what is longer counts as that


class Latencies:
    """Latencies in seconds, each with the instant at which its request was due (seconds from the beginning)."""

    def __init__(self, seconds: float):
        """`seconds` is the length of the time; what is due later counts as due at its end."""
        self.seconds = seconds
        self.total = self.longest = 0.0
        self._cells = array("I", bytes(4 * SLOTS * BUCKETS))

    def add(self, due: float, latency: float, count: int = 1) -> None:
        """Count a latency, or several that are alike."""
        slot = min(int(due / self.seconds * SLOTS), SLOTS - 1)
        bucket = min(int(math.log(latency / FINEST) * PER_E), BUCKETS - 1) if latency > FINEST else 0
        self._cells[slot * BUCKETS + bucket] += count
        self.total += latency * count
        if latency > self.longest:
            self.longest = latency

    def counts(self) -> np.ndarray:
        """How many there are, by slot of time and bucket of latency; (SLOTS, BUCKETS)."""
        return np.array(self._cells, dtype=np.int64).reshape(SLOTS, BUCKETS)

    def summary(self) -> dict[str, float] | None:
        """Mean, median, p95, p99 and max in seconds, quantiles to within half a percent; None where there is none."""
        counts = self.counts().sum(axis=0)
        if not counts.any():
            return None
        median, p95, p99 = (min(quantile(counts, share), self.longest) for share in (0.5, 0.95, 0.99))
        mean = self.total / int(counts.sum())
        return {"mean": mean, "median": median, "p95": p95, "p99": p99, "max": self.longest}


def edges() -> np.ndarray:
    """Where the buckets begin and end, seconds; (BUCKETS + 1,)."""
    return FINEST * np.exp(np.arange(BUCKETS + 1) / PER_E)


def quantile(counts: np.ndarray, share: float) -> float:
    """The latency in seconds that such a share of the requests does not exceed; NaN where there is none."""
    if not counts.any():
        return math.nan
    rank = max(math.ceil(share * counts.sum()), 1)
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    return FINEST * math.exp((bucket + 0.5) / PER_E)
