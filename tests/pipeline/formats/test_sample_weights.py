"""Weights reach whatever learns the target, whichever estimators are around it; where they cannot, it is said before the fit."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.data.dataset import take_apart
from pipeline.errors import ProjectError
from pipeline.formats import family
from pipeline.formats.sample_weights import parameters, unweighted
from pipeline.settings import Settings

LOGISTIC = LogisticRegression(C=1e6)
PIPELINE = make_pipeline(StandardScaler(), LOGISTIC)
LAST = "logisticregression__sample_weight"
REACHED = {
    "an estimator": (LOGISTIC, ["sample_weight"]),
    "a pipeline": (PIPELINE, [LAST]),
    "a pipeline in a pipeline": (make_pipeline(PIPELINE), [f"pipeline__{LAST}"]),
    "calibrated": (CalibratedClassifierCV(LOGISTIC), ["sample_weight"]),
    "calibrated in a pipeline": (
        make_pipeline(StandardScaler(), CalibratedClassifierCV(LOGISTIC)), ["calibratedclassifiercv__sample_weight"]),
    "a calibrated pipeline": (CalibratedClassifierCV(PIPELINE), ["sample_weight", LAST]),
    "a search": (GridSearchCV(PIPELINE, {"logisticregression__C": [1e5, 1e6]}), [LAST]),
    "an ensemble": (VotingClassifier([("a", LOGISTIC), ("b", RandomForestClassifier(5))], voting="soft"), ["sample_weight"]),
    "a stack": (StackingClassifier([("a", LOGISTIC)]), ["sample_weight"]),
    "bagging": (BaggingClassifier(LOGISTIC, 3), ["sample_weight"]),
}  # fmt: skip


def dataset(weights):
    """Two features, a class that goes with the first for half of the rows and against it for the others, and these weights."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    half = np.arange(400) % 2 == 0
    frame = pd.DataFrame({"id": range(400), "a": x[:, 0], "b": x[:, 1], "w": np.where(half, *weights)})
    frame["t"] = np.where((x[:, 0] > 0) ^ half ^ (rng.random(400) < 0.1), "yes", "no")
    data = {"task": "binary", "id": "id", "target": "t", "positive": "yes", "weight": "w"}
    given = {"name": "n", "train": {"seed": 1}, "gate": {"metric": "log_loss", "margin": 0.0}, "data": data}
    return take_apart(frame, Settings.model_validate(given | {"split": {"holdout": 0.25, "salt": "s"}}))


@pytest.mark.parametrize("case", REACHED)
def test_weights_reach_what_learns(case):
    """With all weight on one half of the rows, the model learns that half alone, and with it on the other the opposite."""
    model, names = REACHED[case]
    assert (parameters(model), unweighted(model)) == (names, "")
    rows = pd.DataFrame({"a": [-2.0, 2.0], "b": [0.0, 0.0]})
    said = []
    for weights in ((1.0, 1e-6), (1e-6, 1.0)):
        data = dataset(weights)
        fitted = family.fit(model, data, np.flatnonzero(~data.holdout))
        said.append(family.answer(fitted, data, rows)[:, 1])
    assert said[0][0] > 0.6 > 0.4 > said[0][1] and said[1][0] < 0.4 < 0.6 < said[1][1]


@pytest.mark.parametrize(
    ("model", "lacking"),
    [
        (KNeighborsClassifier(), "KNeighborsClassifier"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), "KNeighborsClassifier"),
        (CalibratedClassifierCV(KNeighborsClassifier()), "KNeighborsClassifier"),
        (VotingClassifier([("a", LOGISTIC), ("b", PIPELINE)]), "Pipeline"),
        (BaggingClassifier(PIPELINE), "Pipeline"),
    ],
)
def test_an_estimator_that_takes_no_weights_is_refused_before_the_fit(model, lacking):
    """It is named, with what to do; without a weight column it trains as ever."""
    data = dataset((1.0, 2.0))
    assert parameters(model) == [] and unweighted(model) == lacking
    with pytest.raises(ProjectError, match=f"cannot be trained: {lacking} takes no sample_weight"):
        family.fit(model, data, np.flatnonzero(~data.holdout))


def test_a_transformed_target_hands_weights_on():
    """To its regressor, or to the linear regression that it has without one."""
    assert parameters(TransformedTargetRegressor()) == ["sample_weight"]
    inside = TransformedTargetRegressor(make_pipeline(StandardScaler(), LinearRegression()))
    assert parameters(inside) == ["linearregression__sample_weight"]
