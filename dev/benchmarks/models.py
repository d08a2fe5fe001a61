"""The models that every server answers with, as their own users would store them, and rows to ask them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data import drift
from pipeline.data.dataset import Dataset, take_apart
from pipeline.errors import SlipwayError
from pipeline.formats import bundle, choose, family
from pipeline.settings import Settings

SEED = 42
LARGEST = 1000  # rows of the largest batch
FORMATS = {"network": "onnx", "XGBoost": "onnx", "LightGBM": "lightgbm"}  # of each kind, in its bundle
SETTINGS: dict[str, Any] = {
    "name": "breast-cancer",
    "data": {"task": "binary", "id": "id", "target": "diagnosis", "positive": "malignant"},
    "split": {"holdout": 0.25, "salt": "slipway"},
    "train": {"seed": SEED},
    "gate": {"metric": "log_loss", "margin": 0.01},
}


@dataclass(frozen=True)
class Subject:
    """A trained model in `folder` (`bundle`, `model.joblib`, `mlflow`), rows, and the model's own answers to them."""

    folder: Path
    rows: np.ndarray
    probabilities: np.ndarray


def make(kind: str, folder: Path) -> Subject:
    """Train "forest" (100 trees) or "linear" (scaled logistic regression) and store it for each kind of server.

    The bundle is made by the pipeline's own code, so the form of its graph is the one that a user would get. Raises
    SlipwayError when the graph does not answer like the model.
    """
    import joblib

    dataset = _dataset()
    features = dataset.features.to_numpy()
    # Trained without column names, which scikit-learn would miss in each request of a server that has none.
    model = _estimator(kind).fit(features[~dataset.holdout], dataset.y[~dataset.holdout])
    folder.mkdir(parents=True)
    joblib.dump(model, folder / "model.joblib")
    with warnings.catch_warnings():  # the pipeline asks with column names, and scikit-learn would say so each time
        warnings.filterwarnings("ignore", message="X has feature names")
        _bundle(model, dataset, folder, lambda rows: model.predict_proba(rows.to_numpy()), "onnx")
    _for_mlflow(model, features, folder / "mlflow")
    return stored(folder)


def stored(folder: Path) -> Subject:
    """A forest or a linear model that was made in this folder."""
    import joblib

    rows = _some(_dataset().features.to_numpy())
    return Subject(folder, rows, joblib.load(folder / "model.joblib").predict_proba(rows))


def _some(features: np.ndarray) -> np.ndarray:
    return features[np.random.default_rng(SEED).integers(0, len(features), LARGEST)]


def _dataset() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer(as_frame=True)
    frame = source.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame.insert(0, "id", [f"wdbc-{row:04d}" for row in range(1, len(frame) + 1)])
    frame["diagnosis"] = source.target_names[source.target]
    return take_apart(frame, Settings(**SETTINGS))


def make_of_family(kind: str, folder: Path) -> Subject:
    """Train "network" (PyTorch), "XGBoost" (numbers) or "LightGBM" (numbers and two columns of text), and store it for both its servers.

    It is trained, asked and put into a bundle by its family. Raises SlipwayError when the bundle is not of the format in `FORMATS`.
    """
    dataset = _with_text(_dataset()) if kind == "LightGBM" else _dataset()
    model = family.fit(_unfitted(kind), dataset, np.flatnonzero(~dataset.holdout))
    folder.mkdir(parents=True)
    _for_fastapi(kind, model, dataset, folder / "model.joblib")
    _bundle(model, dataset, folder, lambda rows: family.answer(model, dataset, rows), FORMATS[kind])
    places = np.random.default_rng(SEED).integers(0, len(dataset.features), LARGEST)
    rows = dataset.features.iloc[places]
    return Subject(folder, rows.to_numpy(), family.answer(model, dataset, rows))


def _unfitted(kind: str) -> Any:
    if kind == "network":
        import torch
        from torch import nn

        torch.manual_seed(SEED)
        return nn.Sequential(nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    if kind == "XGBoost":
        from xgboost import XGBClassifier

        return XGBClassifier(n_estimators=100, max_depth=4)
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=100)


def _with_text(dataset: Dataset) -> Dataset:
    """The same rows with two more columns: texts that say in which part of its range a number lies."""
    frame = dataset.features.copy()
    for name, column, words in (
        ("size", "mean_radius", ("small", "middle", "large", "very large")),
        ("surface", "mean_texture", ("smooth", "fine", "coarse")),
    ):
        frame[name] = pd.qcut(frame[column], len(words), labels=list(words)).astype(str)
    frame.insert(0, "id", [f"wdbc-{row:04d}" for row in range(1, len(frame) + 1)])
    frame["diagnosis"] = np.array(dataset.classes)[dataset.y]
    return take_apart(frame, dataset.settings)


def _for_fastapi(kind: str, model: Any, dataset: Dataset, file: Path) -> None:
    """The library's own model with what turns a row into its input, as its peer in dev/benchmarks/peers reads it."""
    if kind == "network":
        import torch

        torch.save((model.fast.network, model.fast.mean, model.fast.deviation), file)
        return
    import joblib

    known = {name: {text: float(code) for code, text in enumerate(texts)} for name, texts in model.categories.items()}
    joblib.dump((model.model, [known.get(name) for name in dataset.kinds]), file)


def _estimator(kind: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "forest":
        return RandomForestClassifier(n_estimators=100, random_state=SEED)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=SEED))


def _bundle(model: Any, dataset: Dataset, folder: Path, ask: Callable[[pd.DataFrame], np.ndarray], wanted: str) -> None:
    tolerance = dataset.settings.gate.parity
    held = dataset.features[dataset.holdout]
    prediction = ask(held)
    # Every feature has a range, as in the shipped example: the service checks each value of each request.
    ranges = {name: {"minimum": 0, "maximum": float(column.max()) * 10} for name, column in dataset.features.items()
              if dataset.kinds[name] != "text"}  # fmt: skip
    checks = {"ranges": ranges, "values": {}}

    def contract_for(form: dict) -> dict:
        return bundle.contract(dataset, form, checks, "benchmark", tolerance)

    tried = choose.prepare(model, dataset, held, prediction, contract_for({})["inputs"])
    chosen = choose.choose(model, dataset, tried, contract_for)
    if chosen.form["format"] != wanted:
        raise SlipwayError(f"the benchmark's model is not served as {wanted}: {chosen.form['format_reason']}")
    content = folder / "content"
    content.mkdir()
    for name, data in chosen.files.items():
        (content / name).write_bytes(data)
    bundle.write_json(content / "contract.json", contract_for(chosen.form))
    bundle.write_json(content / "golden.json", bundle.golden(dataset, prediction, tolerance))
    bundle.write_json(content / "reference.json", drift.reference(dataset, ~dataset.holdout, prediction, {}))
    bundle.write_json(content / bundle.BACKGROUND, bundle.background(dataset))
    release = {"name": dataset.settings.name, "version": "1", "run_id": "benchmark", "commit": "benchmark"}
    bundle.assemble(content, folder / "bundle", release | {"digest": bundle.digest(content)})


def _for_mlflow(model: Any, features: np.ndarray, folder: Path) -> None:
    import logging

    import mlflow

    logging.getLogger("mlflow").setLevel(
        logging.ERROR
    )  # that cloudpickle runs code is no news where the model is our own
    mlflow.sklearn.save_model(
        model,
        folder,
        serialization_format="cloudpickle",
        signature=mlflow.models.infer_signature(features[:3], model.predict(features[:3])),
        pip_requirements=["scikit-learn"],
    )
