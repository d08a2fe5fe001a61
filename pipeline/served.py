"""Which format a model is served in, and its answers in that format.

ONNX, where the converted model answers like the trained one: it is faster, smaller, and runs no Python. Else scikit-learn itself, with the
reason in words. The files are those of the bundle, by path; the contract's part says how the model is fed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import portable, stored, ties, trusted
from pipeline.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.portable import Parity, Trial

HOLDOUT, JUMPS = "on the hold-out", "on values beside a threshold"
CALLS = 200  # single predictions that are timed


@dataclass(frozen=True)
class Served:
    """A model as the service will run it; `parity` has a figure for each trial."""

    files: dict[str, bytes]
    form: dict[str, Any]  # of the contract: `format`, the part that is called like it, and `format_reason`
    parity: list[Parity]


def answer(model: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """The trained model's own answers: probabilities (n, k) or values (n,) in float64."""
    if dataset.classes:
        return np.asarray(model.predict_proba(rows), dtype=np.float64)
    return np.asarray(model.predict(rows), dtype=np.float64).ravel()


def trials(model: Any, dataset: Dataset, rows: pd.DataFrame, trained: np.ndarray) -> list[Trial]:
    """What a format must pass: the given rows, and rows beside the jumps that the model makes between them, if it makes any."""
    from threadpoolctl import threadpool_limits

    settings = dataset.settings

    def ask(some: pd.DataFrame) -> np.ndarray:
        return answer(model, dataset, some)

    with threadpool_limits(1):  # many questions of a few rows each: threads would only wait for each other
        beside = ties.beside_jumps(ask, dataset, rows, settings.gate.parity, settings.train.seed)
    found = [Trial(HOLDOUT, rows, trained)]
    return [*found, Trial(JUMPS, beside, ask(beside))] if len(beside) else found


def choose(
    model: Any, dataset: Dataset, tried: Sequence[Trial], describe: Callable[[dict[str, Any]], dict[str, Any]]
) -> Served:
    """The format in which a fitted model is served; `describe` makes a contract from its part.

    Raises PortabilityError with both reasons when neither format passes the trials.
    """
    tolerance = dataset.settings.gate.parity
    name = _name(model)
    try:
        exported, parity = portable.export(model, dataset, tried, tolerance)
        if all(one.holds(tolerance) for one in parity):
            form = {"format": "onnx", "format_reason": "", "onnx": exported.form}
            return Served({"model.onnx": exported.onnx}, form, parity)
        reason = f"{name}: {_difference('ONNX', tried, parity, tolerance)}"
    except PortabilityError as error:
        reason = f"{name}: {error.what}"
    return _stored(model, dataset, tried, describe, reason)


def _stored(model, dataset: Dataset, tried: Sequence[Trial], describe, reason: str) -> Served:
    import sklearn

    tolerance = dataset.settings.gate.parity
    raw = stored.dumps(model)
    types = stored.types_beyond(raw)
    known = dataset.settings.train.trusted_types
    if foreign := trusted.beyond(types, known):
        raise PortabilityError(
            f"the model cannot be served: {reason}; as scikit-learn's own it holds types that are not trusted: {', '.join(foreign)}",
            trusted.advice(foreign, known),
        )
    files = {"model.skops": raw, **stored.code_for(types)}
    together = pd.concat([trial.rows for trial in tried], ignore_index=True)
    ends = np.cumsum([len(trial.rows) for trial in tried])[:-1]
    # A matrix is answered in half the time, where the model needs no names.
    layouts = ["frame"] if "text" in dataset.kinds.values() else ["matrix", "frame"]
    problem = then = ""
    for layout in layouts:
        part = {"layout": layout, "trusted": types, "scikit_learn": sklearn.__version__}
        form = {"format": "skops", "format_reason": reason, "skops": part}
        try:
            answers = np.split(stored.ask(files, describe(form), together)[0], ends)
        except PortabilityError as error:
            problem, then = error.what, error.then
            continue
        parity = [portable.parity(one.trained, given, tolerance) for one, given in zip(tried, answers, strict=True)]
        if all(one.holds(tolerance) for one in parity):
            return Served(files, form, parity)
        problem = _difference("the stored model", tried, parity, tolerance)
    raise PortabilityError(f"the model cannot be served: {reason}; {problem}", then or "change it in project/model.py")


def predict(
    files: Mapping[str, bytes], contract: dict[str, Any], rows: pd.DataFrame, calls: int = 0
) -> tuple[np.ndarray, float]:
    """A served model's answers in float64, and the median milliseconds of `calls` single predictions (or NaN)."""
    if contract["format"] == "skops":
        return stored.ask(files, contract, rows, calls)
    kinds = {given["name"]: given["type"] for given in contract["inputs"]}
    onnx, form = files["model.onnx"], contract["onnx"]
    answers = portable.predict(onnx, form, rows, kinds)
    return answers, portable.latency_ms(onnx, form, rows, kinds, calls) if calls else np.nan


def _name(model: Any) -> str:
    """What people call a model: its last step."""
    return type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__


def _difference(what: str, tried: Sequence[Trial], parity: Sequence[Parity], tolerance: float) -> str:
    where, worst = next(
        (one.where, found) for one, found in zip(tried, parity, strict=True) if not found.holds(tolerance)
    )
    if not np.isfinite(worst.difference):
        return f"{what} has no finite answer {where}"
    return f"{what} differs by {worst.difference:.2g} {where}"
