"""A small log that was answered by version 3 of a model, and a version 4 that answers otherwise, to be replayed."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from pipeline.experiments.replay import scoring
from pipeline.experiments.replay.run import Asked, Log, Run, begin
from pipeline.experiments.replay.scoring import Challenger
from pipeline.formats import bundle
from pipeline.settings import Settings, load_settings
from serving.log import export, reader
from serving.log.identity import identity
from serving.log.marks import marks
from serving.log.store import Store
from serving.model.contract import Contract
from tests.serving.bundles import make_bundle, read, seal
from tests.serving.counts.logged import DAY, MONDAY

NOW = MONDAY + 2 * DAY
ASKED = Asked("production", 7, 1_000_000)


def settings(contract: Contract) -> Settings:
    """Those of the example, for a model with this contract."""
    found = load_settings("tests/example/pipeline.toml")
    data = found.data.model_copy(update={"task": contract.task, "target": "target", "positive": contract.positive})
    gate = found.gate.model_copy(
        update={
            "resamples": 200,
            "slices": [next(column.name for column in contract.inputs if column.type == "number")],
            "slice_rows": 5,
        }
    )
    if contract.task == "regression":
        gate = gate.model_copy(update={"metric": "mae"})
    return found.model_copy(update={"name": contract.name, "data": data, "gate": gate})


def challenger(folder: Path, kind: str = "binary", bias: float = 1.0, **changes: Any) -> Challenger:
    """A model of this kind whose bias is moved, as version 4; `changes` replace keys of its contract."""
    make_bundle(kind, folder, version="4")
    model = onnx.load(folder / "model.onnx")
    one = next(one for one in model.graph.initializer if one.name == "bias")
    one.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(one) + np.float32(bias), "bias"))
    onnx.save(model, folder / "model.onnx")
    seal(folder)
    plain = read(folder, "contract.json") | changes
    return Challenger("version 4", "4" * 64, msgspec.convert(plain, Contract), plain, bundle.model_files(folder))


def fill(
    url: str, model: Challenger, requests: int = 60, role: str = "served", name: str = "r", at: float = MONDAY
) -> None:
    """So many requests of callers, an hour apart at most, answered by version 3: one row each, every second with its outcome."""
    rng = np.random.default_rng(1)
    example = model.contract.example
    records, outcomes = [], []
    for number in range(requests):
        row = [_varied(rng, column.type, value) for column, value in zip(model.contract.inputs, example, strict=True)]
        given = _answer(model.contract, rng)
        moment = at + number * DAY / requests
        about = (f"{name}-{number}", moment, "shop", identity(f"subject-{number % 20}"), role, 1, 0.2)
        records.append((*about, json.dumps([row]).encode(), json.dumps([given]).encode()))
        if number % 2:
            told = given["label"] if model.contract.classes else given["value"] + 1
            outcomes.append((f"{name}-{number}", 0, json.dumps(told), moment + 60, "shop"))
    with closing(Store(url, model.contract.name, "3")) as log:
        for start in range(0, requests, 10):
            log.insert(records[start : start + 10])
        log.insert([], outcomes)


def _varied(rng: np.random.Generator, kind: str, example: Any) -> Any:
    return float(example) + float(rng.normal()) / 10 if kind == "number" else example


def _answer(contract: Contract, rng: np.random.Generator) -> dict[str, Any]:
    if not contract.classes:
        return {"value": float(rng.normal())}
    chances = rng.dirichlet(np.ones(len(contract.classes)))
    place = int(chances.argmax())
    probabilities = dict(zip(contract.classes, chances.tolist(), strict=True))
    return {"label": contract.classes[place], "class_id": place, "probabilities": probabilities}


def log_of(url: str) -> Log:
    """The log in this database, read by the code of the service, in this process."""

    def export_into(since: str, until: str, into: Any) -> None:
        with closing(Store(url)) as store:
            for block in reader.read_blocks(store, export._moment(since), export._moment(until)):
                into.write(b"".join(export._lines(store, block)))

    def counted(edges: Sequence[float]):
        with closing(Store(url)) as store:
            return marks(store, edges)

    return Log(counted, export_into)


def lines(url: str) -> list[bytes]:
    """Every line of the export."""
    with closing(Store(url)) as store:
        return [line for block in reader.read_blocks(store, 0, 1e12) for line in export._lines(store, block)]


def started(
    url: str, model: Challenger, contracts: Mapping[str, Contract] | None = None, log: Log | None = None
) -> Run:
    """A replay of that log by this model, begun or gone on with."""
    known = contracts or {"3": model.contract}
    return begin(settings(model.contract), model, known, ASKED, log or log_of(url), NOW)


def scored(url: str, model: Challenger, contracts: Mapping[str, Contract], share: float = 1.0) -> scoring.Rows:
    """The rows of that log as this model answers them, without a plan."""
    found = scoring.score(lines(url), settings(model.contract), model, contracts, [], share)
    return scoring.joined([*found])
