"""Shapley values: exact where they can be, honest about their error where not, and they always add up."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from serving.explanation.shapley import explain as values_of
from serving.explanation.shapley import needed

pytestmark = pytest.mark.quick
MOST = 50_000


def explain(ask, row, background, most=MOST):
    """The Shapley values of a function's answer to a row."""
    return values_of(ask, row, float(ask(row[None])[0]), background, ask(background), most)


def by_definition(ask, row, background):
    """The mean over all orders and all background rows of what each feature adds when it is put in."""
    values = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for order in orders:
        points = background.copy()
        for feature in order:
            before = ask(points)
            points[:, feature] = row[feature]
            values[feature] += (ask(points) - before).mean() / len(orders)
    return values


@pytest.fixture(scope="module")
def forest():
    """A forest that multiplies features, and the rows that it learned from."""
    rows = np.random.default_rng(3).normal(size=(300, 12))
    forest = RandomForestRegressor(10, random_state=3).fit(rows, rows[:, 0] * rows[:, 1] + np.abs(rows[:, 2]))
    return forest.predict, rows


@pytest.mark.parametrize("features", [1, 2, 5, 9, 30, 200])
def test_of_a_linear_model_are_weight_times_distance(features):
    """However many features there are, each adds its weight times its distance from the background's mean."""
    rng = np.random.default_rng(features)
    weights, row, background = rng.normal(size=features), rng.normal(size=features), rng.normal(size=(50, features))
    found = explain(lambda rows: rows @ weights + 3, row, background)
    assert found.values == pytest.approx(weights * (row - background.mean(axis=0)), abs=1e-9)
    assert found.rows == 50 and found.evaluations <= MOST
    assert found.exact == (features < 10) and found.error < 1e-9


def test_few_features_are_as_the_definition_says(forest):
    """With all coalitions asked, the values of a forest and of a logistic regression are those of all orders."""
    ask, rows = forest
    few = rows[:40, :5]
    logistic = LogisticRegression().fit(few, few[:, 0] + few[:, 1] ** 2 > 1)
    wide = np.zeros((1, 7))
    for model in (
        lambda given: ask(np.hstack([given, np.repeat(wide, len(given), axis=0)])),
        lambda given: logistic.predict_proba(given)[:, 1],
    ):
        found = explain(model, few[0], few[20:])
        assert found.exact and found.error == 0
        assert found.values == pytest.approx(by_definition(model, few[0], few[20:]), abs=1e-12)


def test_of_trees_are_those_of_the_tree_explainer(forest):
    """The library's exact algorithm for trees, with the same background rows, finds the same values."""
    shap = pytest.importorskip("shap")
    _, rows = forest
    few = rows[:, :6]
    trees = RandomForestRegressor(5, random_state=3).fit(few, few[:, 0] * few[:, 1] + np.abs(few[:, 2]))
    tree_explainer = shap.TreeExplainer(trees, few[:50], feature_perturbation="interventional")
    expected = tree_explainer.shap_values(few[60:61], check_additivity=False)[0]
    assert explain(trees.predict, few[60], few[:50]).values == pytest.approx(expected, abs=1e-6)


def test_many_features_are_within_the_error_that_is_told(forest):
    """Random orders come as near to the exact values as their standard error promises."""
    ask, rows = forest
    exact = explain(ask, rows[0], rows[50:100], most=2**12 * 50)
    some = explain(ask, rows[0], rows[50:100], most=6_000)
    assert exact.exact and not some.exact
    assert 0 < np.abs(some.values - exact.values).max() < 4 * some.error
    assert some.evaluations <= 6_000 and some.rows == 50


def test_more_evaluations_make_the_error_smaller(forest):
    """With sixteen times the orders it is about a quarter."""
    ask, rows = forest
    few, many = (explain(ask, rows[0], rows[50:70], most).error for most in (2_000, 32_000))
    assert few / 6 < many < few / 2.5


def test_they_add_up(forest):
    """Base and values add up to the answer, exact or not, with all background rows or some."""
    ask, rows = forest
    for most in (needed(12), 3_000, MOST, 2**12 * 50):
        found = explain(ask, rows[1], rows[50:100], most)
        assert found.base + found.values.sum() == pytest.approx(ask(rows[1:2])[0], abs=1e-9)
        assert found.evaluations <= most


def test_fewer_evaluations_than_rows_need_leave_rows_out():
    """At the least, ten background rows are used, evenly spread, and the base is their mean."""
    background = np.arange(50.0)[:, None] * np.ones(40)
    found = explain(lambda rows: rows.sum(axis=1), np.full(40, -1.0), background, needed(40))
    assert found.rows == 10 and found.base == pytest.approx(40 * np.linspace(0, 49, 10).astype(int).mean())
    assert found.evaluations == needed(40)


def test_the_same_in_both_rows_adds_nothing():
    """A feature with the background's value is none of the players, so that few evaluations suffice; NaN is NaN, a text a text."""
    background = np.array([["red", np.nan, 1.0, float(number)] for number in range(5)], dtype=object)
    row = np.array(["blue", np.nan, 1.0, 0.0], dtype=object)
    found = explain(lambda rows: np.array([(one[0] == "blue") + one[3] for one in rows], float), row, background)
    assert found.values.tolist() == [1.0, 0.0, 0.0, -2.0]
    assert found.exact and found.evaluations == 4 * 2


def test_a_row_of_the_background_alone_is_its_own_explanation():
    """With nothing that differs, nothing is asked and nothing is added."""
    background = np.ones((1, 3))
    found = explain(lambda rows: rows.sum(axis=1), background[0], background)
    assert found.values.tolist() == [0, 0, 0] and found.base == 3 and found.evaluations == 0


def test_asked_again_they_are_the_same(forest):
    """The orders are drawn with a fixed seed."""
    ask, rows = forest
    assert explain(ask, rows[0], rows[50:60], 2_000).values.tolist() == explain(ask, rows[0], rows[50:60], 2_000).values.tolist()  # fmt: skip
