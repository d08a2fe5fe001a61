"""The portable model answers like the trained one, or says by how much it does not."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from pipeline.data.dataset import take_apart
from pipeline.errors import PortabilityError
from pipeline.formats import bundle, choose
from pipeline.formats.onnx import forms
from pipeline.formats.parity import Parity
from pipeline.formats.parity import parity as parity_of
from pipeline.settings import Settings


def made(task: str, text: bool = False):
    """A data set of 400 rows whose target follows from its columns."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(400, 4)) * [1, 10, 1000, 0.01], columns=["a b", "a-b", "c", "d"])
    score = frame["a b"] + frame["a-b"] / 10 + rng.normal(size=400)
    if text:
        frame["town"] = rng.choice(["Köln", "Paris", ""], 400)
        score += frame["town"] == "Paris"
    frame["target"] = {
        "binary": np.where(score > 0, "yes", "no"),
        "multiclass": np.select([score < -1, score < 1], ["low", "mid"], "top"),
        "regression": score * 1000,
    }[task]
    frame["id"] = range(400)
    data = {"task": task, "id": "id", "target": "target"} | ({"positive": "yes"} if task == "binary" else {})
    split, gate = {"holdout": 0.3, "salt": "x"}, {"metric": "x", "margin": 0.0}
    return take_apart(
        frame,
        Settings.model_validate({"name": "m", "data": data, "split": split, "train": {"seed": 1}, "gate": gate}),
    )


def fitted(model, dataset):
    """The model, and its answers on the hold-out."""
    model.fit(dataset.features[~dataset.holdout], dataset.y[~dataset.holdout])
    held = dataset.features[dataset.holdout]
    return model, model.predict_proba(held) if dataset.classes else model.predict(held)


def answers(candidate, dataset, rows):
    """What the service answers with a form of the model."""
    form = candidate.form | {"format_reason": ""}
    contract = bundle.contract(dataset, form, {"ranges": {}, "values": {}}, "c0ffee", 1e-5)
    return choose.predict(candidate.files, contract, rows)[0]


def on_holdout(dataset, trained, tolerance=1e-5):
    """A function that tries a form on the hold-out."""
    held = dataset.features[dataset.holdout]
    return lambda candidate: [parity_of(trained, answers(candidate, dataset, held), tolerance)]


def exported_form(model, dataset, trained, tolerance):
    """The form of a fitted model as ONNX that is closest on the hold-out, and how close."""
    return choose.closest(forms.forms(model, dataset), on_holdout(dataset, trained), tolerance)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("binary", make_pipeline(StandardScaler(), LogisticRegression())),
        ("binary", RandomForestClassifier(20, random_state=1)),
        ("multiclass", GradientBoostingClassifier(n_estimators=10, random_state=1)),
        ("regression", make_pipeline(StandardScaler(), LinearRegression())),
        ("regression", RandomForestRegressor(20, random_state=1)),
    ],
)
def test_common_models_answer_alike(task, model):
    """Linear models and trees of every task convert and agree on the whole hold-out."""
    dataset = made(task)
    model, trained = fitted(model, dataset)
    exported, (parity,) = exported_form(model, dataset, trained, 1e-5)
    assert parity.holds(1e-5)
    given = answers(exported, dataset, dataset.features[dataset.holdout])
    assert given.shape == trained.shape
    assert parity_of(trained, given, 1e-5) == parity


def test_text_gets_a_column_each():
    """A model with text is called with one input per column, numbered in contract order."""
    dataset = made("binary", text=True)
    columns = make_column_transformer(
        (StandardScaler(), ["a b", "a-b"]), (OneHotEncoder(handle_unknown="ignore"), ["town"])
    )
    model, trained = fitted(make_pipeline(columns, LogisticRegression()), dataset)
    exported, (parity,) = exported_form(model, dataset, trained, 1e-5)
    assert exported.form["onnx"]["layout"] == "columns"
    assert parity.holds(1e-5)


def test_same_model_gives_the_same_bytes():
    """Converting the same model twice gives the same ONNX bytes."""
    dataset = made("binary")
    model, trained = fitted(make_pipeline(StandardScaler(), LogisticRegression()), dataset)
    twice = [exported_form(model, dataset, trained, 1e-5)[0].files["model.onnx"] for _ in range(2)]
    assert twice[0] == twice[1]


def test_model_without_counterpart_is_refused():
    """A transformer that ONNX does not know is refused with the converter's reason."""
    dataset = made("binary")
    model, trained = fitted(make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()), dataset)
    with pytest.raises(PortabilityError, match="cannot become ONNX"):
        exported_form(model, dataset, trained, 1e-5)


def test_closest_form_is_returned_when_none_is_within_the_tolerance():
    """When no form is within the tolerance, the figure of the best one is reported instead of an error."""
    dataset = made("binary")
    model, trained = fitted(RandomForestClassifier(20, random_state=1), dataset)
    _, (parity,) = exported_form(model, dataset, trained, 1e-30)
    assert 0 < parity.difference < 1e-4 and not parity.holds(1e-30)


def test_parity_counts_labels_and_the_largest_difference():
    """A label that flips is counted even where probabilities hardly differ; above 1, a value's difference is relative."""
    found = parity_of(np.array([[0.51, 0.49], [0.2, 0.8]]), np.array([[0.49, 0.51], [0.2, 0.8]]))
    assert found.labels == 1 and found.difference == pytest.approx(0.02)
    assert parity_of(np.array([1000.0, 0.5]), np.array([1001.0, 0.5])).difference == pytest.approx(0.001)
    edge = parity_of(np.array([[0.5, 0.5]]), np.array([[0.499999, 0.500001]]), 1e-5)
    assert edge.labels == 0, "on the very edge either label is right"


def test_parity_counts_rows_that_only_one_of_the_two_answers():
    """Where only one of the models has a finite answer the two differ; where neither has one, they agree."""
    one, nothing = np.array([[0.5, 0.5]]), np.array([[np.nan, 0.5]])
    unanswered, answered = parity_of(one, nothing), parity_of(nothing, one)
    assert (unanswered.unanswered, answered.answered) == (1, 1)
    assert not unanswered.holds(1.0) and not answered.holds(1.0)
    assert parity_of(nothing, nothing).holds(0.0)


@pytest.mark.parametrize("nothing", [np.empty((0, 2)), np.empty(0)], ids=["probabilities", "values"])
def test_parity_of_no_rows_holds(nothing):
    """Where no row of a trial counts, there is no difference, and no error."""
    assert parity_of(nothing, nothing) == Parity(0.0, 0)


def test_latency_is_a_positive_number_of_milliseconds():
    """The median time of one row is measured, as the service answers it."""
    dataset = made("regression")
    model, trained = fitted(LinearRegression(), dataset)
    exported, _ = exported_form(model, dataset, trained, 1e-5)
    contract = bundle.contract(dataset, exported.form | {"format_reason": ""}, {"ranges": {}, "values": {}}, "", 1e-5)
    assert 0 < choose.predict(exported.files, contract, dataset.features, calls=10)[1] < 10_000
