"""The models that every server answers with, as their own users would store them, and rows to ask them."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data import drift
from pipeline.data.dataset import Dataset, take_apart
from pipeline.errors import SlipwayError
from pipeline.formats import bundle, choose
from pipeline.settings import Settings

SEED = 42
LARGEST = 1000  # rows of the largest batch
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
        _bundle(model, dataset, folder)
    _for_mlflow(model, features, folder / "mlflow")
    rows = features[np.random.default_rng(SEED).integers(0, len(features), LARGEST)]
    return Subject(folder, rows, model.predict_proba(rows))


def _dataset() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    source = load_breast_cancer(as_frame=True)
    frame = source.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame.insert(0, "id", [f"wdbc-{row:04d}" for row in range(1, len(frame) + 1)])
    frame["diagnosis"] = source.target_names[source.target]
    return take_apart(frame, Settings(**SETTINGS))


def _estimator(kind: str) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "forest":
        return RandomForestClassifier(n_estimators=100, random_state=SEED)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=SEED))


def _bundle(model: Any, dataset: Dataset, folder: Path) -> None:
    tolerance = dataset.settings.gate.parity
    held = dataset.features[dataset.holdout]
    prediction = model.predict_proba(held.to_numpy())
    # Every feature has a range, as in the shipped example: the service checks each value of each request.
    ranges = {name: {"minimum": 0, "maximum": float(column.max()) * 10} for name, column in dataset.features.items()}
    checks = {"ranges": ranges, "values": {}}

    def contract_for(form: dict) -> dict:
        return bundle.contract(dataset, form, checks, "benchmark", tolerance)

    tried = choose.prepare(model, dataset, held, prediction, contract_for({})["inputs"])
    chosen = choose.choose(model, dataset, tried, contract_for)
    if chosen.form["format"] != "onnx":
        raise SlipwayError(f"the benchmark's model is not carried by ONNX: {chosen.form['format_reason']}")
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
