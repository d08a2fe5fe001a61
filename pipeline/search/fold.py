"""The training side as a data set of its own, and its folds."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.data.split import folds


@dataclass(frozen=True, kw_only=True)
class TrainingSide(Dataset):
    """The rows of the training side alone; `names` are the classes of the whole data."""

    names: list[str]

    @property
    def holdout(self) -> np.ndarray:  # type: ignore[override]
        """True for no row."""
        return np.zeros(len(self.ids), dtype=bool)

    @property
    def classes(self) -> list[str]:  # type: ignore[override]
        """The classes of the whole data, so that positions mean the same."""
        return self.names


@dataclass(frozen=True)
class Folds:
    """The training side, and for each fold the places of the rows to fit on and of those to judge by."""

    side: TrainingSide
    places: list[tuple[np.ndarray, np.ndarray]]

    def __len__(self) -> int:
        return len(self.places)


def of_training_side(dataset: Dataset, count: int) -> Folds:
    """The training side cut into folds; no row of the hold-out is in it. Raises DataError where the rows do not suffice."""
    rows = np.flatnonzero(~dataset.holdout)
    given = {one.name: getattr(dataset, one.name) for one in fields(Dataset)}
    side = TrainingSide(**{name: _rows(value, rows) for name, value in given.items()}, names=dataset.classes)
    return Folds(side, [(np.flatnonzero(fit), np.flatnonzero(judge)) for fit, judge in folds(dataset, count)])


def _rows(value, rows: np.ndarray):
    """The rows of what has rows."""
    if isinstance(value, pd.DataFrame):
        return value.iloc[rows].reset_index(drop=True)
    return value[rows] if isinstance(value, np.ndarray) else value
