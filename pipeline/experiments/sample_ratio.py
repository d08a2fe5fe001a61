"""Whether the subjects were divided as the share says. If not, something decides who is counted, and no result can be trusted.

Pearson's chi-squared test of goodness of fit, p < 0.001, before any result is looked at: A. Fabijan et al., Diagnosing Sample Ratio
Mismatch in Online Controlled Experiments, KDD 2019.
"""

from msgspec import Struct
from scipy import special

LEVEL = 0.001


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
    p_value = float(special.chdtrc(1, chi2))
    return SampleRatio(a=a, b=b, expected=share, found=b / total, chi2=chi2, p_value=p_value, mismatch=p_value < LEVEL)
