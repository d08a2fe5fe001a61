"""A trained model in every format that it can be stored in, and why not in the others."""

import io
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError, ProjectError
from pipeline.evaluation.record import LIBRARIES
from pipeline.formats import sklearn_model
from pipeline.formats.boosted_trees import encoded
from pipeline.formats.choose import closest, measure, on_holdout
from pipeline.formats.family import Candidate, family_of
from pipeline.formats.onnx import quantisation, quantised, run
from pipeline.formats.onnx.quantisation import How

RUNS_CODE = "your own only: it runs whatever its writer put in"
NAMED_TYPES = "types you trust: it names them, and holds no code"
NO_CODE = "yes: numbers and known operators, no code"
TREES = "yes: trees, no code"
PROGRAM = "your own only: it is a program, and its archive holds pickled data"
FALLS_BACK = "your own only: a graph, but PyTorch may read parts of it as pickle"

Feed = Callable[[pd.DataFrame], Any]
Ask = Callable[[Any, Any], np.ndarray]


@dataclass(frozen=True)
class Stored:
    """A model in one format: its file, how that is opened, what it is given for feature rows, and how it is asked.

    `ask(opened, given)` answers probabilities (n, k), those of the second class (n,), or values. `served`: it is what build/model holds.
    """

    name: str
    content: bytes
    how: str  # a key of opening.OPENERS
    feed: Feed
    ask: Ask
    safe: str
    served: bool = False


