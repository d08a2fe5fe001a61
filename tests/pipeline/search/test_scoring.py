"""By what models are compared on folds, where [decision] names the classes."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.errors import SettingsError
from pipeline.search import fold, scoring
from pipeline.settings import Settings


def side(metric: str, **decision) -> fold.TrainingSide:
    """The training side of forty rows of two classes, with this [decision]."""
    given = {
        "name": "m", "data": {"task": "binary", "id": "id", "target": "target", "positive": "yes"}, "split": {"holdout": 0.25, "salt": "s"},
        "train": {"seed": 1}, "decision": decision, "gate": {"metric": metric, "margin": 0.1},
    }  # fmt: skip
    frame = pd.DataFrame({"id": range(40), "a": range(40), "target": ["no", "yes"] * 20})
    return fold.of_training_side(take_apart(frame, Settings.model_validate(given)), 2).side


def test_a_fixed_threshold_names_the_classes():
    """A row of probability 0.3 is a hit of the positive class at a threshold of 0.2, and none by the most probable class."""
    given, rows = np.array([[0.7, 0.3], [0.9, 0.1]]), None
    for decision, expected in (({"rule": "fixed", "threshold": 0.2}, 1.0), ({}, 0.5)):
        some = side("accuracy", **decision)
        rows = np.array([np.flatnonzero(some.y == 1)[0], np.flatnonzero(some.y == 0)[0]])
        assert scoring.judged(scoring.deciding(some), some, rows, given) == expected


@pytest.mark.parametrize("rule", ["cost", "precision", "recall"])
def test_labels_are_no_measure_where_their_threshold_is_chosen_afterwards(rule):
    """A metric of labels is refused with the rule's name; one of probabilities compares models under any rule."""
    with pytest.raises(SettingsError, match=f'metric = "f1" counts labels, and with .decision. rule = "{rule}"'):
        scoring.deciding(side("f1", rule=rule))
    assert scoring.deciding(side("log_loss", rule=rule)).name == "log_loss"
