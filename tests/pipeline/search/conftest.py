"""A small data set whose model has a parameter that matters, searched in this process."""

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from pipeline import artifacts
from pipeline.data.dataset import Dataset, take_apart
from pipeline.search.workers import _begin as begin_for_real
from pipeline.settings import Settings

SPACE: dict[str, Any] = {"alpha": {"low": 0.01, "high": 1000.0, "log": True}}


def frame(rows: int = 80) -> pd.DataFrame:
    """Three numbers, of which one matters; the column `row` holds the place of each row."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(rows, 3)), columns=["a", "b", "c"])
    table.insert(0, "id", [f"r{row}" for row in range(rows)])
    return table.assign(target=3 * table["a"] + rng.normal(size=rows))


def settings(**search: Any) -> Settings:
    """Settings of a regression with this [search]."""
    return Settings.model_validate(
        {
            "name": "searched",
            "data": {"task": "regression", "id": "id", "target": "target"},
            "split": {"holdout": 0.25, "salt": "s"},
            "train": {"seed": 1, "parameters": {"alpha": 50.0}},
            "search": {"method": "random", "trials": 6, "folds": 2, "space": SPACE} | search,
            "gate": {"metric": "rmse", "margin": 0.1},
        }
    )


def build(parameters: dict, seed: int) -> Ridge:
    """A model with one parameter."""
    return Ridge(**parameters)


@pytest.fixture
def dataset(tmp_path, monkeypatch) -> Callable[..., Dataset]:
    """Makes the data set with a [search] of one's own; build and journal are this test's."""
    module = types.ModuleType("project.model")
    module.build = build
    package = types.ModuleType("project")
    package.model = module
    monkeypatch.setitem(sys.modules, "project", package)
    monkeypatch.setitem(sys.modules, "project.model", module)
    monkeypatch.setattr(artifacts, "BUILD", tmp_path / "build")
    monkeypatch.setattr(artifacts, "STATE", tmp_path / "state")
    return lambda **search: take_apart(frame(), settings(**search))


def begin(folds, threads) -> None:
    """What a process of the pool does first, after it has this test's project too."""
    module = types.ModuleType("project.model")
    module.build = build
    sys.modules["project"], sys.modules["project.model"] = types.ModuleType("project"), module
    sys.modules["project"].model = module
    begin_for_real(folds, threads)
