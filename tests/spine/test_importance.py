"""The cost of feature importance."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import train


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
    assert train.shuffled(held, columns) == (rows, shuffles)
    assert rows * columns * shuffles <= max(train.PREDICTED, 200 * columns)


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


def test_importance_is_bounded_and_reproducible():
    """One prediction of the rows, one more for each column and shuffle; the same seed gives the same numbers."""
    model = Counting().fit(Table.features, Table.y)
    found = train.feature_importance(model, Table, 42, rows=100, shuffles=2)
    assert Counting.predicted == 100 + 100 * 3 * 2
    assert next(iter(found)) == "a" and found == train.feature_importance(model, Table, 42, rows=100, shuffles=2)
