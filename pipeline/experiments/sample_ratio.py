"""Whether the subjects were divided as the share says. If not, something decides who is counted, and no result can be trusted.

Pearson's chi-squared test of goodness of fit, p < 0.001, before any result is looked at: A. Fabijan et al., Diagnosing Sample Ratio
Mismatch in Online Controlled Experiments, KDD 2019. Where fewer than FEW subjects of a variant are expected, the exact binomial test, with
twice the smaller tail: there chi-squared alarms up to fifteen times as often as it should (W. Cochran, Some Methods for Strengthening the
Common chi-squared Tests, Biometrics 10, 1954).
"""

from msgspec import Struct
from scipy import special

LEVEL = 0.001
FEW = 10


class SampleRatio(Struct, frozen=True, kw_only=True):
    """Subjects of A and B, the share of B that was set and the one that was found, and the test."""

    a: int
    b: int
    expected: float
    found: float
    chi2: float
    p_value: float
    mismatch: bool


def sample_ratio(a: int, b: int, share: float) -> SampleRatio | None:
    """The test of numbers of subjects; None without any, or where `share`, that of B, leaves no subject to A."""
    total = a + b
    if not total or not 0 < share < 1:
        return None
    chi2 = (b - share * total) ** 2 / (share * (1 - share) * total)
    exact = total * min(share, 1 - share) < FEW
    p_value = _binomial(b, total, share) if exact else float(special.chdtrc(1, chi2))
    return SampleRatio(a=a, b=b, expected=share, found=b / total, chi2=chi2, p_value=p_value, mismatch=p_value < LEVEL)


def _binomial(hits: int, total: int, share: float) -> float:
    """The chance of so few hits or of so many, whichever is smaller, twice."""
    fewer, more = special.bdtr(hits, total, share), special.bdtrc(hits - 1, total, share) if hits else 1.0
    return min(1.0, 2 * float(min(fewer, more)))