@dataclass(frozen=True)
class Absent:
    """A format in which this model cannot be stored, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Plain:
    """A trained model as its library knows it, without what stands around it here."""

    model: Any
    feed: Feed
    ask: Ask
    module: Any = None  # the PyTorch module that is all of it
    network: bool = False


def every_format(
    fitted: Any, dataset: Dataset, files: Mapping[str, bytes], contract: Mapping[str, Any], trained: np.ndarray
) -> Iterator[Stored | Absent]:
    """The model in each format, in a fixed order.

    `files` and `contract` are those of build/model without rules, and `trained` are the trained model's answers to the hold-out.
    """
    plain = _plain(fitted, dataset, trained)
    yield Stored("pickle", pickle.dumps(plain.model), "pickle", plain.feed, plain.ask, RUNS_CODE)
    yield Stored("joblib", _joblib(plain.model), "joblib", plain.feed, plain.ask, RUNS_CODE)
    yield _skops(plain, contract)
    yield from _of_library(fitted, dataset, contract)
    yield from _onnx(fitted, dataset, files, contract, trained)
    yield _of_torch("TorchScript", "torchscript", plain, dataset, _scripted, PROGRAM)
    yield _of_torch(".pt2", "pt2", plain, dataset, _exported, FALLS_BACK)


# --- what the library itself has ---


def _plain(fitted: Any, dataset: Dataset, trained: np.ndarray) -> Plain:
    """By what the fitted model is made of: a network with its columns, one behind steps, trees with categories, or an estimator."""
    if hasattr(fitted, "fast"):
        fast = fitted.fast
        if hasattr(fitted, "columns"):
            return Plain(fast, lambda rows: _tensor(fitted.columns.matrix(rows)), _ask_module, fast, True)
        if fitted.before is None:
            return Plain(fast, lambda rows: _tensor(rows[fitted.names]), _ask_module, fast, True)
        pair = (fitted.before, fast)
        return Plain(pair, lambda rows: rows[fitted.names], _ask_pair, network=True)
    ask = _ask_probabilities if dataset.classes else _ask_values
    if hasattr(fitted, "categories"):
        return Plain(fitted.model, lambda rows: _given(fitted, dataset, rows), ask)
    if "text" not in dataset.kinds.values():
        held = dataset.features[dataset.holdout]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                alike = np.allclose(
                    ask(fitted, _matrix(dataset, held)), trained, rtol=0, atol=dataset.settings.gate.parity
                )
        except Exception:  # it knows its columns by name
            alike = False
        if alike:  # as the service gives it, in half the time
            return Plain(fitted, lambda rows: _matrix(dataset, rows), ask)
    return Plain(fitted, lambda rows: rows[list(dataset.kinds)], ask)


def _matrix(dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    return rows[list(dataset.kinds)].to_numpy(dtype=np.float64)


def _given(fitted: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    if "text" in dataset.kinds.values() and not fitted.categories:  # a library that takes text as it is
        return rows[list(dataset.kinds)].to_numpy(dtype=object)
    return encoded(rows, dataset.kinds, fitted.categories)


def _tensor(values: Any) -> Any:
    import torch

    given = values.toarray() if hasattr(values, "toarray") else values
    return torch.from_numpy(np.ascontiguousarray(given, dtype=np.float64))


def _ask_module(module: Any, tensor: Any) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return module(tensor).numpy()


def _ask_pair(pair: Any, rows: pd.DataFrame) -> np.ndarray:
    steps, module = pair
    return _ask_module(module, _tensor(steps.transform(rows)))


def _ask_probabilities(model: Any, rows: Any) -> np.ndarray:
    return np.asarray(model.predict_proba(rows), dtype=np.float64)


def _ask_values(model: Any, rows: Any) -> np.ndarray:
    return np.asarray(model.predict(rows), dtype=np.float64)


def _joblib(model: Any) -> bytes:
    import joblib

    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue()


def _skops(plain: Plain, contract: Mapping[str, Any]) -> Stored | Absent:
    if plain.network:
        return Absent("skops", "it stores estimators of scikit-learn, and this model has a PyTorch module")
    try:
        content = sklearn_model.dumps(plain.model)
    except ProjectError as error:
        return Absent("skops", error.what)
    return Stored("skops", content, "skops", plain.feed, plain.ask, NAMED_TYPES, contract["format"] == "skops")


def _of_library(fitted: Any, dataset: Dataset, contract: Mapping[str, Any]) -> Iterator[Stored]:
    """Boosted trees in the file format of their own library."""
    asks: dict[str, Ask] = {
        "xgboost": lambda booster, rows: booster.inplace_predict(rows),
        "lightgbm": lambda booster, rows: booster.predict(rows, num_threads=1),
        "catboost": _ask_catboost if dataset.classes else lambda model, rows: model.predict(rows, thread_count=1),
    }
    for one in _candidates(fitted, dataset):
        how = one.form["format"]
        if how in asks:
            (content,) = one.files.values()
            feed = lambda rows: _given(fitted, dataset, rows)  # noqa: E731
            name = f"{LIBRARIES[how]}'s own"
            yield Stored(name, content, how, feed, asks[how], TREES, contract["format"] == how)


def _ask_catboost(model: Any, rows: Any) -> np.ndarray:
    return model.predict(rows, prediction_type="Probability", thread_count=1)


def _candidates(fitted: Any, dataset: Dataset) -> Iterator[Candidate]:
    for forms in family_of(fitted).formats(fitted, dataset):
        for one in forms:
            if isinstance(one, Candidate):
                yield one


# --- ONNX ---


def _onnx(
    fitted: Any, dataset: Dataset, files: Mapping[str, bytes], contract: Mapping[str, Any], trained: np.ndarray
) -> Iterator[Stored | Absent]:
    """As it is served, or where it is served otherwise in the form that is closest; and in int8, both ways."""
    names: dict[How, str] = {"dynamic": "ONNX int8, dynamic", "static": "ONNX int8, static"}
    served = contract["format"] == "onnx"
    try:
        graph, part = (files["model.onnx"], contract) if served else _converted(fitted, dataset, contract, trained)
    except PortabilityError as error:
        for name in ("ONNX", *names.values()):
            yield Absent(name, error.what if name == "ONNX" else "there is no ONNX")
        return
    yield _graph("ONNX", graph, part, served)
    for how, name in names.items():
        if why := quantisation.nothing(graph, how):
            yield Absent(name, why)
            continue
        try:
            rows = quantised.calibration(dict(part), dataset) if how == "static" else ()
            yield _graph(name, quantisation.quantise(graph, how, rows), part)
        except Exception as error:  # ONNX Runtime's quantiser refuses graphs with exceptions of its own
            yield Absent(name, f"ONNX Runtime does not quantise it: {type(error).__name__}")


def _converted(
    fitted: Any, dataset: Dataset, contract: Mapping[str, Any], trained: np.ndarray
) -> tuple[bytes, dict[str, Any]]:
    tolerance, trial = dataset.settings.gate.parity, on_holdout(dataset, trained)

    def judge(one: Candidate) -> list[Any]:
        return measure(one.files, {**contract, **one.form}, [trial], tolerance).parity

    for forms in family_of(fitted).formats(fitted, dataset):
        made = [one for one in forms if isinstance(one, PortabilityError) or one.form["format"] == "onnx"]
        if made:
            found, _ = closest(made, judge, tolerance)
            return found.files["model.onnx"], {**contract, **found.form}
    raise PortabilityError("it does not become ONNX")


def _graph(name: str, graph: bytes, contract: Mapping[str, Any], served: bool = False) -> Stored:
    output = [contract["onnx"].get("probabilities") or contract["onnx"]["label"]]
    return Stored(
        name,
        graph,
        "onnx",
        lambda rows: run.feeds(contract, rows),
        lambda session, inputs: session.run(output, inputs)[0],
        NO_CODE,
        served,
    )


# --- PyTorch ---


def _of_torch(
    name: str, how: str, plain: Plain, dataset: Dataset, write: Callable[[Any, Any], bytes], safe: str
) -> Stored | Absent:
    if plain.module is None:
        steps = "the steps before the network are Python, which it cannot hold"
        return Absent(name, steps if plain.network else "for networks of PyTorch only")
    rows = plain.feed(dataset.features.head(4))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Stored(name, write(plain.module.eval(), rows), how, plain.feed, _ask_module, safe)
    except Exception as error:  # whatever the tracer does not take
        return Absent(name, f"PyTorch does not make it: {type(error).__name__}")


def _scripted(module: Any, rows: Any) -> bytes:
    import torch

    file = io.BytesIO()
    with torch.inference_mode():
        torch.jit.save(torch.jit.trace(module, rows), file)
    return file.getvalue()


def _exported(module: Any, rows: Any) -> bytes:
    import torch

    file = io.BytesIO()
    with torch.no_grad():
        program = torch.export.export(module, (rows,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, file)
    return file.getvalue()
