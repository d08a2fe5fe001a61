"""The candidate as the service runs it, and which of two goes on where there is one in int8."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.artifacts import BUILD, read_json
from pipeline.data.dataset import Dataset
from pipeline.decisions import rules
from pipeline.errors import StageError
from pipeline.evaluation import gate, record
from pipeline.evaluation import quantised as int8_beside
from pipeline.evaluation.measures import Measures
from pipeline.formats import bundle, choose
from pipeline.settings import TRAINING, Settings
from serving.model.decision import Threshold, threshold_of


@dataclass(frozen=True)
class ServedCandidate:
    """The candidate as the service runs it: its answers on the hold-out, and its checks beside the trained model."""

    folder: Path
    digest: str
    files: dict[str, bytes]
    contract: dict
    y_pred: np.ndarray
    alone: np.ndarray  # what the model answers without its rules; the same where it has none
    threshold: Threshold | None
    checks: list[gate.ModelCheck]


def candidate(settings: Settings, dataset: Dataset, run: dict) -> ServedCandidate:
    """The candidate's answers on the hold-out, and its checks against the trained model.

    What train.py found in its other trials is taken from run.json: it is about these very bytes.
    """
    folder = BUILD / "model"
    if run["settings_hash"] != settings.fingerprint(*TRAINING):
        raise StageError("pipeline.toml was changed since the model was trained", "run `make train`")
    if run["data_hash"] != dataset.hash or bundle.digest(folder) != run["model_digest"]:
        raise StageError("build/model is not of build/run.json and the present data", "run `make train`")
    contract, files, tolerance = read_json(folder / "contract.json"), bundle.model_files(folder), settings.gate.parity
    trial = choose.on_holdout(dataset, bundle.predictions(folder))
    measured = choose.measure(*rules.without(files, contract), [trial], tolerance, choose.CALLS)
    (alone,), (parity,) = measured.answers, measured.parity
    y_pred, milliseconds = alone, measured.milliseconds
    if contract.get("rules"):
        (y_pred,), milliseconds = choose.ask(files, contract, [trial.rows], choose.CALLS)
    elsewhere = [one for one in run["trials"] if one["where"] != choose.HOLDOUT]
    labels = [gate.ModelCheck("labels that differ from the trained model's", parity.labels, 0, "rows")]
    checks = [
        *(labels if dataset.classes else []),
        gate.ModelCheck("parity", finite(parity.difference), tolerance),
        *(gate.ModelCheck(f"parity {one['where']}", finite(one["difference"]), tolerance) for one in elsewhere),
        gate.ModelCheck("latency", milliseconds, settings.gate.max_latency_ms, "ms"),
        gate.ModelCheck("bundle size", bundle.size_mb(folder), settings.gate.max_bundle_mb, "MB"),
    ]
    return ServedCandidate(folder, run["model_digest"], files, contract, y_pred, alone, threshold_of(contract), checks)


def beside_int8(
    settings: Settings, dataset: Dataset, run: dict, measures: Measures, served: ServedCandidate
) -> tuple[ServedCandidate, record.Int8 | None]:
    """The candidate that goes on, and how the one in int8 stands beside the one in float32; None where none is asked for."""
    made, folder = run.get("int8"), BUILD / "quantised"
    if not made:
        return served, None
    if not made["digest"]:
        return served, record.Int8(how=made["how"], reason=made["reason"])
    if not folder.is_dir() or bundle.digest(folder) != made["digest"]:
        raise StageError("build/quantised is not of build/run.json", "run `make train`")
    contract, files = read_json(folder / "contract.json"), bundle.model_files(folder)
    held = dataset.features[dataset.holdout]
    y_pred, milliseconds = choose.predict(files, contract, held, choose.CALLS)
    alone = choose.predict(*rules.without(files, contract), held)[0] if contract.get("rules") else y_pred
    single, int8 = int8_beside.sides(dataset, (served.files, served.contract, served.y_pred), (files, contract, y_pred))
    found = int8_beside.judge(settings.gate, measures, made["how"], made["digest"], single, int8, served.threshold)
    print(f"{'int8' if found.taken else 'float32'} goes on: {found.reason}")
    if not found.taken:
        return served, found
    measured = {"latency": milliseconds, "bundle size": bundle.size_mb(folder)}
    checks = [replace(one, observed=measured.get(one.check, one.observed)) for one in served.checks]
    return ServedCandidate(folder, made["digest"], files, contract, y_pred, alone, served.threshold, checks), found


def finite(value: float) -> float:
    """The value, or where it is infinite the largest number that JSON can carry."""
    return min(value, sys.float_info.max)
