"""A confidence sequence for the difference of two means: an interval for every look, that covers the truth on all of them at once.

With 1 - alpha the true difference is inside on every day, so you may look each day and stop on the first one whose interval leaves out
zero. The price is an interval that is wider than that of a test for one look.

Asymptotic, with a normal mixture: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, Time-uniform central limit theory and
asymptotic confidence sequences, Annals of Statistics 52 (2024), theorem 2.2; the mixture and how it is tuned: S. Howard, A. Ramdas,
J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of Statistics 49 (2021), section 3.2
and proposition 3.
"""

import math

from msgspec import Struct
from scipy import special

from pipeline.experiments.welch import ALPHA, Summary, vary

FEWEST = 100  # subjects of either variant from which on there is an interval: before, a mean is not near normal


class Interval(Struct, frozen=True):
    """The difference of means, B - A, and what the sequence says of the true one."""

    difference: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether zero is outside."""
        return self.low > 0 or self.high < 0


def narrowest(alpha: float = ALPHA) -> float:
    """The ratio of the mixture's variance to the error's at which a sequence is narrowest, 8.2 for 0.05.

    It minimises (1 + x) / x * (log(1 + x) - 2 log alpha), where x = log(1 + x) - 2 log alpha.
    """
    return -float(special.lambertw(-(alpha**2) / math.e, -1).real) - 1


def boundary(progress: float, alpha: float = ALPHA) -> float:
    """How many standard errors an interval reaches to both sides; `progress` is 1 where the sequence is narrowest for its standard error."""
    x = narrowest(alpha) * progress
    return math.sqrt((1 + x) / x * (math.log1p(x) - 2 * math.log(alpha)))


def effective(a: float, b: float) -> float:
    """The size of two samples as one number, to which the certainty of a difference is proportional."""
    return a * b / (a + b)


def interval(a: Summary, b: Summary, planned: float, alpha: float = ALPHA) -> Interval | None:
    """What is known of the difference now; None with fewer than FEWEST subjects on a side, or where all values are the same.

    `planned` is the effective size at which the sequence shall be narrowest. It must not depend on the outcomes, and not change from look
    to look. Variances may differ: the standard error is Welch's, and never smaller than that of the pooled variance. A small sample of
    skewed values with a low mean has, by the same accident, a low variance; the larger sample tells.
    """
    if min(a.count, b.count) < FEWEST or not vary(a, b):
        return None
    pooled = (a.squares + b.squares) / (a.count + b.count - 2) * (1 / a.count + 1 / b.count)
    error = math.sqrt(max(a.variance / a.count + b.variance / b.count, pooled))
    return around(b.mean - a.mean, error, effective(a.count, b.count) / planned, alpha)


def paired_interval(differences: Summary, planned: float, alpha: float = ALPHA) -> Interval | None:
    """The same from one difference for each subject; `planned` is a number of subjects."""
    if differences.count < FEWEST or not vary(differences):
        return None
    error = math.sqrt(differences.variance / differences.count)
    return around(differences.mean, error, differences.count / planned, alpha)


def around(difference: float, error: float, progress: float, alpha: float = ALPHA) -> Interval:
    """An interval from a standard error and how far the sequence has come; both may be those of a plan."""
    reach = boundary(progress, alpha) * error
    return Interval(difference, difference - reach, difference + reach)
