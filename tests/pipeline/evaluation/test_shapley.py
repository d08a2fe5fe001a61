"""Shapley values of a served model: exact where they are known, bounded, and the same again."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.evaluation.importance import permutation, shapley
from pipeline.settings import Settings


def dataset(task: str = "regression", rows: int = 60):
    """Two numbers and a text; of the numbers the second is sometimes empty."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "id": range(rows),
            "a": rng.normal(size=rows),
            "b": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "colour": rng.choice(["red", "blue", ""], rows),
        }
    )
    names = {"regression": rng.normal(size=rows), "binary": np.arange(rows) % 2, "multiclass": np.arange(rows) % 3}
    given = {"task": task, "id": "id", "target": "y"} | ({"positive": "1"} if task == "binary" else {})
    settings = Settings.model_validate(
        {
            "name": "x",
            "data": given,
            "split": {"holdout": 0.4, "salt": "s"},
            "train": {"seed": 1},
            "gate": {"metric": "rmse", "margin": 0},
        }
    )
    return take_apart(frame.assign(y=names[task]), settings)


def score(frame: pd.DataFrame) -> np.ndarray:
    """A model that adds up one term for each column."""
    return 2 * frame["a"].to_numpy() + frame["b"].fillna(5.0).to_numpy() + 3.0 * (frame["colour"] == "red").to_numpy()


def linear(frames):
    """Its answers, as `choose.ask` gives them."""
    return [score(frame) for frame in frames]


def exact(data, found) -> np.ndarray:
    """The Shapley values of a sum: a column's term minus its mean over the background rows."""
    training = np.flatnonzero(~data.holdout)
    background = data.features.iloc[training[np.linspace(0, len(training) - 1, found.background).astype(int)]]

    def terms(frame):
        zero = frame.assign(a=0.0, b=0.0, colour="")
        return np.stack([score(zero.assign(**{name: frame[name]})) for name in frame], axis=1)

    return terms(found.rows) - terms(background).mean(axis=0)


def test_contributions_of_a_sum_are_exact():
    """A column's contribution is its term minus the term's mean over the background, for numbers, empty cells and texts."""
    data = dataset()
    found = shapley.contributions(linear, data, 1)
    assert len(found.rows) == min(100, data.holdout.sum())
    np.testing.assert_allclose(found.values[:, :, 0], exact(data, found), atol=1e-12)


def test_contributions_add_up_to_the_answer():
    """Also where columns interact, a row's contributions are its answer minus the mean answer to the background."""
    data = dataset()

    def ask(frames):
        return [(frame["colour"] == "red").to_numpy() * np.exp(frame["a"].to_numpy()) for frame in frames]

    found = shapley.contributions(ask, data, 1)
    training = np.flatnonzero(~data.holdout)
    background = data.features.iloc[training[np.linspace(0, len(training) - 1, found.background).astype(int)]]
    expected = ask([found.rows])[0] - ask([background])[0].mean()
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), expected, atol=1e-12)


def test_a_binary_model_is_explained_by_its_positive_class():
    """The contributions are to the probability of the positive class, wherever it stands."""
    data = dataset("binary")

    def ask(frames):
        return [np.stack([-score(frame), score(frame)], axis=1) for frame in frames]

    found = shapley.contributions(ask, data, 1)
    np.testing.assert_allclose(found.values[:, :, 0], exact(data, found), atol=1e-12)
    said = shapley.summary(found)
    assert (
        said.of == "1" and not said.classes and list(said.columns) == sorted(said.columns, key=said.columns.get)[::-1]
    )


def test_each_class_of_several_has_its_own():
    """Several classes are explained one by one, and summed for the ranking."""

    def ask(frames):
        return [np.stack([frame["a"], -frame["a"], 0 * frame["a"]], axis=1) for frame in frames]

    said = shapley.summary(shapley.contributions(ask, dataset("multiclass"), 1))
    assert said.of == "" and list(said.classes) == ["0", "1", "2"]
    assert said.classes["0"]["a"] == said.classes["1"]["a"] == pytest.approx(said.columns["a"] / 2)
    assert said.classes["2"]["a"] == said.columns["b"] == 0


def test_the_same_seed_gives_the_same_contributions_and_leaves_random_numbers_alone():
    """Nothing depends on the global state of NumPy, and it is not changed."""
    data = dataset()
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = shapley.contributions(linear, data, 3).values
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(6)
    assert (shapley.contributions(linear, data, 3).values == first).all()


def test_mixtures_without_an_answer_do_no_harm():
    """The model may refuse a mixture of two rows: the others tell. Where it answers none, nothing is explained."""
    data = dataset()

    def ask(frames):
        return [np.where(frame["a"] > 1.5, np.nan, score(frame)) for frame in frames]

    found = shapley.contributions(ask, data, 1)
    assert len(found.rows) == data.holdout.sum() and np.isfinite(found.values).all()
    none = shapley.contributions(lambda frames: [np.full(len(frame), np.nan) for frame in frames], data, 1)
    assert not len(none.rows) and shapley.summary(none).columns == {"a": 0, "b": 0, "colour": 0}


@pytest.mark.parametrize(
    ("held", "columns", "expected"),
    [(142, 30, (100, 16)), (20, 3, (20, 16)), (9000, 300, (10, 16)), (9000, 5000, (10, 1))],
)
def test_the_rows_to_predict_are_bounded(held, columns, expected):
    """First fewer rows are explained, then beside fewer others; ten rows beside one remain."""
    assert shapley.counts(held, columns) == expected
    assert expected[0] * expected[1] * (2 * columns + 1) <= max(permutation.PREDICTED, 10 * (2 * columns + 1))
