"""How much a caller may ask, in requests and in bytes: a token bucket for each, shared by all workers."""

import time

from serving.telemetry.shared_counters import Numbers

CALLERS = 65_536  # buckets; so many that two callers hardly ever share one


class RateLimit:
    """So many requests, or bytes, a second for each caller, and as many at once.

    A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371). It
    lies in memory that the workers share, without a lock: two of them may now and then count one request for two.
    """

    def __init__(self, per_second: float, largest: int = 1):
        """A limit of so many a second, of which one request counts as `largest` at most; 0 means none."""
        self._step = 1 / per_second if per_second else 0.0
        self._burst = max(1.0, largest * self._step)  # seconds worth that may come at once; at least one request
        self._most = self._burst + 1e-9  # what sums of fractions are off by
        self._full = Numbers(CALLERS, 1).row(0) if per_second else None

    def wait(self, caller: int, amount: int = 1) -> float:
        """Seconds until this caller may ask for so much; 0.0 when it may now, which is then counted."""
        if self._full is None:
            return 0.0
        now, place = time.monotonic(), caller % CALLERS
        full = self._full[place]
        full = (full if full > now else now) + amount * self._step
        if full - now > self._most:
            return full - now - self._burst
        self._full[place] = full
        return 0.0
