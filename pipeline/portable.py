"""The model as ONNX, and how far its answers are from the trained model's."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import conversion
from pipeline import trusted as trusted_types
from pipeline.dataset import Dataset
from pipeline.errors import PortabilityError

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
    """The types inside a model that need the team's word and have none; empty when it can be stored without pickle."""
    from pipeline import stored

    return trusted_types.beyond(stored.types_beyond(stored.dumps(model)), trusted)


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
    problems: list[PortabilityError] = []
    forms = [one for one in FORMS if one[0] == "columns" or "text" not in dataset.kinds.values()]
    with conversion.converting(model, dataset.kinds, bool(dataset.classes)) as convert:
        for layout, dtype in forms:
            try:
                candidate = Portable(*convert(layout, dtype))
                found = [
                    parity(one.trained, predict(candidate.onnx, candidate.form, one.rows, dataset.kinds), tolerance)
                    for one in trials
                ]
            except conversion.UnendedError as error:
                problems.insert(0, error)
                break
            except PortabilityError as error:
                problems.append(error)
                continue
            except Exception as error:  # ONNX Runtime refuses a graph with exceptions of its own
                problems.append(PortabilityError(f"ONNX Runtime does not run what it became: {_first_line(error)}"))
                continue
            if best is None or _worst(found) < _worst(best[1]):
                best = candidate, found
            if all(one.holds(tolerance) for one in found):
                break
    if best is None:
        raise PortabilityError(
            problems[0].what, "use estimators and transformers that skl2onnx supports in project/model.py"
        )
    return best


def _worst(found: Sequence[Parity]) -> tuple[int, float]:
    return max(one.labels for one in found), max(one.difference for one in found)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first if len(first) <= 160 else first[:159] + '…'}"


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
        return {conversion.INPUT: rows[list(kinds)].to_numpy(dtype=form["dtype"])}
    return {
        f"f{place}": rows[column].to_numpy(dtype=object if kind == "text" else form["dtype"])[:, None]
        for place, (column, kind) in enumerate(kinds.items())
    }
