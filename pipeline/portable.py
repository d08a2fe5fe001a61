"""The model as ONNX, and how far its answers are from the trained model's."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import converters
from pipeline.dataset import Dataset
from pipeline.errors import PortabilityError

INPUT = "features"
# In this order: one matrix is the fastest to serve, text needs a column each; trees compare in float32 and are most faithful
# there, linear models in float64.
FORMS = (("matrix", "float32"), ("columns", "float32"), ("matrix", "float64"), ("columns", "float64"))


@dataclass(frozen=True)
class Portable:
    """A converted model: ONNX bytes, and the `onnx` part of the contract that says how to call it."""

    onnx: bytes
    form: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """Rows on which a format is tried, in words where they are from, and the trained model's answers."""

    where: str
    rows: pd.DataFrame
    trained: np.ndarray


@dataclass(frozen=True)
class Parity:
    """Largest difference of an answer (relative above 1 for values), and the rows whose label differs."""

    difference: float
    labels: int

    def holds(self, tolerance: float) -> bool:
        """True when all labels are equal and no answer differs by more than the tolerance."""
        return self.labels == 0 and self.difference <= tolerance


def untrusted(model: Any, trusted: list[str]) -> list[str]:
    """The types inside a model that neither skops nor the settings trust; empty when it can be stored without pickle."""
    from pipeline import stored

    return sorted(set(stored.types_beyond(stored.dumps(model))) - set(trusted))


def parity(trained: np.ndarray, portable: np.ndarray, tolerance: float = 0.0) -> Parity:
    """Compare two predictions of the same rows: probabilities (n, k) or values (n,).

    A label counts where the trained model is clear about it: with two classes less than twice the tolerance apart it may fall on
    either side.
    """
    if not np.isfinite(portable).all():
        return Parity(float("inf"), int((~np.isfinite(portable)).any(axis=tuple(range(1, portable.ndim))).sum()))
    scale = np.maximum(1, np.abs(trained))
    labels = 0
    if trained.ndim == 2:
        top = np.sort(trained, axis=1)
        clear = top[:, -1] - top[:, -2] > 2 * tolerance
        labels = int((clear & (trained.argmax(1) != portable.argmax(1))).sum())
    return Parity(float((np.abs(trained - portable) / scale).max()), labels)


def export(model: Any, dataset: Dataset, trials: Sequence[Trial], tolerance: float) -> tuple[Portable, list[Parity]]:
    """Convert a fitted estimator; of the forms that convert, the first that answers in all trials like the model itself.

    When none is within the tolerance, the closest is returned with its figures. Raises PortabilityError when no form converts.
    """
    best: tuple[Portable, list[Parity]] | None = None
    missing = converters.register()
    problems: list[str] = []
    for layout, dtype in FORMS:
        if layout == "matrix" and "text" in dataset.kinds.values():
            continue
        try:
            candidate = _convert(model, dataset, layout, dtype)
            found = [
                parity(one.trained, predict(candidate.onnx, candidate.form, one.rows, dataset.kinds), tolerance)
                for one in trials
            ]
        except Exception as error:  # converters raise whatever they meet: KeyError, RuntimeError, their own
            problems.append(f"{layout} of {dtype}: {_first_line(error)}")
            continue
        if best is None or _worst(found) < _worst(best[1]):
            best = candidate, found
        if all(one.holds(tolerance) for one in found):
            break
    if best is None:
        raise PortabilityError(
            f"it cannot become ONNX: {problems[0]}{f' ({missing})' if missing else ''}",
            "use estimators and transformers that skl2onnx supports in project/model.py",
        )
    return best


def _worst(found: Sequence[Parity]) -> tuple[int, float]:
    return max(one.labels for one in found), max(one.difference for one in found)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first if len(first) <= 160 else first[:159] + '…'}"


def _convert(model: Any, dataset: Dataset, layout: str, dtype: str) -> Portable:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = FloatTensorType if dtype == "float32" else DoubleTensorType
    if layout == "matrix":
        inputs = [(INPUT, number([None, len(dataset.kinds)]))]
    else:
        types = [StringTensorType if kind == "text" else number for kind in dataset.kinds.values()]
        inputs = [(name, tensor([None, 1])) for name, tensor in zip(dataset.kinds, types, strict=True)]
    classifier = bool(dataset.classes)
    # Without a name the converter makes one up, and the same model would give other bytes each time.
    options = {"zipmap": False} if classifier else None
    converted = convert_sklearn(model, "model", inputs, options=options, target_opset=converters.opsets())
    if layout == "columns":
        _number_inputs(converted)
    outputs = [output.name for output in converted.graph.output]
    form = {
        "layout": layout,
        "dtype": dtype,
        "label": outputs[0],
        "probabilities": outputs[1] if classifier else None,
    }
    return Portable(converted.SerializeToString(deterministic=True), form)


def _number_inputs(model: Any) -> None:
    """Name the inputs f0, f1, … in contract order: the converter turns two names such as "a b" and "a-b" into one another."""
    names = {given.name: f"f{place}" for place, given in enumerate(model.graph.input)}
    for given in model.graph.input:
        given.name = names[given.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def predict(onnx: bytes, form: dict[str, Any], rows: pd.DataFrame, kinds: Mapping[str, str]) -> np.ndarray:
    """Probabilities (n, k) or values (n,) in float64 by the portable model."""
    session = _session(onnx)
    wanted = form["probabilities"] or form["label"]
    answer = session.run([wanted], feeds(form, rows, kinds))[0]
    return np.asarray(answer, dtype=np.float64) if form["probabilities"] else np.asarray(answer, np.float64).ravel()


def latency_ms(
    onnx: bytes, form: dict[str, Any], rows: pd.DataFrame, kinds: Mapping[str, str], calls: int = 200
) -> float:
    """Median time of answering one row, milliseconds, over calls with different rows."""
    session = _session(onnx)
    wanted = [form["probabilities"] or form["label"]]
    single = [feeds(form, rows.iloc[[place]], kinds) for place in range(min(len(rows), calls))]
    times = []
    for place in range(calls):
        begin = time.perf_counter()
        session.run(wanted, single[place % len(single)])
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def _session(onnx: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # the converter's harmless remarks would fill the log
    options.intra_op_num_threads = 1  # as the service runs it
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def feeds(form: dict[str, Any], rows: pd.DataFrame, kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The graph's inputs made from feature columns, by name: data may have more columns than the model, or others first."""
    if form["layout"] == "matrix":
        return {INPUT: rows[list(kinds)].to_numpy(dtype=form["dtype"])}
    return {
        f"f{place}": rows[column].to_numpy(dtype=object if kind == "text" else form["dtype"])[:, None]
        for place, (column, kind) in enumerate(kinds.items())
    }
