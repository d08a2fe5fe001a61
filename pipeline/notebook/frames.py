"""What people hand over in a notebook, frames and arrays, read as columns; what cannot be read is refused in one sentence."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from pipeline.data.dataset import Kind, kind_of, values_of
from pipeline.data.drift import column_reference
from pipeline.errors import DataError

Data: TypeAlias = pd.DataFrame | pd.Series | np.ndarray | Sequence[Any]


class Before(NamedTuple):
    """A column of the reference: its entry as in reference.json, of how many rows, and its values where they are there."""

    reference: dict[str, Any]
    rows: int
    kind: Kind
    values: np.ndarray | None = None

    @property
    def present(self) -> float:
        """How many of its cells are not empty."""
        return self.rows * (1 - self.reference.get("missing", 0.0))


def frame_of(data: Data, what: str, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A frame with columns named by text, from a frame, or from an array (n,) or (n, k) whose columns are called `names`.

    Without names they are feature_0, feature_1, and so on. `what` names the data in messages. Raises DataError.
    """
    if isinstance(data, pd.Series):
        data = data.to_frame(data.name if data.name is not None else (names or ["feature_0"])[0])
    frame = (
        data.set_axis(data.columns.map(str), axis=1) if isinstance(data, pd.DataFrame) else _named(data, what, names)
    )
    if frame.shape[1] == 0:
        raise DataError(f"{what} have no columns")
    if frame.columns.has_duplicates:
        raise DataError(f"{what} have more than one column named {frame.columns[frame.columns.duplicated()][0]!r}")
    if frame.empty:
        raise DataError(f"{what} have no rows")
    return frame.reset_index(drop=True)


def _named(data: Any, what: str, names: Sequence[str] | None) -> pd.DataFrame:
    try:
        array = np.asarray(data)
    except ValueError:
        raise DataError(f"{what} are lists of different lengths; give a DataFrame or an array (n, k)") from None
    if array.ndim not in (1, 2):
        raise DataError(f"{what} have the shape {array.shape}; give (n,), (n, k) or a DataFrame")
    array = array[:, None] if array.ndim == 1 else array
    if names is not None and array.shape[1] != len(names):
        raise DataError(f"{what} have {array.shape[1]} columns, the reference has {len(names)}")
    called = list(names) if names is not None else [f"feature_{place}" for place in range(array.shape[1])]
    return pd.DataFrame(array, columns=called).infer_objects()


def read(column: pd.Series, what: str) -> tuple[Kind, np.ndarray]:
    """What a column is, and its values: float64 with NaN, or texts with "", where it is empty.

    Raises DataError for dates, for numbers mixed with text, and for infinite values.
    """
    try:
        kind = kind_of(column)
        return kind, values_of(column, kind)
    except DataError as error:
        raise DataError(f"{what}: {error.what}") from None


def before_of(kind: Kind, values: np.ndarray) -> Before:
    """A column of the reference from its values."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Before(column_reference(pd.Series(values), kind), len(values), kind, values)


def like(column: pd.Series, before: Before, what: str) -> np.ndarray:
    """The values of a column as its reference has them; raises DataError where one is text and the other numbers."""
    if column.isna().all():
        return np.full(len(column), np.nan) if before.kind != "text" else np.full(len(column), "", dtype=object)
    kind, values = read(column, what)
    if before.kind != "text" and kind == "text":
        first = next(value for value in values if value != "")
        raise DataError(
            f"{what}: column {column.name!r} is text, such as {first[:40]!r}, but the reference has numbers"
        )
    if before.kind == "text" and kind != "text":
        raise DataError(f"{what}: column {column.name!r} has numbers, but the reference has text")
    return values
