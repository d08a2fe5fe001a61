"""scikit-learn: any estimator or pipeline with fit(), those of other libraries in a pipeline too.

Served as ONNX where skl2onnx converts it; else by scikit-learn itself, stored by skops.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import ProjectError
from pipeline.formats import sample_weights, sklearn_model, trusted_types
from pipeline.formats.family import Forms, Training, classes_of
from pipeline.formats.onnx import converters, forms

NAME = "scikit-learn"
NET = "skorch.net.NeuralNet"


def takes(model: Any) -> bool:
    """Whatever has a fit()."""
    return hasattr(model, "fit")


def title(model: Any) -> str:
    """What people call a pipeline: its last step."""
    return type(model.steps[-1][1] if hasattr(model, "steps") else model).__name__


def unfit(model: Any, dataset: Dataset) -> str:
    """A network inside, the other task, and weights that would not reach what learns; whatever else it does not take an estimator says itself."""
    from sklearn.base import is_classifier, is_regressor

    if network := _network_in(model):
        return network
    task = dataset.settings.data.task
    tagged = hasattr(model, "__sklearn_tags__")  # a class of the team's own need not say what it predicts
    if tagged and dataset.classes and is_regressor(model):
        return f'it predicts values, and [data] task = "{task}" asks for classes: return a classifier, or set task = "regression"'
    if tagged and not dataset.classes and is_classifier(model):
        return (
            f'it predicts classes, and [data] task = "{task}" asks for values: return a regressor, or set another task'
        )
    lacking = "" if dataset.weights is None else sample_weights.unweighted(model)
    if not lacking:
        return ""
    return (
        f"{lacking} takes no sample_weight in fit(), so the weights ([data] weight = {dataset.settings.data.weight!r}) would not reach it. "
        'Choose an estimator that takes them, put the pipeline around what wraps it, or set weight = ""'
    )


def _network_in(model: Any) -> str:
    held = next((one for one in converters.parts(model) if NET in classes_of(one)), None)
    name = type(held).__name__ if held is not None else sklearn_model.torch_in(model)
    if not name:
        return ""
    return (
        f"it holds {name}, which can be served only as the last step of a pipeline, or as what build() returns: search for its parameters "
        "with [search] in pipeline.toml; docs/networks.md has more"
    )


def fit(model: Any, dataset: Dataset, training: Training) -> Any:
    """The estimator, fitted on all rows; weights go to whatever learns the target: the last step of a pipeline, and what is in it."""
    features, y = dataset.features.iloc[training.rows], dataset.y[training.rows]
    if training.weights is None:
        return model.fit(features, y)
    with warnings.catch_warnings():
        # A calibrated pipeline is given them twice, once for its last step, of which scikit-learn does not know here.
        warnings.filterwarnings("ignore", message="Since Pipeline does not appear to accept sample_weight")
        return model.fit(features, y, **dict.fromkeys(sample_weights.parameters(model), training.weights))


def answer(fitted: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """What predict_proba(), or predict() of a regression, says."""
    if not dataset.classes:
        return np.asarray(fitted.predict(rows), dtype=np.float64).ravel()
    if not hasattr(fitted, "predict_proba"):
        raise ProjectError(
            "the model has no predict_proba()",
            "a classifier must answer with probabilities; scikit-learn's CalibratedClassifierCV adds them",
        )
    return np.asarray(fitted.predict_proba(rows), dtype=np.float64)


def untrusted(fitted: Any, trusted: list[str]) -> list[str]:
    """The types inside it that neither skops nor these settings trust."""
    return trusted_types.beyond(sklearn_model.types_beyond(sklearn_model.dumps(fitted)), trusted)


def formats(fitted: Any, dataset: Dataset) -> Iterator[Forms]:
    """ONNX, then scikit-learn itself."""
    yield forms.forms(fitted, dataset)
    yield sklearn_model.forms(fitted, dataset)


def history(fitted: Any) -> dict[str, list[float]]:
    """Nothing: it is not kept."""
    return {}


def log(fitted: Any, dataset: Dataset, model_id: str, signature: Any, sample: pd.DataFrame) -> Any:
    """Logged in the format of skops."""
    from importlib.metadata import version

    import mlflow

    return mlflow.sklearn.log_model(
        fitted,
        model_id=model_id,
        serialization_format="skops",
        skops_trusted_types=sklearn_model.types_beyond(sklearn_model.dumps(fitted)),  # all of them were judged
        signature=signature,
        input_example=sample,
        pip_requirements=[f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy", "skops")],
    )
