"""The second candidate of a training: the same model in int8, with a bundle's content of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.formats import choose
from pipeline.formats.onnx import quantisation, run
from pipeline.formats.onnx.quantisation import BATCH, How

ROWS = 1000  # of the training that static measures on, at most


@dataclass(frozen=True)
class Quantised:
    """The model in int8 as it would be served, and its answers to the hold-out."""

    files: dict[str, bytes]
    contract: dict[str, Any]
    y_pred: np.ndarray

    def ask(self, rows: pd.DataFrame) -> np.ndarray:
        """Its answers to rows that are asked together; NaN where it has none."""
        return choose.ask(self.files, self.contract, [rows], each=True)[0][0]

    def alone(self, rows: pd.DataFrame) -> np.ndarray:
        """Its answers to rows that are asked one by one."""
        parts = [rows.iloc[[place]] for place in range(len(rows))]
        return np.concatenate(choose.ask(self.files, self.contract, parts, each=True)[0]) if parts else self.ask(rows)


def candidate(
    files: dict[str, bytes], contract: dict[str, Any], dataset: Dataset, tried: Sequence[choose.Trial], how: How
) -> Quantised:
    """A served model in int8; raises PortabilityError with the reason where there is nothing to quantise, or it would not do.

    It may answer a row of the trials otherwise than the trained model, but not where that has no answer.
    """
    if contract["format"] != "onnx":
        raise PortabilityError(f"it is served as {contract['format']}, and only ONNX is quantised")
    if why := quantisation.nothing(files["model.onnx"], how):
        raise PortabilityError(why)
    try:
        onnx = quantisation.quantise(
            files["model.onnx"], how, calibration(contract, dataset) if how == "static" else ()
        )
    except Exception as error:  # ONNX Runtime's quantiser refuses graphs with exceptions of its own
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise PortabilityError(f"ONNX Runtime does not quantise it: {type(error).__name__}: {line}") from error
    own = {**contract, "onnx": {**contract["onnx"], "quantised": how}}
    measured = choose.measure({"model.onnx": onnx}, own, tried, np.inf)
    for trial, found in zip(tried, measured.parity, strict=True):
        if found.answered or found.unanswered:
            raise PortabilityError(
                f"in int8 it has answers where the trained model has none, or none where that has: {trial.where}"
            )
    held = [trial.where for trial in tried].index(choose.HOLDOUT)
    return Quantised({"model.onnx": onnx}, own, measured.answers[held])


def calibration(contract: dict[str, Any], dataset: Dataset) -> list[dict[str, np.ndarray]]:
    """Rows of the training, evenly spread, as inputs of the graph."""
    rows = np.flatnonzero(~dataset.holdout)
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int))]
    return [run.feeds(contract, dataset.features.iloc[some[at : at + BATCH]]) for at in range(0, len(some), BATCH)]
