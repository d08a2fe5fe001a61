"""How many subjects, and how many days, it takes to find a difference.

The fixed test is looked at once, on a day that is chosen before: J. Fleiss, B. Levin, M. Paik, Statistical Methods for Rates and
Proportions (2003), section 4 (two proportions without continuity correction, unequal sizes); for means the same with their standard
deviation. The sequence is looked at each day; its days come from its own boundary (confidence_sequence.py): a difference that moves as a
Brownian motion with drift does, and is seen once a day, simulated with a fixed seed.
"""

import math
from typing import Literal

import numpy as np
from msgspec import Struct
from scipy import stats

from pipeline.experiments.confidence_sequence import FEWEST, boundary, effective
from pipeline.experiments.looks import TUNED
from pipeline.experiments.welch import ALPHA

LONGEST = 365  # days
LARGEST = 1e100  # of means and standard deviations: squares stay within what a float can hold
RUNS = 4000


class Planned(Struct, frozen=True, kw_only=True):
    """How long one way of deciding takes: days, None for more than LONGEST, and the subjects of both variants until then."""

    method: Literal["fixed", "sequence"]
    found: float  # with this probability the difference is found by then
    days: int | None
    subjects_a: int | None
    subjects_b: int | None


class ExperimentPlan(Struct, frozen=True, kw_only=True):
    """What was asked, and the answers. `deviation_a` and `deviation_b` are the standard deviations that were used."""

    before: float
    after: float
    per_day: float
    share: float
    deviation_a: float
    deviation_b: float
    alpha: float
    rows: list[Planned]


def planned(
    before: float, after: float, per_day: float, share: float, deviation: float | None = None, alpha: float = ALPHA
) -> ExperimentPlan:
    """Days and subjects to find that a mean goes from `before` to `after`, with `per_day` new subjects, a `share` of them B's.

    Without a standard deviation the means are shares of yes or no, between 0 and 1. Raises ValueError in words.
    """
    _check(before, after, per_day, share, deviation)
    deviations = (deviation, deviation) if deviation else tuple(math.sqrt(p * (1 - p)) for p in (before, after))
    together = before * (1 - share) + after * share
    null = deviation or math.sqrt(together * (1 - together))
    # Standard errors of the difference after one day, where there is a difference and where there is none.
    day_a, day_b = per_day * (1 - share), per_day * share
    error = math.sqrt(deviations[0] ** 2 / day_a + deviations[1] ** 2 / day_b)
    error_null = null * math.sqrt(1 / day_a + 1 / day_b)
    rows = []
    for power in (0.8, 0.9):
        reach = stats.norm.isf(alpha / 2) * error_null + stats.norm.ppf(power) * error
        root = reach / abs(after - before)
        rows.append(_row("fixed", power, max(math.ceil(root**2), 1) if root < LONGEST else math.inf, day_a, day_b))
    decided = days_of_sequence(abs(after - before) / error, effective(day_a, day_b), min(day_a, day_b), alpha)
    for power in (0.5, 0.8, 0.9):
        rows.append(_row("sequence", power, float(np.quantile(decided, power, method="higher")), day_a, day_b))
    return ExperimentPlan(
        before=before, after=after, per_day=per_day, share=share, deviation_a=deviations[0], deviation_b=deviations[1],
        alpha=alpha, rows=rows,
    )  # fmt: skip


def days_of_sequence(drift: float, size: float, fewest: float, alpha: float = ALPHA) -> np.ndarray:
    """The day on which the sequence leaves out zero, of RUNS experiments, (RUNS,); infinite after LONGEST.

    `drift`: the difference in standard errors of one day. `size` and `fewest` are a day's effective size and its smaller variant.
    """
    days = np.arange(1, LONGEST + 1)
    first = min(max(math.ceil(FEWEST / fewest), 1), LONGEST)
    tuned = first * max(TUNED / first, 1)
    limits = np.array([boundary(day / tuned, alpha) if day >= first else np.inf for day in days])
    rng = np.random.default_rng(1)
    steps = rng.normal(drift, 1, (RUNS, LONGEST)).cumsum(axis=1)
    crossed = np.abs(steps) / np.sqrt(days) > limits
    return np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1.0, np.inf)


def _row(method: Literal["fixed", "sequence"], found: float, days: float, day_a: float, day_b: float) -> Planned:
    known = days <= LONGEST
    return Planned(
        method=method,
        found=found,
        days=int(days) if known else None,
        subjects_a=math.ceil(days * day_a) if known else None,
        subjects_b=math.ceil(days * day_b) if known else None,
    )


def _check(before: float, after: float, per_day: float, share: float, deviation: float | None) -> None:
    if not all(math.isfinite(value) for value in (before, after, per_day, share, deviation or 1.0)):
        raise ValueError("all values must be finite numbers")
    if max(abs(before), abs(after), deviation or 0) > LARGEST:
        raise ValueError(f"means and standard deviations are at most {LARGEST:g}: give them in another unit")
    if before == after:
        raise ValueError(f"both means are {before:g}: there is no difference to find")
    if deviation is None and not (0 < before < 1 and 0 < after < 1):
        raise ValueError(
            f"the means are {before:g} and {after:g}; shares are between 0 and 1, and other means need a standard deviation"
        )
    if deviation is not None and deviation < 1 / LARGEST:
        raise ValueError(f"the standard deviation is {deviation:g}; it must be above 0 (at least {1 / LARGEST:g})")
    if not 2 <= per_day <= 1e12:
        raise ValueError(f"{per_day:g} subjects a day; allowed are 2 to 1e12")
    if not 0 < share < 1:
        raise ValueError(f"the share is {share:g}; it must be above 0 and below 1, so that both models have subjects")
