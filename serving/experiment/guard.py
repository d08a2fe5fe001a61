"""The guardrails of a challenger that answers callers: what it does is counted, and it is taken out when it does badly.

The counts are those of all workers. Whoever finds them beyond a limit stops the experiment for all: from then on production's model
answers everybody. The prediction log keeps the stop, for other replicas and for the next start (serving/experiment/stops.py).
"""

import logging
from collections.abc import Sequence

from serving.experiment.experiment import Guardrails
from serving.telemetry.metrics import BUCKETS, Metrics, Tried

EVERY = 32  # requests that a worker answers between two looks at the counts of all

_log = logging.getLogger("serving")


class Guard:
    """The guardrails as one worker keeps them."""

    def __init__(self, metrics: Metrics, limits: Guardrails):
        self._metrics, self._limits = metrics, limits
        self._until_look = 1

    @property
    def stopped(self) -> bool:
        """Whether the experiment has stopped itself: here, in another process of this service, or in another one."""
        return self._metrics.stopped()

    def count(self, challenger: bool, failed: bool, seconds: float) -> str:
        """Count a request that a variant was to answer, with the time that its model took for a row; look at the limits now and then.

        Returns why the experiment stops, in words, where it was this request that stopped it, else "".
        """
        self._metrics.tried(challenger, failed, seconds)
        self._until_look -= 1
        if self._until_look > 0:
            return ""
        self._until_look = EVERY
        tried = self._metrics.trials()
        if tried.stopped or not (why := broken(self._limits, tried)):
            return ""
        self._metrics.stop_trial()
        _log.error("the experiment stopped itself, production's model answers everybody: %s", why)
        return why


def broken(limits: Guardrails, tried: Tried) -> str:
    """Which guardrail the challenger breaks, in words; "" for none, or where there are too few requests to tell."""
    if tried.challenger < limits.min_requests:
        return ""
    share = tried.failures / tried.challenger
    if share > limits.max_failures:
        return f"the challenger had no answer to {share:.1%} of {tried.challenger} requests, {limits.max_failures:.1%} are allowed"
    if tried.control < limits.min_requests:
        return ""
    ours, theirs = quantile(tried.control_seconds, 0.95), quantile(tried.challenger_seconds, 0.95)
    allowed = ours * limits.max_latency_ratio + limits.latency_margin_ms / 1000
    if theirs > allowed:
        return f"the challenger takes {1000 * theirs:.3g} ms for a row (95th percentile), {1000 * allowed:.3g} ms are allowed"
    return ""


def quantile(counts: Sequence[float], share: float) -> float:
    """A quantile of times that were counted in BUCKETS, in seconds: the upper limit of its bucket, twice the last one beyond that."""
    limits, below, total = (*BUCKETS, 2 * BUCKETS[-1]), 0.0, sum(counts)
    for limit, count in zip(limits, counts, strict=True):
        below += count
        if below >= share * total:
            return limit
    return limits[-1]
