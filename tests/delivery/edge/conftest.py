"""Small bundles, and the two runtimes from npm, which are fetched once for all tests."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from delivery.edge import folder as edge_folder
from delivery.edge import packages
from pipeline.artifacts import read_json, write_json
from pipeline.data.dataset import take_apart
from pipeline.errors import StageError
from pipeline.formats import bundle, choose
from pipeline.settings import Settings

RELEASE = {"name": "m", "version": "7", "run_id": "", "commit": "", "digest": ""}


def dataset_of(task: str, text: bool):
    """300 rows of numbers, with whole numbers, yes and no, an empty cell and, if asked for, towns."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"id": range(300), "size": rng.normal(3, 1, 300), "rooms": rng.integers(1, 9, 300)})
    frame["new"] = rng.random(300) < 0.5
    frame["age"] = np.where(rng.random(300) < 0.1, np.nan, rng.normal(40, 10, 300))
    if text:
        frame["town"] = rng.choice(["Köln", "Paris", ""], 300)
    score = frame["size"] - 3 + frame["rooms"] / 9 + rng.normal(size=300) / 2
    frame["target"] = {"binary": np.where(score > 0.5, "yes", "no"), "regression": score + 2}[task]
    data = {"task": task, "id": "id", "target": "target"} | ({"positive": "yes"} if task == "binary" else {})
    settings = {"name": "m", "data": data, "split": {"holdout": 0.3, "salt": "x"}, "train": {"seed": 1}}
    return take_apart(frame, Settings.model_validate(settings | {"gate": {"metric": "x", "margin": 0.0}}))


def bundle_of(folder: Path, task: str, text: bool) -> Path:
    """A sealed bundle of a linear model in a new folder."""
    dataset = dataset_of(task, text)
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ["size", "rooms", "new", "age"]
    start = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["town"]), (numbers, columns))
    last = LogisticRegression() if task == "binary" else LinearRegression()
    model = make_pipeline(start if text else numbers, last)
    model.fit(dataset.features[~dataset.holdout], dataset.y[~dataset.holdout])
    held = dataset.features[dataset.holdout].reset_index(drop=True)
    trained = choose.answer(model, dataset, held)
    checks = {"ranges": {"rooms": {"minimum": 1, "maximum": 20}}, "values": {}}

    def contract(form):
        return bundle.contract(dataset, form, checks, "c0ffee", 1e-5)

    tried = choose.prepare(model, dataset, held, trained, contract({})["inputs"])
    served = choose.choose(model, dataset, tried, contract)
    assert served.form["format"] == "onnx", served.form["format_reason"]
    source = folder / "content"
    source.mkdir(parents=True)
    for name, data in served.files.items():
        (source / name).write_bytes(data)
    write_json(source / "contract.json", contract(served.form))
    write_json(source / "golden.json", bundle.golden(dataset, trained, 1e-5))
    write_json(source / "reference.json", {})
    bundle.assemble(source, folder / "bundle", RELEASE)
    return folder / "bundle"


def with_threshold(source: Path) -> None:
    """Have a bundle of two classes say "yes" from a probability of 0.8 on, in its golden rows as well."""
    contract, golden = read_json(source / "contract.json"), read_json(source / "golden.json")
    write_json(source / "contract.json", contract | {"labels": "threshold", "threshold": 0.8})
    yes = contract["classes"].index("yes")
    for one in golden["expected"]:
        one["label"] = "yes" if one["probabilities"][yes] >= 0.8 else "no"
    write_json(source / "golden.json", golden)


@pytest.fixture(scope="session")
def runtimes() -> packages.Runtimes:
    """Node's and the browser's runtime; skips where npm cannot fetch them."""
    try:
        return packages.fetch(Path(tempfile.gettempdir()) / f"slipway-edge-{os.getuid()}")
    except StageError as error:
        pytest.skip(error.what)


@pytest.fixture(scope="session")
def folders(tmp_path_factory, runtimes) -> dict[str, tuple[Path, edge_folder.Edge]]:
    """The folder of `make edge` for three models: numbers as a matrix, columns with text and a threshold, values."""
    made = {}
    for name, task, text in (("matrix", "binary", False), ("columns", "binary", True), ("values", "regression", False)):
        work = tmp_path_factory.mktemp(name)
        source = bundle_of(work, task, text)
        if name == "columns":
            with_threshold(source)
        made[name] = work / "edge", edge_folder.write(source, work / "edge", runtimes)
    return made
