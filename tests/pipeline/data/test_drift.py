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
    reference = drift.reference(then, every, np.full((len(before), 2), 0.5))
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
