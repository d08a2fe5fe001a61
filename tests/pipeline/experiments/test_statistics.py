"""The statistics of an experiment: each figure is that of scipy or of a closed form, and the sequence covers the truth on all days."""

import math

import numpy as np
import pytest
from scipy import stats

from pipeline.experiments.confidence_sequence import (
    around,
    boundary,
    effective,
    interval,
    narrowest,
    paired_interval,
)
from pipeline.experiments.plan import planned
from pipeline.experiments.sample_ratio import sample_ratio
from pipeline.experiments.welch import Summary, summary, welch

ALPHA = 0.05


def test_welch_is_that_of_scipy():
    """t, degrees of freedom, p and interval, of samples that differ in size and variance."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 40), rng.normal(0.5, 3, 15)
    found = welch(summary(a), summary(b))
    theirs = stats.ttest_ind(b, a, equal_var=False)
    assert (found.t, found.p_value, found.df) == pytest.approx((theirs.statistic, theirs.pvalue, theirs.df))
    assert (found.low, found.high) == pytest.approx(theirs.confidence_interval())
    assert (found.deviation_a, found.deviation_b) == pytest.approx((a.std(ddof=1), b.std(ddof=1)))


@pytest.mark.parametrize(
    "sides", [(Summary(1, 0.0, 0.0), Summary(9, 1.0, 3.0)), (Summary(5, 1.0, 0.0), Summary(5, 1.0, 0.0))]
)
def test_welch_needs_two_values_that_differ(sides):
    """No test, rather than a division by zero."""
    assert welch(*sides) is None


def test_the_same_number_in_all_rows_decides_nothing():
    """The mean of a thousand times 0.1 is not that of 1,500 times, by rounding alone."""
    a, b = (summary(np.full(count, 0.1)) for count in (1000, 1500))
    assert a.mean != b.mean and welch(a, b) is None and interval(a, b, planned=600.0) is None


@pytest.mark.parametrize("unit", [1e-90, 1e15, 1e99])
def test_the_unit_of_the_values_does_not_matter(unit):
    """Nor do squares that are too large or too small for a float's own square."""
    a, b = np.array([1.0, 2.0, 4.0]), np.array([2.0, 5.0, 9.0, 7.0])
    found, theirs = welch(summary(a * unit), summary(b * unit)), stats.ttest_ind(b, a, equal_var=False)
    assert (found.t, found.df, found.p_value) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))


