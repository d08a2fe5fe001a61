"""How a class is chosen from probabilities."""

import numpy as np
import pytest

from serving.model.bundle import BundleError, open_bundle
from serving.model.decision import Threshold, confidence, decide, decide_one, lead, threshold_of
from serving.model.predictor import load_predictor
from serving.model.rows import read_rows
from tests.serving.bundles import change, make_bundle, read


def test_a_row_is_positive_from_the_threshold_on():
    """At the threshold itself it is; the position of the positive class may be either."""
    given = np.array([[0.7, 0.3], [0.69, 0.31], [0.0, 1.0]])
    assert decide(given, Threshold(1, 0.31)).tolist() == [0, 1, 1]
    assert decide(given, Threshold(0, 0.7)).tolist() == [0, 1, 1]
    assert decide(given).tolist() == [0, 0, 1]
    assert confidence(given, Threshold(1, 0.31)).tolist() == [0.7, 0.31, 1.0]


def test_one_row_and_many_fall_on_the_same_side():
    """A threshold that float32 cannot hold decides alike, whatever the array's type."""
    rng = np.random.default_rng(0)
    positive = np.concatenate([rng.random(200), [0.1, 0.3, 0.7]]).astype(np.float32)
    given = np.stack([1 - positive, positive], axis=1)
    for value in (0.1, 0.3, 0.7, float(positive[3])):
        cut = Threshold(1, value)
        assert decide(given, cut).tolist() == [decide_one(row, cut) for row in given.tolist()]
        assert decide(given, cut).tolist() == decide(np.array(given.tolist()), cut).tolist()


def test_the_lead_is_twice_the_distance_to_the_threshold():
    """With two classes and a threshold of a half, it is the lead of the most probable class."""
    given = np.array([[0.8, 0.2], [0.45, 0.55]])
    assert np.allclose(lead(given, Threshold(1, 0.5)), lead(given))
    assert np.allclose(lead(given, Threshold(1, 0.2)), [0, 0.7])


def test_a_contract_without_a_threshold_names_the_most_probable_class():
    """As do those of older bundles, which say nothing of it."""
    assert threshold_of({"classes": ["a", "b"], "positive": "b"}) is None
    with_one = {"labels": "threshold", "threshold": 0.2, "classes": ["a", "b"], "positive": "a"}
    assert threshold_of(with_one) == Threshold(0, 0.2)


def test_the_service_decides_by_the_contracts_threshold(tmp_path):
    """One row and many; the probabilities stay what they were."""
    folder = make_bundle("binary", tmp_path / "bundle")
    plain = load_predictor(open_bundle(folder))
    rows = read_rows(plain.contract, read(folder, "golden.json")["inputs"])
    positive = plain.contract.classes.index(plain.contract.positive)
    scores = np.sort(plain.predict(rows)[-1][:, positive])
    cut = float((scores[3] + scores[4]) / 2)
    change(folder, "contract.json", labels="threshold", threshold=cut)
    decided = load_predictor(open_bundle(folder))
    labels, probabilities = decided.predict(rows)
    assert (probabilities == plain.predict(rows)[-1]).all()
    assert labels.tolist() == [decided.predict_one(row)["class_id"] for row in rows]
    assert (labels == positive).tolist() == (probabilities[:, positive] >= cut).tolist()
    assert (labels == positive).sum() == len(rows) - 4


@pytest.mark.parametrize(
    "values",
    [
        {"labels": "threshold"},
        {"threshold": 0.3},
        {"labels": "threshold", "threshold": 1.5},
        {"labels": "threshold", "threshold": 0},
        {"labels": "threshold", "threshold": 0.3, "positive": None},
        {"labels": "by the moon"},
    ],
)
def test_a_rule_of_labels_that_cannot_be_is_refused(tmp_path, values):
    """A service never guesses how to decide."""
    folder = make_bundle("binary", tmp_path / "bundle")
    change(folder, "contract.json", **values)
    with pytest.raises(BundleError, match=r"contract\.json cannot be used"):
        open_bundle(folder)
