"""Small data sets and networks for the tests of networks, and one shipped as far as its bundle's model."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import Dataset, take_apart
from pipeline.formats import bundle, choose, family
from pipeline.settings import Settings

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make .venv/torch.ready")


def dataset(task: str = "binary", rows: int = 200, text: bool = False, nulls: bool = False, **network) -> Dataset:
    """Rows with three columns of numbers, and if asked for one of text and some empty cells."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)) * [1, 100, 0.01] + [0, 5000, 0], columns=["a", "b", "c"])
    score = frame.a + (frame.b - 5000) / 100 + rng.normal(scale=0.3, size=rows)
    if text:
        frame["colour"] = rng.choice(["red", "green", "blue"], rows)
        score += frame.colour.map({"red": 1.0, "green": 0.0, "blue": -1.0})
    if nulls:
        frame.loc[::9, "b"] = np.nan
    target = {
        "binary": np.where(score > 0, "yes", "no"),
        "multiclass": np.array(["low", "mid", "top"])[np.digitize(score, [-0.8, 0.8])],
        "regression": score * 1000 + 3,
    }[task]
    data = {"task": task, "id": "id", "target": "y", **({"positive": "yes"} if task == "binary" else {})}
    train = {"seed": 1, "network": {"epochs": 12, "batch_size": 32, "learning_rate": 0.02, **network}}
    settings = {"name": "x", "data": data, "split": {"holdout": 0.25, "salt": "s"}, "train": train}
    settings["gate"] = {"metric": "rmse" if task == "regression" else "log_loss", "margin": 0.1}
    return take_apart(frame.assign(id=range(rows), y=target), Settings.model_validate(settings))


def network(outputs: int, *layers, seed: int = 1):
    """A module with one hidden layer and these layers behind it, whose first weights are by the seed."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.LazyLinear(8), *(layers or (torch.nn.ReLU(),)), torch.nn.Linear(8, outputs))


def fitted(model, data: Dataset):
    """A model, fitted on the training side."""
    return family.fit(model, data, np.flatnonzero(~data.holdout))


def served(model, data: Dataset):
    """How a fitted model is served, on which rows that was tried, and its contract."""
    held = data.features[data.holdout].reset_index(drop=True)
    trained = family.answer(model, data, held)

    def contract(form):
        return bundle.contract(data, form, {"ranges": {}, "values": {}}, "c0ffee", 1e-5)

    tried = choose.prepare(model, data, held, trained, contract({})["inputs"])
    found = choose.choose(model, data, tried, contract)
    return found, tried, contract(found.form)
