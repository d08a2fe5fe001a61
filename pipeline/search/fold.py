"""A fold of the training side as a data set of its own, in which the rows to judge by are the held-out ones."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.data.split import folds


@dataclass(frozen=True, kw_only=True)
class Fold(Dataset):
    """Rows to fit on, and rows to judge by (`judged`, a mask); `names` are the classes of the whole data, which a fold may lack."""

    judged: np.ndarray
    names: list[str]

    @property
    def holdout(self) -> np.ndarray:  # type: ignore[override]
        """True for the rows to judge by, shape (n,)."""
        return self.judged

    @property
    def classes(self) -> list[str]:  # type: ignore[override]
        """The classes of the whole data, so that positions mean the same in each fold."""
        return self.names


def of_training_side(dataset: Dataset, count: int) -> list[Fold]:
    """The training side cut into folds; no row of the hold-out is in any. Raises DataError where the rows do not suffice."""
    training = np.flatnonzero(~dataset.holdout)
    return [_fold(dataset, training[fit | judge], judge[fit | judge]) for fit, judge in folds(dataset, count)]


def _fold(dataset: Dataset, rows: np.ndarray, judged: np.ndarray) -> Fold:
    given = {one.name: getattr(dataset, one.name) for one in fields(Dataset)}
    return Fold(**{name: _rows(value, rows) for name, value in given.items()}, judged=judged, names=dataset.classes)


def _rows(value, rows: np.ndarray):
    """The rows of what has rows."""
    if isinstance(value, pd.DataFrame):
        return value.iloc[rows].reset_index(drop=True)
    return value[rows] if isinstance(value, np.ndarray) else value
