"""CatBoost: a bare CatBoostClassifier or CatBoostRegressor. It takes texts as they are, empty ones as a category of their own.

Served as ONNX, which CatBoost writes itself, where all columns are numbers and the graph answers alike; else by CatBoost itself.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.formats import boosted_trees
from pipeline.formats.boosted_trees import Trees, title, unfit
from pipeline.formats.family import Forms, Training
from pipeline.formats.onnx import forms

__all__ = ["NAME", "answer", "fit", "formats", "log", "takes", "title", "unfit", "untrusted"]

NAME = "CatBoost"
CLASSES = ("catboost.core.CatBoostClassifier", "catboost.core.CatBoostRegressor", "catboost.core.CatBoostRanker")
STOPS = ("early_stopping_rounds", "od_wait", "od_pval")
CHANCE = ("model_guid", "train_finish_time")  # what CatBoost notes in each model, another every time
# Other threads give other trees; and it would write a folder of logs beside the code.
STEADY = {"thread_count": 1, "allow_writing_files": False, "verbose": False}
ALIASES = {
    "random_seed": ("random_state",),
    "verbose": ("logging_level", "silent", "verbose_eval"),
}


def takes(model: Any) -> bool:
    """CatBoost's estimators, fitted or not."""
    return boosted_trees.is_of(model, CLASSES)


def fit(model: Any, dataset: Dataset, training: Training) -> Trees:
    """Fitted on texts as they are; with early_stopping_rounds it keeps the trees up to the best."""
    boosted_trees.defaults(model, {"random_seed": training.seed, **STEADY}, ALIASES)
    if places := [place for place, kind in enumerate(dataset.kinds.values()) if kind == "text"]:
        model.set_params(cat_features=places)
    stopping = [name for name in STOPS if model.get_params().get(name) is not None]
    features = given_as(dataset.features.iloc[training.rows], dataset)
    some, others = boosted_trees.parts(features, dataset, training, bool(stopping))
    if others is None:
        if stopping:
            model.set_params(**dict.fromkeys(stopping))
        model.fit(some.features, some.y, sample_weight=some.weights)
    else:
        from catboost import Pool

        beside = Pool(others.features, others.y, cat_features=places, weight=others.weights)
        model.fit(some.features, some.y, sample_weight=some.weights, eval_set=beside)
    noted = model.get_metadata()
    for name in CHANCE:
        noted[name] = ""
    return Trees(model)


def given_as(rows: pd.DataFrame, dataset: Dataset) -> np.ndarray:
    """Feature rows as CatBoost takes them (n, columns): float64, or objects where a column is text."""
    columns = rows[list(dataset.kinds)]
    return columns.to_numpy(dtype=object if boosted_trees.texts(dataset.kinds) else np.float64)


def answer(fitted: Trees, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """What the estimator itself answers."""
    features = given_as(rows, dataset)
    given = fitted.model.predict_proba(features) if dataset.classes else fitted.model.predict(features)
    return np.asarray(given, dtype=np.float64)


def untrusted(fitted: Trees, trusted: list[str]) -> list[str]:
    """Its own file format holds numbers and texts only."""
    return []


def formats(fitted: Trees, dataset: Dataset) -> Iterator[Forms]:
    """ONNX, then CatBoost itself."""
    yield _onnx(fitted, dataset)
    yield _own(fitted)


def _onnx(fitted: Trees, dataset: Dataset) -> Forms:
    if boosted_trees.texts(dataset.kinds):
        yield PortabilityError("ONNX has no counterpart for its splits on categories")
        return
    try:
        graph = _without_maps(_saved(fitted.model, "onnx"))
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        yield PortabilityError(f"it cannot become ONNX: {first}")
        return
    outputs = {"label": "label", "probabilities": "probabilities"} if dataset.classes else {"label": "predictions"}
    yield forms.candidate(graph, {"layout": "matrix", "dtype": "float32", "probabilities": None, **outputs})


def _without_maps(graph: bytes) -> bytes:
    """The graph with probabilities as a tensor instead of a list of maps, and without the notes that differ each time."""
    import onnx

    model = onnx.load_from_string(graph)
    del model.metadata_props[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")  # of a regression it says (n,), and gives (n, 1)
    for node in [one for one in model.graph.node if one.op_type == "ZipMap"]:
        place = next(place for place, one in enumerate(model.graph.output) if one.name == node.output[0])
        del model.graph.output[place]
        name = node.input[0]
        model.graph.node.remove(node)
        for other in model.graph.node:
            other.output[:] = ["probabilities" if one == name else one for one in other.output]
            other.input[:] = ["probabilities" if one == name else one for one in other.input]
        model.graph.output.append(onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, None))
    return model.SerializeToString(deterministic=True)


def _saved(model: Any, kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "model"
        model.save_model(str(path), format=kind)
        return path.read_bytes()


def _own(fitted: Trees) -> Forms:
    from catboost import __version__

    yield boosted_trees.own_format("catboost", "model.cbm", _saved(fitted.model, "cbm"), {}, __version__, NAME)


def history(fitted: Trees) -> dict[str, list[float]]:
    """What it stopped by, after each tree."""
    found = fitted.model.get_evals_result()
    return boosted_trees.history({name: figures for name, figures in found.items() if name != "learn"})


def log(fitted: Trees, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Logged in CatBoost's own file format."""
    from importlib.metadata import version

    import mlflow.catboost

    names = ("catboost", "numpy", "pandas")
    return mlflow.catboost.log_model(
        fitted.model,
        model_id=model_id,
        signature=signature,
        pip_requirements=[f"{name}=={version(name)}" for name in names],
    )
