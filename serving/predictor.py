"""The model: an ONNX graph that turns checked rows into answers."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
import onnxruntime

from serving.bundle import Bundle, BundleError
from serving.contract import Contract
from serving.rows import Row

Answer = dict[str, Any]


class NoAnswer(Exception):
    """The model cannot answer these values; `row` is the first such row, None when the graph did not say."""

    def __init__(self, row: int | None = None):
        super().__init__("the model has no finite answer for these values")
        self.row = row


class Predictor:
    """Answers rows that the contract has accepted; `predict` is safe to use from several threads."""

    def __init__(self, bundle: Bundle):
        """Load the graph and answer the example row; raises BundleError when graph and contract differ."""
        self.contract = bundle.contract
        self._session = _session(bundle.model)
        self._outputs = [name for name in (self.contract.onnx.label, self.contract.onnx.probabilities) if name]
        _match(self._session, self.contract, self._outputs)
        try:
            self.example()
        except Exception as error:
            raise BundleError(f"model.onnx does not answer the contract's example row: {error}") from error
        self._bound = None
        if self.contract.onnx.layout == "matrix":
            self._bound = _Bound(self._session, self._outputs, len(self.contract.inputs), self.contract.onnx.dtype)

    def example(self) -> Answer:
        """The answer to the contract's example row."""
        row = [column.read(column.example, self.contract.largest) for column in self.contract.inputs]
        return self.predict([row])[0]

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """One answer per row: {label, class_id, probabilities} or {value}; raises NoAnswer."""
        try:
            outputs = self._session.run(self._outputs, self._feed(rows))
        except Exception as error:  # onnxruntime has no common class for what a graph raises on odd values
            raise NoAnswer from error
        if self.contract.task == "regression":
            return self._values(outputs[0])
        return self._labels(*outputs)

    def predict_one(self, row: Row) -> Answer:
        """The same for one row, in half the time; from one thread only. Raises NoAnswer."""
        if self._bound is None:
            return self.predict([row])[0]
        try:
            outputs = self._bound.run(row)
        except Exception as error:
            raise NoAnswer from error
        if self.contract.task == "regression":
            value = outputs[0].item()
            if not isfinite(value):
                raise NoAnswer(0)
            return {"value": value}
        position, probabilities = outputs[0].item(), outputs[1].tolist()[0]
        if not isfinite(sum(probabilities)):
            raise NoAnswer(0)
        classes = self.contract.classes
        return {
            "label": classes[position],
            "class_id": position,
            "probabilities": dict(zip(classes, probabilities, strict=True)),
        }

    def _feed(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        dtype = self.contract.onnx.dtype
        if self.contract.onnx.layout == "matrix":
            return {"features": np.array(rows, dtype=dtype)}
        return {
            f"f{position}": np.array(
                [[row[position]] for row in rows], dtype=object if column.type == "text" else dtype
            )
            for position, column in enumerate(self.contract.inputs)
        }

    def _values(self, values: np.ndarray) -> list[Answer]:
        _finite(values)
        return [{"value": value} for value in values.reshape(-1).tolist()]

    def _labels(self, labels: np.ndarray, probabilities: np.ndarray) -> list[Answer]:
        _finite(probabilities)
        classes = self.contract.classes
        return [
            {
                "label": classes[position],
                "class_id": position,
                "probabilities": dict(zip(classes, row, strict=True)),
            }
            for position, row in zip(labels.reshape(-1).tolist(), probabilities.tolist(), strict=True)
        ]


class _Bound:
    """A row and its outputs in memory that the session keeps: a call allocates and describes nothing."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: list[str], width: int, dtype: str):
        self._run = session.run_with_iobinding
        self._row = np.zeros((1, width), dtype)
        self._outputs = [np.array(output) for output in session.run(outputs, {"features": self._row})]
        self._binding = session.io_binding()
        self._binding.bind_input("features", "cpu", 0, self._row.dtype, self._row.shape, self._row.ctypes.data)
        for name, output in zip(outputs, self._outputs, strict=True):
            self._binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)

    def run(self, row: Row) -> list[np.ndarray]:
        """The outputs for one row; they hold until the next call."""
        self._row[0] = row
        self._run(self._binding)
        return self._outputs


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one row is too little work to share; more threads only wait for each other
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"model.onnx cannot be loaded: {str(error).splitlines()[0][:300]}") from error


def _match(session: onnxruntime.InferenceSession, contract: Contract, outputs: list[str]) -> None:
    """The graph takes and gives what the contract says."""
    matrix = contract.onnx.layout == "matrix"
    needed = ["features"] if matrix else [f"f{position}" for position in range(len(contract.inputs))]
    inputs = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    if sorted(inputs) != sorted(needed):
        raise BundleError(f"model.onnx takes {', '.join(inputs)}, but contract.json says {', '.join(needed)}")
    if missing := set(outputs) - {tensor.name for tensor in session.get_outputs()}:
        raise BundleError(f"model.onnx has no output {missing.pop()!r}, but contract.json names it")


def _finite(values: np.ndarray) -> None:
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise NoAnswer(int(bad.argmax()))
