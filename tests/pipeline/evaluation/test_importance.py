"""The cost of feature importance, and what it tells."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from pipeline.evaluation.importance import permutation


@pytest.mark.parametrize(
    ("held", "columns", "rows", "shuffles"),
    [
        (142, 30, 142, 5),
        (2000, 10, 2000, 5),
        (50_000, 10, 2000, 5),
        (50_000, 16, 2000, 3),
        (50_000, 30, 1666, 2),
        (50_000, 300, 166, 2),
        (60, 5000, 60, 2),
        (50_000, 5000, 100, 2),
    ],
)
def test_importance_predicts_a_bounded_number_of_rows(held, columns, rows, shuffles):
    """First fewer shuffles, then fewer rows; at least two shuffles of 100 rows remain."""
    assert permutation.shuffled(held, columns) == (rows, shuffles)
    assert rows * columns * shuffles <= max(permutation.PREDICTED, 200 * columns)


class Counting(LinearRegression):
    """Counts the rows that it predicts."""

    predicted = 0

    def predict(self, X):
        type(self).predicted += len(X)
        return super().predict(X)


class Table:
    """A minimal data set for feature importance: a regression in which only the first column matters."""

    features = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=["a", "b", "c"])
    y = features["a"].to_numpy()
    holdout = np.arange(500) % 2 == 0
    kinds = dict.fromkeys(features, "number")
    classes: tuple[str, ...] = ()
    weights = None


def test_importance_is_bounded_and_reproducible():
    """One prediction of the rows, one more for each column and shuffle; the same seed gives the same numbers."""
    model = Counting().fit(Table.features, Table.y)

    def ask(frames):
        return [model.predict(frame) for frame in frames]

    found = permutation.feature_importance(ask, Table, 42, rows=100, shuffles=2)
    assert Counting.predicted == 100 + 100 * 3 * 2
    assert next(iter(found)) == "a" and found == permutation.feature_importance(ask, Table, 42, rows=100, shuffles=2)


def test_importance_of_a_wide_table_is_asked_in_parts(monkeypatch):
    """However many cells there are, no more than a bound of them are asked at once, and the figures are the same."""
    model, sizes = LinearRegression().fit(Table.features, Table.y), []

    def ask(frames):
        sizes.append(sum(frame.size for frame in frames))
        return [model.predict(frame) for frame in frames]

    whole = permutation.feature_importance(ask, Table, 42, rows=100, shuffles=2)
    monkeypatch.setattr(permutation, "CELLS", 700)
    assert permutation.feature_importance(ask, Table, 42, rows=100, shuffles=2) == whole
    assert len(sizes) == 5 and max(sizes[1:]) <= 700


def test_rows_that_the_model_does_not_answer_are_left_out():
    """A shuffle may make a mixture that the model refuses: the other rows tell."""

    def ask(frames):
        return [np.where(frame["b"] > 0, frame["a"], np.nan) for frame in frames]

    assert next(iter(permutation.feature_importance(ask, Table, 42, rows=100, shuffles=2))) == "a"
