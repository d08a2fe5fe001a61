"""Distances on counts are those of the rows, as near as bins allow, and never NaN."""

import math

import numpy as np
import pytest
from scipy import stats
from watched_columns import counts, numbers

from pipeline.monitor import distances


@pytest.fixture(scope="module")
def samples():
    """Values of training and of now, which are half a standard deviation larger."""
    rng = np.random.default_rng(0)
    return rng.normal(size=5000), rng.normal(0.5, 1, 2000)


def found(before, now):
    """The distances of two samples."""
    *bins, missing = counts(numbers(before)["edges"], now).tolist()
    return distances.distances(numbers(before), len(before), bins, missing)


def test_ks_at_the_edges_is_a_lower_bound(samples):
    """It is at most the exact statistic, and near it where the edges are percentiles."""
    exact = distances.exact_ks(*samples)
    assert exact == pytest.approx(tuple(stats.ks_2samp(*samples)))
    assert exact[0] - 0.01 < found(*samples).ks <= exact[0]


def test_the_p_value_of_ks_is_uniform_where_nothing_moved():
    """Of undrifted samples one in twenty has a p-value below 0.05, or fewer."""
    rng = np.random.default_rng(1)
    values = [found(*rng.normal(size=(2, 300))).p_value for _ in range(300)]
    assert np.mean(np.array(values) < 0.05) <= 0.07 and np.mean(values) == pytest.approx(0.5, abs=0.1)


def test_wasserstein_is_in_the_units_of_the_column(samples):
    """Ten times the values are ten times the distance, and it is that of the rows."""
    before, now = samples
    exact = stats.wasserstein_distance(before, now)
    assert found(before, now).wasserstein == pytest.approx(exact, rel=0.05)
    assert found(10 * before, 10 * now).wasserstein == pytest.approx(10 * exact, rel=0.05)


def test_wasserstein_of_whole_numbers_and_truth_values_is_exact():
    """Where edges are the values themselves, nothing is spread between them."""
    rng = np.random.default_rng(3)
    for before, now in (
        (rng.random(5000) < 0.3, rng.random(2000) < 0.6),
        (rng.integers(1, 8, 5000), rng.integers(2, 8, 2000)),
    ):
        exact = stats.wasserstein_distance(before, now)
        assert found(before.astype(float), now.astype(float)).wasserstein == pytest.approx(exact, abs=1e-3)


def test_wasserstein_counts_both_directions():
    """Where values spread to both sides, what moved down does not cancel what moved up."""
    rng = np.random.default_rng(2)
    before, now = rng.uniform(-1, 1, 5000), rng.uniform(-0.5, 0.5, 5000)
    assert found(before, now).wasserstein == pytest.approx(stats.wasserstein_distance(before, now), rel=0.05)


def test_chi_squared_of_texts_is_that_of_the_table():
    """With enough rows in each it is Pearson's statistic; rare ones count together."""
    column = {"shares": {"a": 0.5, "b": 0.3}, "missing": 0.0}
    one = distances.distances(column, 1000, [400, 400, 200])
    expected = stats.chi2_contingency([[500, 300, 200], [400, 400, 200]], correction=False)
    assert (one.chi2, one.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert one.ks is None and one.wasserstein is None
    assert distances.chi2([994, 3, 3], [990, 5, 5])[1] == pytest.approx(
        stats.chi2_contingency([[994, 6], [990, 10]], correction=False).pvalue
    )


def test_empty_cells_are_a_bin_of_the_index():
    """A column that lost a third of its cells has moved, by the stability index alone."""
    values = np.arange(3000.0)
    one = found(values, np.where(np.arange(3000) % 3 == 0, np.nan, values))
    assert one.psi > 0.25 and one.ks < 0.02


@pytest.mark.parametrize(
    ("before", "now"),
    [(np.full(9, np.nan), np.arange(9.0)), (np.arange(9.0), np.full(9, np.nan)), (np.arange(9.0), np.empty(0))],
)
def test_an_empty_side_has_no_distance(before, now):
    """Without values then, or now, every figure is None, not NaN."""
    assert found(before, now) == distances.Distances()
    assert distances.exact_ks(before, now) is None


def test_a_column_of_one_value_has_finite_distances():
    """Nothing divides by zero where all values are the same, then or now."""
    for now in (np.full(50, 5.0), np.full(50, 4.0), np.full(50, 6.0)):
        assert all(math.isfinite(value) for value in found(np.full(50, 5.0), now))


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg():
    """Columns without a p-value do not count among the tests."""
    assert distances.benjamini_hochberg([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.04, 0.04])
    assert distances.benjamini_hochberg([None]) == [None]
