"""Welch's t-test of two means, from their summaries: the answer for one look, at a time that was chosen before the experiment.

Source: B. L. Welch, The generalization of "Student's" problem when several different population variances are involved,
Biometrika 34 (1947).
"""

import math

from msgspec import Struct
from scipy import special

ALPHA = 0.05
ROUNDING = 1e-10  # a standard deviation below this part of the mean is rounding: the same number in all rows


class Summary(Struct, frozen=True):
    """A sample: how many, their mean, and the sum of the squared deviations from it."""

    count: int
    mean: float
    squares: float

    @property
    def variance(self) -> float:
        """Of the population, estimated; at least two values."""
        return self.squares / (self.count - 1)


class Welch(Struct, frozen=True, kw_only=True):
    """Counts, means and standard deviations of A and B, and the test of B - A, two-sided; `low` and `high` with 1 - alpha."""

    count_a: int
    count_b: int
    mean_a: float
    mean_b: float
    deviation_a: float
    deviation_b: float
    difference: float
    t: float
    df: float
    p_value: float
    low: float
    high: float


def summary(values) -> Summary:
    """Of numbers (n,), n at least 1."""
    mean = float(values.mean())
    return Summary(len(values), mean, float(((values - mean) ** 2).sum()))


def vary(*samples: Summary) -> bool:
    """Whether values of a sample differ, by more than the rounding of their mean."""
    return any(one.squares > one.count * (ROUNDING * one.mean) ** 2 for one in samples)


def welch(a: Summary, b: Summary, alpha: float = ALPHA) -> Welch | None:
    """The test of two samples; None with fewer than two values in one of them, or where no value differs from its mean."""
    if min(a.count, b.count) < 2 or not vary(a, b):
        return None
    part_a, part_b = a.variance / a.count, b.variance / b.count
    variance = part_a + part_b
    # As shares of the variance, so that squares of enormous or tiny values stay within what a float can hold.
    df = 1 / ((part_a / variance) ** 2 / (a.count - 1) + (part_b / variance) ** 2 / (b.count - 1))
    difference, error = b.mean - a.mean, math.sqrt(variance)
    t = difference / error
    reach = -float(special.stdtrit(df, alpha / 2)) * error
    return Welch(
        count_a=a.count,
        count_b=b.count,
        mean_a=a.mean,
        mean_b=b.mean,
        deviation_a=math.sqrt(a.variance),
        deviation_b=math.sqrt(b.variance),
        difference=difference,
        t=t,
        df=df,
        p_value=2 * float(special.stdtr(df, -abs(t))),
        low=difference - reach,
        high=difference + reach,
    )
