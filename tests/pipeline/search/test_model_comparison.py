"""Several models beside build(), on the folds of the training side alone."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from pipeline.data.dataset import take_apart
from pipeline.errors import ProjectError
from pipeline.evaluation.wording import Mark
from pipeline.search import builders, fold, model_comparison, models_page
from pipeline.settings import Settings
from tests.pipeline.search import conftest


def project(**names) -> None:
    """Give project/model.py these names."""
    for name, value in names.items():
        setattr(sys.modules["project.model"], name, value)


def test_models_of_the_project_stand_beside_build_best_first(dataset):
    """Each has a score in each fold and its difference to build() fold by fold; build() has none to itself."""
    project(MODELS={"strict": lambda parameters, seed: Ridge(1e6), "free": lambda parameters, seed: Ridge(0.001)})
    found = model_comparison.compare(dataset(folds=4))
    assert [one.name for one in found.models] == ["free", "build()", "strict", "dummy"]
    ours = next(one for one in found.models if one.name == "build()")
    free = found.best()
    assert ours.difference is None and len(free.scores) == 4
    assert free.difference == pytest.approx(np.mean(np.array(free.scores) - np.array(ours.scores)))
    assert free.lower < free.difference < free.upper
    assert free.fit_seconds > 0 and free.row_microseconds > 0


def test_the_interval_is_that_of_nadeau_and_bengio(dataset):
    """Student's t with 1/k + judged/fitted in the place of 1/k."""
    folds = fold.of_training_side(dataset(), 5)
    lower, upper = model_comparison.bounds([1.0, 2.0, 3.0, 4.0, 5.0], folds)
    share = np.mean([len(judge) / len(fit) for fit, judge in folds.places])
    assert (upper - lower) / 2 == pytest.approx(2.7764451 * np.sqrt((0.2 + share) * 2.5), rel=1e-6)
    assert (upper + lower) / 2 == pytest.approx(3)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_without_models_simple_ones_for_any_table_are_tried(dataset, task):
    """Numbers with empty cells, booleans and texts, whatever the task."""
    frame = conftest.frame(90)
    frame["b"] = frame["b"].where(frame["b"] < 1)
    frame["flag"], frame["colour"] = frame["a"] > 0, np.where(frame["c"] > 0, "red", "")
    frame["target"] = frame["target"] if task == "regression" else pd.qcut(frame["target"], 2 if task == "binary" else 3, labels=False)  # fmt: skip
    given = conftest.settings().model_dump(exclude={"search"})
    given["data"] |= {"task": task} | ({"positive": "1"} if task == "binary" else {})
    given["gate"]["metric"] = "rmse" if task == "regression" else "log_loss"
    given["search"] = {"folds": 2}
    project(build=lambda parameters, seed: builders.beside(data)["linear"](parameters, seed))
    data = take_apart(frame, Settings.model_validate(given))
    found = model_comparison.compare(data)
    assert {one.name for one in found.models} == {"build()", "dummy", *builders.SIMPLE}
    assert not [one.reason for one in found.models if one.reason]


def test_no_row_of_the_hold_out_reaches_a_model(dataset):
    """Neither to fit nor to answer."""
    data, seen = dataset(), set()

    class Spy(Ridge):
        def fit(self, X, y):
            seen.update(X["b"])
            return super().fit(X, y)

        def predict(self, X):
            seen.update(X["b"])
            return super().predict(X)

    project(MODELS={"spy": lambda parameters, seed: Spy()})
    model_comparison.compare(data)
    assert seen == set(data.features["b"][~data.holdout])


def test_a_model_that_fails_is_shown_with_its_reason(dataset):
    """The others are compared all the same."""
    project(MODELS={"broken": lambda parameters, seed: Ridge(alpha="x")})
    found = model_comparison.compare(dataset())
    broken = found.models[-1]
    assert broken.name == "broken" and "alpha" in broken.reason and broken.candidate is None
    assert models_page.rows(found)[-1][4] == Mark("✕", "without a score", "worse")
    assert "Without a score" in models_page.html(found)


def test_without_a_score_of_build_there_is_nothing_to_compare_with(dataset):
    """Its reason is told."""
    project(build=lambda parameters, seed: Ridge(alpha="x"), MODELS={"free": lambda parameters, seed: Ridge(0.001)})
    with pytest.raises(ProjectError, match=r"build\(\) has no score to compare with: .*alpha"):
        model_comparison.compare(dataset())


@pytest.mark.parametrize("wrong", [[1], {}, {"a": 1}, {"build()": conftest.build}, {1: conftest.build}])
def test_models_that_are_none_are_refused(dataset, wrong):
    """MODELS is a dictionary of functions under names of their own."""
    project(MODELS=wrong)
    with pytest.raises(ProjectError, match=r"MODELS in project/model\.py") as caught:
        model_comparison.compare(dataset())
    assert 'MODELS = {"forest": forest}' in caught.value.then


def test_the_page_needs_nothing_from_anywhere_and_shows_names_as_they_are(dataset):
    """A name with markup in it is text; the sentence says how sure the result is."""
    project(MODELS={"<b>bold</b>": lambda parameters, seed: Ridge(1.0)})
    page = models_page.html(model_comparison.compare(dataset()))
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page and "data:image/png" in page
    assert "has the best RMSE" in page and "<script" not in page
