"""The predictor: takes checked rows and returns answers, whatever the model's format."""

import os
from collections.abc import Sequence
from math import isfinite
from typing import Any, Protocol

import numpy as np

from serving.model.bundle import Bundle, BundleError
from serving.model.contract import Contract, Onnx, Trees
from serving.model.rows import Row

Answer = dict[str, Any]
Outputs = Sequence[np.ndarray]  # class positions and probabilities, or values


class NoAnswer(Exception):
    """The model has no finite answer; `row` is the first row without one, or None when the model did not say."""

    def __init__(self, row: int | None = None):
        super().__init__("the model has no finite answer for these values")
        self.row = row


class Model(Protocol):
    """A loaded model. It may raise any exception for odd values."""

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities (n, k), or values (n,) or (n, 1), for many rows; thread-safe."""

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row; the next call overwrites the array. Not thread-safe."""


class Predictor:
    """Answers rows that passed the contract; `predict` is thread-safe."""

    def __init__(self, contract: Contract, model: Model):
        self.contract = contract
        self._model = model

    def example(self) -> Outputs:
        """The outputs for the contract's example row; raises NoAnswer."""
        return self.predict([self.contract.example_row])

    def predict(self, rows: Sequence[Row]) -> Outputs:
        """The outputs for many rows, all of them finite; raises NoAnswer."""
        outputs = self.outputs(rows)
        _finite(outputs[-1])
        return outputs

    def outputs(self, rows: Sequence[Row]) -> Outputs:
        """The model's outputs for many rows, finite or not; raises NoAnswer when it returns none."""
        try:
            given = self._model.run(rows)
            if self.contract.task == "regression":
                return [given.reshape(len(rows))]
            return [given.argmax(axis=1), given]
        except Exception as error:  # a model may raise any exception for odd values
            raise NoAnswer from error

    def predict_one(self, row: Row) -> Answer:
        """One row's answer, {label, class_id, probabilities} or {value}; not thread-safe. Raises NoAnswer."""
        try:
            given = self._model.run_one(row)
        except Exception as error:
            raise NoAnswer from error
        if self.contract.task == "regression":
            value = given.item()
            if not isfinite(value):
                raise NoAnswer(0)
            return {"value": value}
        probabilities = given.tolist()[0]
        if not isfinite(sum(probabilities)):
            raise NoAnswer(0)
        position = probabilities.index(max(probabilities))
        classes = self.contract.classes
        return {
            "label": classes[position],
            "class_id": position,
            "probabilities": dict(zip(classes, probabilities, strict=True)),
        }


def load_predictor(bundle: Bundle) -> Predictor:
    """Load a bundle's model and test it on the example row; raises BundleError when model and contract differ.

    Imports only what the format needs: ONNX Runtime, scikit-learn or a library of boosted trees.
    """
    predictor = Predictor(bundle.contract, _model(bundle))
    try:
        predictor.example()
        predictor.predict_one(
            bundle.contract.example_row
        )  # the first call is the slowest: no client should wait for it
    except Exception as error:
        cause = error.__cause__ or error
        raise BundleError(
            f"{bundle.contract.file} does not answer the contract's example row: {_first_line(cause)}"
        ) from error
    return predictor


def _model(bundle: Bundle) -> Model:
    form = bundle.contract.form
    if isinstance(form, Onnx):
        from serving.model.onnx_model import OnnxModel

        return OnnxModel(bundle, form)
    # OpenMP reads this when a library loads it. One row is too little work for several threads, and a process forked
    # after OpenMP started threads would hang.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if isinstance(form, Trees):
        from serving.model import boosted_trees

        try:
            return boosted_trees.MODELS[bundle.contract.format](bundle, form)
        except ModuleNotFoundError as error:
            raise BundleError(
                f"{bundle.contract.file} needs the package {error.name}, which is not installed"
            ) from error
    from serving.model.sklearn_model import SklearnModel

    return SklearnModel(bundle, form)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _finite(values: np.ndarray) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        raise NoAnswer(int(finite.reshape(len(values), -1).all(axis=1).argmin()))
