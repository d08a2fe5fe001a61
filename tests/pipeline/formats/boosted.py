"""Data with empty cells and text, and the models of boosted trees by library and task."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset, take_apart
from pipeline.formats import bundle, choose, family
from pipeline.settings import Settings

LIBRARIES = ("xgboost", "lightgbm", "catboost")
NAMES = {"xgboost": "XGB", "lightgbm": "LGBM", "catboost": "CatBoost"}


def data(task: str = "binary", text: bool = True, nulls: bool = True, rows: int = 600, **settings: Any) -> Dataset:
    """Rows whose target follows from numbers, of which some are empty, and from a town, which is empty in some rows."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)) * [1, 100, 0.01], columns=["a", "b c", "d"])
    frame["count"] = rng.integers(0, 5, rows)
    score = frame["a"] + frame["b c"] / 100 + (frame["count"] == 2) + rng.normal(size=rows) / 2
    if text:
        frame["town"] = rng.choice(["Köln", "Paris", "Rom", ""], rows)
        score += 2 * (frame["town"] == "Paris")
    if nulls:
        for name in ("a", "b c"):
            frame.loc[rng.random(rows) < 0.15, name] = np.nan
    frame["target"] = {
        "binary": np.where(score > 0.5, "yes", "no"),
        "multiclass": np.select([score < 0, score < 1], ["low", "mid"], "top"),
        "regression": score * 1000,
    }[task]
    frame["id"] = range(rows)
    columns = {"task": task, "id": "id", "target": "target"} | ({"positive": "yes"} if task == "binary" else {})
    given = {"name": "m", "data": columns, "split": {"holdout": 0.3, "salt": "x"}, "train": {"seed": 1}}
    return take_apart(frame, Settings.model_validate(given | {"gate": {"metric": "x", "margin": 0.0}} | settings))


def model(library: str, task: str, **parameters: Any) -> Any:
    """An unfitted model of a library, or a skip where it is not installed."""
    module = pytest.importorskip(library)
    kind = getattr(module, NAMES[library] + ("Regressor" if task == "regression" else "Classifier"))
    trees = "iterations" if library == "catboost" else "n_estimators"
    return kind(**{trees: 20} | parameters)


@dataclass(frozen=True)
class Chosen:
    """A fitted model, how it is served, and the contract."""

    fitted: Any
    served: choose.Served
    contract: dict[str, Any]
    tried: list[choose.Trial]


def chosen(unfitted: Any, dataset: Dataset) -> Chosen:
    """The model fitted on the training side, in the format that is chosen for it."""
    fitted = family.fit(unfitted, dataset, np.flatnonzero(~dataset.holdout))
    held = dataset.features[dataset.holdout].reset_index(drop=True)

    def contract(form):
        return bundle.contract(dataset, form, {"ranges": {}, "values": {}}, "c0ffee", dataset.settings.gate.parity)

    tried = choose.prepare(fitted, dataset, held, family.answer(fitted, dataset, held), contract({})["inputs"])
    served = choose.choose(fitted, dataset, tried, contract)
    return Chosen(fitted, served, contract(served.form), tried)
