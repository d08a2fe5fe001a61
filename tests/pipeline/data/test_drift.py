"""How far data has moved, as numbers that can be checked by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.data import drift
from pipeline.data.dataset import take_apart
from pipeline.settings import load_settings


@pytest.fixture(scope="module")
def settings():
    """The settings of the example."""
    return load_settings("tests/example/pipeline.toml")


def dataset(settings, **columns):
    """Rows with these columns, as the stages see them."""
    count = len(next(iter(columns.values())))
    target = ["malignant", "benign"] * (count // 2 + 1)
    frame = pd.DataFrame({"id": range(count), "diagnosis": target[:count], **columns})
    return take_apart(frame, settings)


def moved(settings, before, now, **kept):
    """The comparison of one column `x`, and of what else is kept."""
    then, there = dataset(settings, x=before, **kept), dataset(settings, x=now, **kept)
    every = np.ones(len(before), dtype=bool)
    reference = drift.reference(then, every, np.full((then.holdout.sum(), 2), 0.5), {})
    return {one["column"]: one for one in drift.compare(reference, there, np.ones(len(now), dtype=bool))}


def test_the_index_is_the_published_formula():
    """Of (0.5, 0.5) and (0.4, 0.6) it is 0.1 ln 1.2 + 0.1 ln 1.25."""
    assert drift.psi([0.5, 0.5], [0.4, 0.6], 1e-6) == pytest.approx(0.1 * math.log(1.2) + 0.1 * math.log(1.25))


def test_an_empty_bin_counts_as_the_least_share():
    """A bin that nobody is in any more makes the index large, not infinite."""
    assert drift.psi([0.5, 0.5], [0.0, 1.0], 0.01) == pytest.approx(0.49 * math.log(50) + 0.5 * math.log(2))


def test_the_same_data_has_not_moved(settings):
    """Numbers, text and empty cells that are the same give zero."""
    numbers = [*np.random.default_rng(0).normal(size=99), np.nan]
    found = moved(settings, numbers, numbers, words=["a", "b", None, "c"] * 25)
    assert [one["psi"] for one in found.values()] == [0, 0]
    assert found["words"]["missing"] == {"before": 0.25, "now": 0.25}


def test_a_shifted_column_has_moved_far_and_comes_first(settings):
    """A column that moved by a standard deviation is above the threshold for much; the other stays at zero."""
    numbers = np.random.default_rng(1).normal(size=400)
    found = moved(settings, numbers, numbers + 1, still=numbers)
    assert list(found) == ["x", "still"]
    assert found["x"]["psi"] > drift.LARGE and found["still"]["psi"] == 0


def test_cells_that_became_empty_are_drift(settings):
    """Where a third of a column is missing, the column has moved, though what is left has not."""
    numbers = np.random.default_rng(2).normal(size=300)
    holed = np.where(np.arange(300) % 3 == 0, np.nan, numbers)
    found = moved(settings, numbers, holed)["x"]
    assert found["psi"] > drift.LARGE and found["missing"]["now"] == pytest.approx(1 / 3)


def test_a_new_word_is_drift(settings):
    """A value of text that was not there before counts among the others, and shows."""
    assert moved(settings, ["a", "b"] * 50, ["a", "new"] * 50)["x"]["psi"] > drift.LARGE


def test_a_column_that_was_empty_can_be_compared(settings):
    """A column without any value then, and with values now, has moved far, and nothing divides by zero."""
    empty = np.full(40, np.nan)
    assert moved(settings, empty, np.arange(40.0))["x"]["psi"] > drift.LARGE
    assert moved(settings, np.arange(40.0), empty)["x"]["psi"] > drift.LARGE


def test_a_column_of_another_kind_is_not_compared(settings):
    """Numbers that became text, and columns that are gone, have no index."""
    assert moved(settings, np.arange(40.0), ["a", "b"] * 20) == {}


def test_an_older_reference_of_deciles_is_read_as_before(settings):
    """A bundle that has deciles, and nothing but rows, features and prediction, gives its index bin by bin."""
    before, now = np.random.default_rng(3).normal(size=(2, 500))
    edges = np.quantile(before, np.linspace(0.1, 0.9, 9))
    old = {
        "rows": 500,
        "features": {"x": {"edges": edges.tolist(), "shares": [0.1] * 10, "missing": 0.0}},
        "prediction": {},
    }
    (found,) = drift.compare(old, dataset(settings, x=now), np.ones(500, dtype=bool))
    actual = np.bincount(np.searchsorted(edges, now, side="right"), minlength=10) / 500
    assert found["psi"] == pytest.approx(drift.psi([0.1] * 10, actual, 0.001), abs=1e-6)


def test_the_index_of_percentiles_is_that_of_their_deciles(settings):
    """A hundred bins are ten for the index, or its value would grow with their number."""
    before, now = np.random.default_rng(4).normal(size=(2, 1000))
    edges = np.quantile(before, np.linspace(0.1, 0.9, 9))
    actual = np.bincount(np.searchsorted(edges, now, side="right"), minlength=10) / 1000
    expected = drift.psi([0.1] * 10, actual, 0.0005)
    assert moved(settings, before, now)["x"]["psi"] == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("bins", [1, 2, 10, 11, 37, 100])
def test_no_index_has_more_than_ten_groups(bins):
    """Neighbours go together, none is left out, and ten bins or fewer stay as they are."""
    shares = np.random.default_rng(bins).dirichlet(np.ones(bins))
    groups = drift.grouped(shares)
    assert groups[0] == 0 and set(np.diff(groups)) <= {0, 1}
    assert groups[-1] == bins - 1 if bins <= 10 else groups[-1] <= 9


def test_what_is_nearly_always_the_same_has_a_bin_for_the_rest():
    """Five amounts in 1,000 that are not zero stand in no percentile, and yet are told apart from the zeros."""
    values = np.concatenate([np.zeros(995), [3.0, 8.0, 9.0, 9.0, 20.0]])
    found = drift.number_reference(values)
    assert (found["edges"], found["shares"]) == ([0.0, 3.0], [0.0, 0.995, 0.005])


def test_truth_values_have_two_bins():
    """False and true, also where training had one of them alone."""
    column = drift.column_reference(pd.Series(np.zeros(50)), "boolean")
    assert (column["edges"], column["shares"]) == ([1.0], [1.0, 0.0])
