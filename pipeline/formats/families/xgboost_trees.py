"""XGBoost: a bare XGBClassifier or XGBRegressor. Texts are its categories, empty cells its missing values.

Served as ONNX where the converted trees answer alike; else by XGBoost itself, from its own file format.
"""

from collections.abc import Iterator
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

NAME = "XGBoost"
CLASSES = ("xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRegressor", "xgboost.sklearn.XGBRanker")


def takes(model: Any) -> bool:
    """XGBoost's estimators, fitted or not."""
    return boosted_trees.is_of(model, CLASSES)


def fit(model: Any, dataset: Dataset, training: Training) -> Trees:
    """Fitted with the training side's categories; with early_stopping_rounds it keeps the trees up to the best."""
    known = boosted_trees.categories(dataset)
    boosted_trees.defaults(model, {"random_state": training.seed, "n_jobs": 1})
    if known:
        types = ["c" if name in known else "q" for name in dataset.kinds]
        model.set_params(enable_categorical=True, feature_types=types)
    stops = model.get_params().get("early_stopping_rounds") is not None
    features = boosted_trees.encoded(dataset.features.iloc[training.rows], dataset.kinds, known)
    some, others = boosted_trees.parts(features, dataset, training, stops)
    if others is None:
        if stops:
            model.set_params(early_stopping_rounds=None)
        model.fit(some.features, some.y, sample_weight=some.weights, verbose=False)
        return Trees(model, known)
    beside = None if others.weights is None else [others.weights]
    model.fit(
        some.features,
        some.y,
        sample_weight=some.weights,
        eval_set=[(others.features, others.y)],
        sample_weight_eval_set=beside,
        verbose=False,
    )
    model.load_model(bytearray(model.get_booster()[: model.best_iteration + 1].save_raw("ubj")))
    return Trees(model, known)


def answer(fitted: Trees, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """What the estimator itself answers."""
    features = boosted_trees.encoded(rows, dataset.kinds, fitted.categories)
    given = fitted.model.predict_proba(features) if dataset.classes else fitted.model.predict(features)
    return np.asarray(given, dtype=np.float64)


def untrusted(fitted: Trees, trusted: list[str]) -> list[str]:
    """Its own file format holds numbers only."""
    return []


def formats(fitted: Trees, dataset: Dataset) -> Iterator[Forms]:
    """ONNX, then XGBoost itself."""
    yield _onnx(fitted, dataset)
    yield _own(fitted)


def _onnx(fitted: Trees, dataset: Dataset) -> Forms:
    if fitted.categories:
        yield PortabilityError("ONNX has no counterpart for its splits on categories")
    else:
        yield from forms.forms(fitted.model, dataset)


def _own(fitted: Trees) -> Forms:
    from xgboost import __version__

    raw = bytes(fitted.model.get_booster().save_raw("ubj"))
    yield boosted_trees.own_format("xgboost", "model.ubj", raw, fitted.categories, __version__, NAME)


def history(fitted: Trees) -> dict[str, list[float]]:
    """What it stopped by, after each tree."""
    return boosted_trees.history(fitted.model.evals_result() if fitted.model.early_stopping_rounds else {})


def log(fitted: Trees, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Logged as a Booster, in XGBoost's own file format."""
    from importlib.metadata import version

    import mlflow.xgboost

    return mlflow.xgboost.log_model(
        fitted.model.get_booster(),
        model_id=model_id,
        model_format="ubj",
        signature=signature,
        metadata={"categories": dict(fitted.categories)},
        pip_requirements=[f"xgboost=={_version()}", *(f"{name}=={version(name)}" for name in ("numpy", "pandas"))],
    )


def _version() -> str:
    from xgboost import __version__

    return __version__
