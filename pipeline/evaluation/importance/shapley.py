"""What each column adds to single answers, and which columns that makes important: Shapley values, by the library shap.

A row's Shapley values add up to its answer minus the mean answer to background rows of the training side. They are computed by walking
from each background row to the row explained, column by column in a random order and back (antithetic permutations): exact
for models in which at most two columns interact. The model is asked as the service asks it.
"""

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.evaluation.importance.permutation import CELLS, PREDICTED
from pipeline.evaluation.record import Shapley

MOST_ROWS, MOST_BACKGROUND = 100, 16
LEAST_ROWS = 10
MISSING = "the package shap is not installed"

Ask = Callable[[Sequence[pd.DataFrame]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Contributions:
    """Shapley values of hold-out rows, shape (rows, columns, outputs), and those rows.

    Outputs are the positive class alone (binary), every class, or the value; `outputs` names classes.
    """

    values: np.ndarray
    rows: pd.DataFrame
    outputs: Sequence[str]
    background: int

    def mean(self) -> np.ndarray:
        """Mean size of the contributions, shape (columns, outputs)."""
        return np.abs(self.values).mean(axis=0)


def available() -> bool:
    """Whether the library is there; it has no build for some machines."""
    return importlib.util.find_spec("shap") is not None


def counts(held: int, columns: int) -> tuple[int, int]:
    """How many hold-out rows are explained, and beside how many background rows; bounded by rows to predict, never by a clock."""
    each = 2 * columns + 1
    background = int(np.clip(PREDICTED // (LEAST_ROWS * each), 1, MOST_BACKGROUND))
    return min(held, int(np.clip(PREDICTED // (background * each), LEAST_ROWS, MOST_ROWS))), background


def contributions(ask: Ask, dataset: Dataset, seed: int) -> Contributions:
    """Shapley values of rows drawn evenly from the hold-out.

    A mixture of two rows to which the model has no answer counts as the mean of a row's other mixtures; a row without any is left out.

    `ask` gives the model's answers to each of several frames. The library asks for one row after the other; so it is run twice: once to
    hear what it would ask, and once with the answers, which are had in few calls.
    """
    count, beside = counts(int(dataset.holdout.sum()), len(dataset.kinds))
    rows = _evenly(dataset, dataset.holdout, count)
    background = _evenly(dataset, ~dataset.holdout, beside)
    cells = _Cells(pd.concat([rows, background], ignore_index=True))
    codes = cells.codes[: len(rows)], cells.codes[len(rows) :]
    width = max(1, len(dataset.classes))

    asked: list[np.ndarray] = []

    def listen(part: np.ndarray) -> np.ndarray:
        asked.append(part.copy())
        return np.zeros((len(part), width))

    _explain(listen, *codes, seed)
    answers = iter(_answers(ask, cells, asked, width))
    values = _explain(lambda _: next(answers), *codes, seed).reshape(len(rows), len(dataset.kinds), width)

    names = list(dataset.classes)
    if positive := dataset.settings.data.positive:
        values, names = values[:, :, [names.index(positive)]], [positive]
    known = np.isfinite(values).all(axis=(1, 2))
    return Contributions(values[known], rows[known].reset_index(drop=True), names, len(background))


def summary(found: Contributions) -> Shapley:
    """The contributions for the record: mean sizes by column, largest first, and by class where there are several."""
    mean = found.mean() if len(found.values) else np.zeros((found.rows.shape[1], max(1, len(found.outputs))))
    total = mean.sum(axis=1)
    order = np.argsort(-total, kind="stable")
    names = list(found.rows.columns)
    several = found.outputs if len(found.outputs) > 1 else []
    return Shapley(
        rows=len(found.values),
        background=found.background,
        of=found.outputs[0] if len(found.outputs) == 1 else "",
        columns={names[place]: round(float(total[place]), 9) for place in order},
        classes={
            name: {names[place]: round(float(mean[place, output]), 9) for place in order}
            for output, name in enumerate(several)
        },
    )


class _Cells:
    """The cells of a frame as numbers: of each column, the place of a value among its different values.

    So the library mixes whole cells of the rows, whatever they are: numbers, texts or empty.
    """

    def __init__(self, frame: pd.DataFrame):
        factors = [pd.factorize(frame[name], use_na_sentinel=False) for name in frame]
        self.names = list(frame.columns)
        self.codes = np.stack([places for places, _ in factors], axis=1).astype(np.float64)
        self.values = [np.asarray(values) for _, values in factors]

    def frame(self, codes: np.ndarray) -> pd.DataFrame:
        """The frame that such numbers stand for."""
        places = codes.astype(np.intp)
        return pd.DataFrame(
            {
                name: values[places[:, column]]
                for column, (name, values) in enumerate(zip(self.names, self.values, strict=True))
            }
        )


def _evenly(dataset: Dataset, side: np.ndarray, count: int) -> pd.DataFrame:
    """So many rows of a side, drawn evenly: data may be sorted by class."""
    rows = np.flatnonzero(side)
    return dataset.features.iloc[rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]]


def _answers(ask: Ask, cells: _Cells, asked: list[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """The model's answers to each part, some parts at a time, so that a wide table fits into memory."""
    parts = iter(asked)
    size = max((part.size for part in asked), default=1)
    while some := list(islice(parts, max(1, CELLS // size))):
        for given in ask([cells.frame(part) for part in some]):
            answers = np.asarray(given, dtype=np.float64).reshape(-1, width)
            there = np.isfinite(answers.sum(axis=1))
            yield (
                answers
                if there.all() or not there.any()
                else np.where(there[:, None], answers, answers[there].mean(axis=0))
            )


def _explain(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, background: np.ndarray, seed: int
) -> np.ndarray:
    """The library's Shapley values of rows beside background rows."""
    shap = _library()
    with _random_state():
        masker = shap.maskers.Independent(background, max_samples=len(background))
        explain = shap.explainers.Permutation(function, masker, seed=seed)
        return explain(rows, max_evals=2 * rows.shape[1] + 1, silent=True).values


@contextmanager
def _random_state():
    """Leave NumPy's global random numbers as they were; the library sets their seed."""
    before = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(before)


def _library():
    """Import shap without its compiler, which takes six seconds to save a tenth of one here."""
    before = os.environ.get("NUMBA_DISABLE_JIT")
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about matplotlib, on which shap would draw
            import shap
    finally:
        if before is None:
            del os.environ["NUMBA_DISABLE_JIT"]
        else:
            os.environ["NUMBA_DISABLE_JIT"] = before
    return shap
