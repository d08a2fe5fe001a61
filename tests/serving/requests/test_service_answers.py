"""Answers and counts of a batch equal those of its rows one by one."""

import json

import numpy as np
import pytest

from serving.model.bundle import open_bundle
from serving.model.predictor import NoAnswer, Predictor, load_predictor
from serving.requests.response_writer import AnswerWriter
from serving.telemetry.metrics import Metrics
from tests.serving.bundles import KINDS, make_bundle

ODD = [5e-324, 1e-7, 0.1, 1 / 3, 1e22, -1.5, -0.0]


@pytest.fixture(scope="module", params=KINDS)
def bundle(request, tmp_path_factory):
    """A bundle of each kind of model in turn."""
    return open_bundle(make_bundle(request.param, tmp_path_factory.mktemp("answers") / "bundle"))


class Told:
    """A model that returns given outputs."""

    def __init__(self, said):
        self.said = said

    def run(self, rows):
        """All outputs."""
        return self.said

    def run_one(self, row):
        """The outputs for the row of this number."""
        return self.said[row : row + 1]


def _told(bundle, dtype):
    """A predictor whose model returns odd numbers, and its outputs."""
    classes = len(bundle.contract.classes)
    values = np.array(ODD * max(classes, 1), dtype)
    said = values.reshape(-1, 1) if bundle.contract.task == "regression" else np.abs(values.reshape(-1, classes))
    predictor = Predictor(bundle.contract, Told(said))
    return predictor, predictor.outputs(range(len(ODD)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_is_serialized_like_its_rows(bundle, dtype):
    """The JSON of a batch has exactly the numbers of the single answers."""
    predictor, outputs = _told(bundle, dtype)
    written = json.loads(AnswerWriter(bundle.contract).write(outputs))
    assert written == [predictor.predict_one(row) for row in range(len(ODD))]
    assert [list(answer) for answer in written] == [list(predictor.predict_one(row)) for row in range(len(ODD))]


def test_batch_of_one_row_is_a_batch(bundle):
    """One row is serialized as a list of one answer, with the real model."""
    predictor = load_predictor(bundle)
    row = bundle.contract.example_row
    written = json.loads(AnswerWriter(bundle.contract).write(predictor.predict([row])))
    assert written == [predictor.predict_one(row)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_is_counted_like_its_rows(bundle, dtype):
    """Classes, buckets and sums are the same for a batch and for single rows, also on a bucket's limit."""
    predictor, outputs = _told(bundle, dtype)
    together, alone = Metrics(bundle, ()), Metrics(bundle, ())
    on_a_limit = outputs[-1].copy()
    on_a_limit[0] = together.limits[1]
    for said in (outputs[-1], on_a_limit):
        predictor._model.said = said
        together.predicted_many(predictor.outputs(range(len(ODD))))
        for row in range(len(ODD)):
            alone.predicted(predictor.predict_one(row))
    assert list(together.own) == pytest.approx(list(alone.own), rel=1e-12)
    assert sum(together.own[together.predictions : together.values]) == 2 * len(ODD)


def test_first_row_without_an_answer_is_named(bundle):
    """When the model returns NaN or infinity, the first such row is named, and nothing is answered."""
    predictor, outputs = _told(bundle, "float32")
    outputs[-1][4], outputs[-1][2] = np.nan, np.inf
    with pytest.raises(NoAnswer) as found:
        predictor.predict(range(len(ODD)))
    assert found.value.row == 2
