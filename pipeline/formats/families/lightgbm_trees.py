"""LightGBM: a bare LGBMClassifier or LGBMRegressor. Texts are its categories, empty cells its missing values.

It compares 64-bit numbers, so ONNX rarely answers alike beside its thresholds; then LightGBM itself serves, from its own text format.
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

NAME = "LightGBM"
CLASSES = ("lightgbm.sklearn.LGBMClassifier", "lightgbm.sklearn.LGBMRegressor", "lightgbm.sklearn.LGBMRanker")
STOPS = (
    "early_stopping_rounds",
    "early_stopping_round",
    "early_stopping",
    "n_iter_no_change",
)  # its names for one thing
# With these, LightGBM promises the same trees whatever the number of threads.
STEADY = {"deterministic": True, "force_row_wise": True, "n_jobs": 1, "verbosity": -1}
ALIASES = {
    "n_jobs": ("num_threads", "num_thread", "nthread", "nthreads"),
    "force_row_wise": ("force_col_wise",),
    "random_state": ("seed", "random_seed"),
    "verbosity": ("verbose",),
}


def takes(model: Any) -> bool:
    """LightGBM's estimators, fitted or not."""
    return boosted_trees.is_of(model, CLASSES)


def fit(model: Any, dataset: Dataset, training: Training) -> Trees:
    """Fitted with the training side's categories; with early_stopping_rounds it answers with the trees up to the best."""
    known = boosted_trees.categories(dataset)
    boosted_trees.defaults(model, {"random_state": training.seed, **STEADY}, ALIASES)
    stopping = [name for name in STOPS if model.get_params().get(name)]
    features = boosted_trees.encoded(dataset.features.iloc[training.rows], dataset.kinds, known)
    some, others = boosted_trees.parts(features, dataset, training, bool(stopping))
    places = [place for place, name in enumerate(dataset.kinds) if name in known]
    beside = {}
    if others is None:
        model.set_params(**dict.fromkeys(stopping))
    else:
        weights = None if others.weights is None else [others.weights]
        beside = {"eval_X": others.features, "eval_y": others.y, "eval_sample_weight": weights}
    model.fit(some.features, some.y, sample_weight=some.weights, categorical_feature=places or "auto", **beside)
    return Trees(model, known)


def answer(fitted: Trees, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """What the estimator itself answers."""
    features = boosted_trees.encoded(rows, dataset.kinds, fitted.categories)
    given = fitted.model.predict_proba(features) if dataset.classes else fitted.model.predict(features)
    return np.asarray(given, dtype=np.float64)


def untrusted(fitted: Trees, trusted: list[str]) -> list[str]:
    """Its own file format is text."""
    return []


def formats(fitted: Trees, dataset: Dataset) -> Iterator[Forms]:
    """ONNX, then LightGBM itself."""
    yield _onnx(fitted, dataset)
    yield _own(fitted)


def _onnx(fitted: Trees, dataset: Dataset) -> Forms:
    if fitted.categories:
        yield PortabilityError("ONNX has no counterpart for its splits on categories")
    else:
        yield from forms.forms(fitted.model, dataset)


def _own(fitted: Trees) -> Forms:
    from lightgbm import __version__

    booster = fitted.model.booster_
    text = booster.model_to_string(num_iteration=fitted.model.best_iteration_ or -1)
    yield boosted_trees.own_format("lightgbm", "model.txt", text.encode(), fitted.categories, __version__, NAME)


def history(fitted: Trees) -> dict[str, list[float]]:
    """What it stopped by, after each tree."""
    return boosted_trees.history(fitted.model.evals_result_ or {})


def log(fitted: Trees, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Logged as a Booster, in LightGBM's own text format."""
    from importlib.metadata import version

    import mlflow.lightgbm

    names = ("lightgbm", "numpy", "pandas")
    return mlflow.lightgbm.log_model(
        fitted.model.booster_,
        model_id=model_id,
        signature=signature,
        metadata={"categories": dict(fitted.categories)},
        pip_requirements=[f"{name}=={version(name)}" for name in names],
    )
