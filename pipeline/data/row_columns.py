"""The columns that say something of a row without being a feature: its weight, its group and its time."""

import numpy as np
import pandas as pd

from pipeline.errors import DataError
from pipeline.settings import Settings

_NUMBERS = "make it numbers of 0 or more in load() of project/data.py"
_DATES = "turn it into dates in load() of project/data.py: pd.to_datetime(frame[{name!r}], format=…)"


def weights(frame: pd.DataFrame, settings: Settings) -> np.ndarray | None:
    """What each row counts, float64 (n,); None without [data] weight. Raises DataError for what is no weight, naming the row."""
    name = settings.data.weight
    if not name:
        return None
    column = frame[name]
    if pd.api.types.is_bool_dtype(column):
        raise DataError(f"weight column {name!r} holds true/false, not numbers", _NUMBERS)
    _filled(column, "weight")
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.infer_dtype(column, skipna=True) == "string":
        values = np.full(len(column), np.nan)
    for broken, what in (
        (np.isnan(values), "is not a number"),
        (np.isinf(values), "is infinite"),
        (values < 0, "is negative"),
    ):
        if broken.any():
            row = int(broken.argmax())
            raise DataError(f"weight column {name!r} {what} in row {row + 1}: {column.tolist()[row]!r}", _NUMBERS)
    if not values.any():
        raise DataError(f"weight column {name!r} is 0 in every row, so no row counts", _NUMBERS)
    return values


def groups(frame: pd.DataFrame, settings: Settings) -> np.ndarray | None:
    """The group of each row as text (n,); None without [data] group. Raises DataError for an empty cell or one group only."""
    name = settings.data.group
    if not name:
        return None
    _filled(frame[name], "group")
    values = frame[name].astype(str).to_numpy(dtype=object)
    if (values == values[0]).all():
        raise DataError(
            f"group column {name!r} is {values[0]!r} in every row: one group cannot be on both sides of the split",
            "name the column of whom a row is about in pipeline.toml [data] group, or leave it empty",
        )
    return values


def times(frame: pd.DataFrame, settings: Settings) -> np.ndarray | None:
    """When each row was, (n,): datetime64[us] in UTC for dates, float64 for numbers; None without [data] time.

    Dates may be pandas' own, Python's, or text as in ISO 8601. Dates without a time zone are taken as UTC. Raises DataError,
    naming the row, for an empty cell, text that is no date, and dates of which only some have a time zone.
    """
    name = settings.data.time
    if not name:
        return None
    column = frame[name]
    _filled(column, "time")
    if pd.api.types.is_bool_dtype(column):
        raise DataError(f"time column {name!r} holds true/false, not dates or numbers", _DATES.format(name=name))
    if pd.api.types.is_numeric_dtype(column) or pd.api.types.infer_dtype(column) == "decimal":
        values = column.to_numpy(dtype=np.float64)
        if np.isinf(values).any():
            raise DataError(
                f"time column {name!r} is infinite in row {int(np.isinf(values).argmax()) + 1}",
                "correct it in project/data.py",
            )
        return values
    _one_kind_of_zone(column)
    try:
        dates = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    except (ValueError, TypeError):
        dates = pd.Series(pd.NaT, index=column.index)
    if dates.isna().any():
        row = int(dates.isna().to_numpy().argmax())
        raise DataError(
            f"time column {name!r} is no date as in 2026-01-31 or 2026-01-31T10:00:00 in row {row + 1}: {column.iloc[row]!r}",
            _DATES.format(name=name),
        )
    return dates.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")


def _filled(column: pd.Series, role: str) -> None:
    empty = (column.isna() | (column.astype(object) == "")).to_numpy(dtype=bool)
    if empty.any():
        raise DataError(
            f"{role} column {column.name!r} is empty in row {int(empty.argmax()) + 1}",
            "fill it or drop the row in project/data.py",
        )


def _one_kind_of_zone(column: pd.Series) -> None:
    """Refuse dates of which only some say their time zone: which came first is then a guess."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return
    aware = column.map(_has_zone).to_numpy(dtype=bool)
    if aware.any() and not aware.all():
        row, other = int(aware.argmax()) + 1, int((~aware).argmax()) + 1
        raise DataError(
            f"time column {column.name!r} has a time zone in row {row} and none in row {other}",
            "give all of them one in project/data.py, or none",
        )


def _has_zone(value) -> bool:
    if isinstance(value, str):  # after the ten characters of the day
        return any(sign in value[10:] for sign in "Zz+-")
    return getattr(value, "tzinfo", None) is not None
