"""The model as ONNX, and how far its answers are from the trained model's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.formats import onnx_conversion, trusted_types

# In this order: one matrix is the fastest to serve, text needs a column each; trees compare in float32 and are most faithful
# there, linear models in float64.
FORMS = (("matrix", "float32"), ("columns", "float32"), ("matrix", "float64"), ("columns", "float64"))


@dataclass(frozen=True)
class Portable:
    """A converted model: ONNX bytes, and the `onnx` part of the contract that says how to call it."""

    onnx: bytes
    form: dict[str, Any]


@dataclass(frozen=True)
class Parity:
    """Largest difference of an answer (relative above 1 for values), and the rows whose label differs.

    `unanswered` are the rows that only the trained model answers, `answered` those that only the portable one does.
    """

    difference: float
    labels: int
    unanswered: int = 0
    answered: int = 0

    def holds(self, tolerance: float) -> bool:
        """True when both answer the same rows, with the same labels, and no answer differs by more than the tolerance."""
        return not (self.labels or self.unanswered or self.answered) and self.difference <= tolerance


def untrusted(model: Any, trusted: list[str]) -> list[str]:
    """The types inside a model that need the team's word and have none; empty when it can be stored without pickle."""
    from pipeline.formats import sklearn_model

    return trusted_types.beyond(sklearn_model.types_beyond(sklearn_model.dumps(model)), trusted)


def answered(given: np.ndarray) -> np.ndarray:
    """Which rows of a prediction, (n, k) or (n,), have an answer: all of it is finite, shape (n,)."""
    return np.isfinite(given).all(axis=tuple(range(1, given.ndim)))


def parity(trained: np.ndarray, portable: np.ndarray, tolerance: float = 0.0) -> Parity:
    """Compare two predictions of the same rows: probabilities (n, k) or values (n,).

    A row that is not all finite has no answer. A label counts where the trained model is clear about it: with two classes less than
    twice the tolerance apart it may fall on either side.
    """
    ours, theirs = answered(trained), answered(portable)
    differ = {"unanswered": int((ours & ~theirs).sum()), "answered": int((theirs & ~ours).sum())}
    trained, portable = trained[ours & theirs], portable[ours & theirs]
    labels = 0
    if trained.ndim == 2 and len(trained):
        top = np.sort(trained, axis=1)
        clear = top[:, -1] - top[:, -2] > 2 * tolerance
        labels = int((clear & (trained.argmax(1) != portable.argmax(1))).sum())
    with np.errstate(over="ignore"):  # two values of opposite sign near the largest
        off = np.abs(trained - portable) / np.maximum(1, np.abs(trained))
    difference = float("inf") if any(differ.values()) else float(off.max(initial=0.0))
    return Parity(difference, labels, **differ)


def export(
    model: Any, dataset: Dataset, judge: Callable[[Portable], list[Parity]], tolerance: float
) -> tuple[Portable, list[Parity]]:
    """Convert a fitted estimator; of the forms that convert, the first that answers in all trials like the model itself.

    `judge` tries a form. When none is within the tolerance, the closest is returned with its figures. Raises PortabilityError when no
    form converts and runs.
    """
    best: tuple[Portable, list[Parity]] | None = None
    problems: list[PortabilityError] = []
    forms = [one for one in FORMS if one[0] == "columns" or "text" not in dataset.kinds.values()]
    with onnx_conversion.converting(model, dataset.kinds, bool(dataset.classes)) as convert:
        for layout, dtype in forms:
            try:
                candidate = Portable(*convert(layout, dtype))
                found = judge(candidate)
            except onnx_conversion.UnendedError as error:
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
    odd = max(one.labels + one.unanswered + one.answered for one in found)
    return odd, max(one.difference for one in found)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    return f"{type(error).__name__}: {first if len(first) <= 160 else first[:159] + '…'}"
