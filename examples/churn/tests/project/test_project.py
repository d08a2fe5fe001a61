"""Your own tests: of your data and your model."""

import numpy as np

from project.data import load
from project.model import build


def test_a_fifth_of_the_customers_left():
    """The share that the limits in pipeline.toml were chosen for."""
    assert 0.15 < (load()["left"] == "yes").mean() < 0.25


def test_same_seed_gives_the_same_model():
    """Two models built with the same seed learn the same."""
    frame = load()
    features, left = frame.drop(columns=["id", "left"]).select_dtypes("number"), frame["left"]
    first, second = (build({"n_estimators": 20}, seed=7).fit(features, left).predict_proba(features) for _ in range(2))
    assert np.array_equal(first, second)
