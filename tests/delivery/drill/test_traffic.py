"""The callers of a drill: rows of the data, changed as asked."""

import numpy as np
import pytest

from delivery.drill.traffic import Change, changed, column_and_number, known, least_related
from pipeline.artifacts import ROOT
from pipeline.data.dataset import load_dataset
from pipeline.errors import SettingsError
from pipeline.settings import load_settings

pytestmark = pytest.mark.quick
ROWS = np.arange(200)


@pytest.fixture(scope="module")
def dataset():
    """The example's data."""
    return load_dataset(load_settings(ROOT / "pipeline.toml"))


def rows(dataset, change: Change):
    """The rows in a world with that change."""
    return changed(dataset, ROWS, change, np.random.default_rng(0))


def test_without_a_change_rows_are_those_of_the_data(dataset):
    """Features and outcomes are the data's own."""
    features, outcomes = rows(dataset, Change())
    assert features.equals(dataset.features.iloc[ROWS].reset_index(drop=True))
    assert outcomes == dataset.target[ROWS].tolist()


def test_a_column_is_moved_by_standard_deviations(dataset):
    """The others stay where they are."""
    before, _ = rows(dataset, Change())
    after, _ = rows(dataset, Change(shift={"mean_radius": 0.5}))
    moved = (after - before).mean()
    assert moved["mean_radius"] == pytest.approx(0.5 * dataset.features["mean_radius"].std(ddof=0))
    assert moved.drop("mean_radius").abs().max() == 0


def test_a_share_of_the_cells_is_emptied(dataset):
    """About as many as asked, in that column alone."""
    features, _ = rows(dataset, Change(missing={"mean_area": 0.3}))
    assert (
        0.2 < features["mean_area"].isna().mean() < 0.4
        and features.isna().sum().sum() == features["mean_area"].isna().sum()
    )


def test_another_relation_follows_the_column_that_said_least(dataset):
    """The outcome is then a function of that column alone, with every class in it."""
    _, outcomes = rows(dataset, Change(relation=True))
    column = dataset.features[least_related(dataset)].to_numpy()[ROWS]
    upper = column[np.array(outcomes) == dataset.classes[1]]
    lower = column[np.array(outcomes) == dataset.classes[0]]
    assert len(upper) and len(lower) and lower.max() <= upper.min()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change(shift={"mean_radios": 1}), "has no column 'mean_radios'"),
        (Change(missing={"nothing": 1}), "has no column 'nothing'"),
        (Change(missing={"mean_area": 1.5}), "1.5 is no share"),
    ],
)
def test_impossible_change_is_refused(dataset, change, said):
    """A column that is not there, or a share above all."""
    with pytest.raises(SettingsError, match=said):
        known(dataset, change)


def test_column_and_number_are_read_from_one_word():
    """The last sign of equality divides them."""
    assert column_and_number("a=b=0.5") == ("a=b", 0.5)
