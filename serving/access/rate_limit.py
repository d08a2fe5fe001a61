"""Rate limits for each client, in requests and in bytes: a token bucket each, shared by all workers."""

import time

from serving.telemetry.shared_counters import Numbers

CALLERS = 65_536  # buckets; enough that two clients hardly ever share one


class RateLimit:
    """A number of requests, or bytes, per second for each client, and as many in a burst.

    A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371). It
    is in memory that the workers share, without a lock: two of them may now and then count two requests as one.
    """

    def __init__(self, per_second: float, largest: int = 1):
        """Allow `per_second`, where one request counts as `largest` at most; 0 means no limit."""
        self._step = 1 / per_second if per_second else 0.0
        self._burst = max(1.0, largest * self._step)  # seconds' worth allowed in a burst; at least one request
        self._most = self._burst + 1e-9  # tolerance for rounding errors
        self._full = Numbers(CALLERS, 1).row(0) if per_second else None

    def wait(self, caller: int, amount: int = 1) -> float:
        """Seconds until this client may send this amount; 0.0 when it may now, and then it is counted."""
        if self._full is None:
            return 0.0
        now, place = time.monotonic(), caller % CALLERS
        full = self._full[place]
        full = (full if full > now else now) + amount * self._step
        if full - now > self._most:
            return full - now - self._burst
        self._full[place] = full
        return 0.0
