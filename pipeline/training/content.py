"""The content of the bundle, and of a second one in int8: model, contract, golden rows, reference, background and answers."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.artifacts import BUILD, write_json
from pipeline.data import drift
from pipeline.data.dataset import Dataset
from pipeline.decisions import rules, threshold
from pipeline.errors import PortabilityError
from pipeline.evaluation import metrics
from pipeline.evaluation.measures import position_of_positive
from pipeline.formats import bundle, choose
from pipeline.formats.onnx import quantisation, quantised
from pipeline.formats.onnx.quantisation import How
from pipeline.settings import Settings
from pipeline.training.servable import Deciding, Servable
from serving.model.decision import Threshold


def write_content(model, dataset: Dataset, y_pred: np.ndarray, one: Servable, decision: Deciding) -> Path:
    """The content of the bundle, and the trained model's answers on the hold-out, in a folder that is not in its place yet."""
    content = empty(BUILD / ".model")
    write_files(content, one.served.files, one.contract)
    firm = choose.firm(model, dataset, one.tried)
    write_json(content / bundle.BACKGROUND, bundle.background(dataset))
    write_answers(content, dataset, y_pred, firm, partial(choose.alone, model, dataset), decision)
    return content


def to_quantise(settings: Settings, model) -> How | None:
    """How a second candidate is made in int8; None where none is asked for, or where it is known now that there is nothing to quantise."""
    shutil.rmtree(BUILD / "quantised", ignore_errors=True)  # an older run's must not be taken for this one's
    if settings.train.quantise == "no":
        return None
    if why := quantisation.hopeless(model):
        print(f"{why}; the training goes on without a candidate in int8")
        return None
    return settings.train.quantise


def write_quantised(model, dataset: Dataset, one: Servable, how: How, decision: Deciding) -> dict:
    """The content of the candidate in int8, in a folder that is not in its place yet; what run.json says of it."""
    try:
        made = quantised.candidate(*rules.without(one.served.files, one.contract), dataset, one.tried, how)
    except PortabilityError as error:
        print(f"no candidate in int8: {error.what}")
        return {"how": how, "digest": "", "reason": error.what}
    content = empty(BUILD / ".quantised")
    for name in (name for name in bundle.PAPERS if (BUILD / ".model" / name).is_file()):  # what is about the data alone
        shutil.copyfile(BUILD / ".model" / name, content / name)
    write_files(content, made.files | decision.rules, made.contract | rules.contract_part(decision.rules, dataset))
    firm = [(rows, made.ask(rows)) for rows, _ in choose.firm(model, dataset, one.tried)]
    write_answers(content, dataset, made.y_pred, firm, made.alone, decision)
    print(f"second candidate: the same model in int8 ({how})")
    return {"how": how, "digest": bundle.digest(content), "reason": ""}


def write_files(content: Path, files: Mapping[str, bytes], contract: dict) -> None:
    """The model, the code beside it, and the contract."""
    for name, data in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    write_json(content / "contract.json", contract)


def write_answers(
    content: Path, dataset: Dataset, y_pred: np.ndarray, firm: Sequence[tuple[pd.DataFrame, np.ndarray]],
    alone: Callable[[pd.DataFrame], np.ndarray], decision: Deciding,
) -> None:  # fmt: skip
    """The golden rows, the reference of the monitor, and the model's answers on the hold-out."""
    tolerance = dataset.settings.gate.parity
    around, cut = rules.of_files(decision.rules, dataset), threshold.of_choice(decision.choice, dataset)
    together = rules.together(around, dataset, y_pred)
    settled = partial(rules.settled, around, dataset, tolerance) if around else None
    write_json(content / "golden.json", bundle.golden(dataset, y_pred, tolerance, firm, alone, cut, settled))
    deciders = rules.deciders(around, dataset, y_pred)
    write_json(content / "reference.json", reference(dataset, together, cut, deciders))
    bundle.save_predictions(content, y_pred)


def reference(dataset: Dataset, y_pred: np.ndarray, cut: Threshold | None, deciders: Mapping[str, float]) -> dict:
    """What production is compared with: distributions in training, and answers, losses and metrics on the hold-out.

    Each row counts the same here, whatever its weight: production's rows have none.
    """
    settings = dataset.settings
    positive = position_of_positive(settings, dataset)
    y_true = dataset.y[dataset.holdout]
    measured = metrics.evaluate(settings.data.task, y_true, y_pred, positive, metrics.of_project(), cut)
    return drift.reference(dataset, ~dataset.holdout, y_pred, measured, cut, deciders)


def empty(folder: Path) -> Path:
    """A folder without what an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