def test_the_sample_ratio_is_that_of_scipy():
    """Pearson's test of goodness of fit, at p < 0.001."""
    found = sample_ratio(5200, 4800, 0.5)
    theirs = stats.chisquare([5200, 4800], [5000, 5000])
    assert (found.chi2, found.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found.mismatch and not sample_ratio(5100, 4900, 0.5).mismatch


@pytest.mark.parametrize(("a", "b", "share"), [(97, 3, 0.01), (400, 0, 0.01), (3, 17, 0.6), (0, 7, 0.05)])
def test_few_subjects_are_judged_by_the_exact_test(a, b, share):
    """Three of a hundred subjects where one is expected are no mismatch, as chi-squared would say of five."""
    found = sample_ratio(a, b, share)
    tails = [stats.binomtest(b, a + b, share, alternative=side).pvalue for side in ("less", "greater")]
    assert found.p_value == pytest.approx(2 * min(tails))
    assert not sample_ratio(95, 5, 0.01).mismatch and stats.chisquare([95, 5], [99, 1]).pvalue < 0.001


def test_a_share_of_all_has_no_sample_ratio():
    """Nor has an experiment without a subject."""
    assert sample_ratio(0, 100, 1.0) is None and sample_ratio(0, 0, 0.5) is None


def test_the_sequence_is_the_mixture_of_howard_and_others():
    """At its boundary the mixture's martingale, (1 + x)^(-1/2) exp(z² x / (2 (1 + x))), is 1 / alpha."""
    for progress in (0.1, 1.0, 7.0):
        x, z = narrowest() * progress, boundary(progress)
        assert math.exp(z * z * x / (2 * (1 + x))) / math.sqrt(1 + x) == pytest.approx(1 / ALPHA)


def test_the_sequence_is_narrowest_where_it_is_tuned():
    """Earlier and later, it reaches more standard errors; the number is the one of the paper's proposition 3."""
    assert boundary(1.0) < min(boundary(0.8), boundary(1.25))
    x = narrowest()
    assert x == pytest.approx(math.log1p(x) - 2 * math.log(ALPHA))


def test_the_standard_error_is_the_larger_of_welchs_and_the_pooled_one():
    """A small sample with little variance is not trusted more than the large one says."""
    a, b = Summary(900, 0.05, 900 * 0.05 * 0.95), Summary(100, 0.0, 0.0)
    found = interval(a, b, planned=90.0)
    pooled = math.sqrt(a.squares / 998 * (1 / 900 + 1 / 100))
    assert found.high - found.difference == pytest.approx(boundary(1.0) * pooled)
    wide = Summary(100, 0.0, 100.0)
    apart = interval(a, wide, planned=90.0)
    error = math.sqrt(a.variance / 900 + wide.variance / 100)
    assert apart.high - apart.difference == pytest.approx(boundary(1.0) * error)


def test_there_is_no_interval_before_a_hundred_subjects_nor_without_variance():
    """Means of few values are not near normal."""
    many, few, same = Summary(100, 0.5, 25.0), Summary(99, 0.5, 25.0), Summary(100, 1.0, 0.0)
    assert interval(many, few, 50.0) is None and interval(same, same, 50.0) is None
    assert paired_interval(few, 100.0) is None and paired_interval(same, 100.0) is None
    assert paired_interval(many, 100.0) == around(0.5, math.sqrt(many.variance / 100), 1.0)


def test_the_sequence_covers_the_truth_on_all_days():
    """In 95 of 100 experiments of 28 days at least, where an interval for one look does so in about 75."""
    rng = np.random.default_rng(3)
    trials, days, a_day = 300, 28, 100
    missed = once = 0
    for _ in range(trials):
        values = rng.random((2, days * a_day)) < 0.1
        sums = values.cumsum(axis=1)[:, a_day - 1 :: a_day]
        looks = []
        for day in range(days):
            n = (day + 1) * a_day
            sides = [Summary(n, k / n, k * (1 - k / n)) for k in sums[:, day].tolist()]
            found = interval(*sides, planned=effective(14 * a_day, 14 * a_day))
            looks.append((found.decided, abs(found.difference) > 1.96 * math.sqrt(sum(s.variance / n for s in sides))))
        missed += any(sequence for sequence, _ in looks)
        once += any(fixed for _, fixed in looks)
    assert missed / trials <= ALPHA and once / trials > 0.2


def test_the_fixed_test_is_planned_by_the_closed_form():
    """Two proportions, 80 % power: the textbook's numbers of subjects, in whole days."""
    rows = planned(0.10, 0.12, per_day=100, share=0.5).rows
    pooled, z = 0.11, stats.norm.isf(0.025)
    n = ((z * math.sqrt(2 * pooled * 0.89) + stats.norm.ppf(0.8) * math.sqrt(0.09 + 0.12 * 0.88)) / 0.02) ** 2
    assert rows[0].days == math.ceil(n / 50) and rows[0].subjects_a == rows[0].days * 50


def test_a_plan_of_a_mean_uses_its_standard_deviation():
    """n = 2 (z + z)² σ² / δ² of each variant."""
    rows = planned(25.0, 26.0, per_day=200, share=0.5, deviation=10.0).rows
    n = 2 * (stats.norm.isf(0.025) + stats.norm.ppf(0.9)) ** 2 * 100
    assert rows[1].days == math.ceil(n / 100)


@pytest.mark.parametrize(
    ("before", "after", "deviation", "said"),
    [
        (0.1, 0.1, None, "no difference to find"),
        (-0.1, 0.1, None, "shares are between 0 and 1"),
        (0.1, 0.2, 0.0, "above 0"),
        (1.0, 2.0, 1e-300, "above 0"),
        (1e200, 2e200, 1e200, "another unit"),
        (math.nan, 0.1, None, "finite"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_words(before, after, deviation, said):
    """No division by zero and no overflow."""
    with pytest.raises(ValueError, match=said):
        planned(before, after, per_day=100, share=0.5, deviation=deviation)


def test_a_difference_that_nobody_can_find_takes_more_than_a_year():
    """However small it is."""
    assert {row.days for row in planned(0.0, 1e-300, per_day=100, share=0.5, deviation=1.0).rows} == {None}


def test_more_power_takes_longer_and_fewer_subjects_too():
    """Days grow with the power, and with a share that is far from a half."""
    days = [row.days for row in planned(0.1, 0.12, per_day=1000, share=0.5).rows]
    assert days == sorted(days[:2]) + sorted(days[2:])
    uneven = planned(0.1, 0.12, per_day=1000, share=0.1).rows
    assert all(one.days > other for one, other in zip(uneven, days, strict=True))
