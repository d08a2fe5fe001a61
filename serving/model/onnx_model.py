"""Models as ONNX graphs."""

from collections.abc import Sequence

import numpy as np
import onnxruntime

from serving.model.bundle import Bundle, BundleError
from serving.model.contract import Contract, Onnx
from serving.model.rows import Row, matrix


class OnnxModel:
    """A bundle's ONNX graph."""

    def __init__(self, bundle: Bundle, form: Onnx):
        """Load the graph; raises BundleError when graph and contract differ."""
        self._contract, self._form = bundle.contract, form
        self._session = _session(bundle.model)
        # The graph's own labels are not used: when all leaves of boosted trees are positive and the odds nearly even,
        # ONNX Runtime returns the less probable class.
        self._output = form.probabilities or form.label
        _match(self._session, self._contract, form, self._output)
        self._bound: _Bound | None = None

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities or values for many rows."""
        return self._session.run([self._output], self._feed(rows))[0]

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row; the next call overwrites the array."""
        if self._form.layout != "matrix":
            return self.run([row])
        if self._bound is None:
            self._bound = _Bound(self._session, self._output, len(self._contract.inputs), self._form.dtype)
        return self._bound.run(row)

    def _feed(self, rows: Sequence[Row]) -> dict[str, np.ndarray]:
        dtype = self._form.dtype
        if self._form.layout == "matrix":
            return {"features": matrix(rows, dtype)}
        return {
            f"f{position}": np.array(
                [[row[position]] for row in rows], dtype=object if column.type == "text" else dtype
            )
            for position, column in enumerate(self._contract.inputs)
        }


class _Bound:
    """A row and its output in preallocated memory, bound to the session, so that a call allocates nothing."""

    def __init__(self, session: onnxruntime.InferenceSession, name: str, width: int, dtype: str):
        self._run = session.run_with_iobinding
        self._row = np.zeros((1, width), dtype)
        self._output = output = np.array(session.run([name], {"features": self._row})[0])
        self._binding = session.io_binding()
        self._binding.bind_input("features", "cpu", 0, self._row.dtype, self._row.shape, self._row.ctypes.data)
        self._binding.bind_output(name, "cpu", 0, output.dtype, output.shape, output.ctypes.data)

    def run(self, row: Row) -> np.ndarray:
        """Probabilities or a value for one row; the next call overwrites the array."""
        self._row[0] = row
        self._run(self._binding)
        return self._output


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = (
        1  # one row is too little work to share between threads, they would only wait for each other
    )
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and need not be logged as well
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BundleError(f"model.onnx cannot be loaded: {str(error).splitlines()[0][:300]}") from error


def _match(session: onnxruntime.InferenceSession, contract: Contract, form: Onnx, output: str) -> None:
    """Raise BundleError unless the graph's inputs and outputs are those of the contract."""
    matrix = form.layout == "matrix"
    needed = ["features"] if matrix else [f"f{position}" for position in range(len(contract.inputs))]
    inputs = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    if sorted(inputs) != sorted(needed):
        raise BundleError(f"model.onnx takes {', '.join(inputs)}, but contract.json says {', '.join(needed)}")
    if output not in {tensor.name for tensor in session.get_outputs()}:
        raise BundleError(f"model.onnx has no output {output!r}, but contract.json names it")
