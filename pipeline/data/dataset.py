"""The team's data as the stages use it: features, target, ids, and a hash that names exactly these rows."""

import difflib
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.data import encodings, row_columns, snapshot, written_values
from pipeline.data.holdout import is_holdout, shown, time_cut
from pipeline.errors import DataError, in_project
from pipeline.settings import Settings

_INDEX_NAMES = "index names"  # key of a frame's attrs
Kind = Literal["number", "integer", "boolean", "text"]


@dataclass(frozen=True)
class Dataset:
    """One frame, taken apart.

    `features` has float64 columns for numbers, integers and booleans (NaN where empty) and str columns for
    text ("" where empty). `target` holds class names (str) or values (float64). `ids` are str. `kinds` says
    what each feature was. `weights` (float64), `groups` (str) and `times` (datetime64 or float64), each of shape (n,), are
    None where pipeline.toml names no such column.
    """

    features: pd.DataFrame
    target: np.ndarray
    ids: np.ndarray
    kinds: dict[str, Kind]
    nullable: dict[str, bool]
    settings: Settings
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None

    @cached_property
    def classes(self) -> list[str]:
        """Class names in sorted order; empty for regression."""
        return [] if self.settings.data.task == "regression" else sorted(set(self.target))

    @cached_property
    def y(self) -> np.ndarray:
        """What metrics are computed on: class positions (int64) or values (float64), shape (n,)."""
        if self.settings.data.task == "regression":
            return self.target
        return np.searchsorted(np.array(self.classes), self.target)

    @cached_property
    def holdout(self) -> np.ndarray:
        """True for rows of the hold-out, shape (n,)."""
        split = self.settings.split
        if self.cut is not None:
            return self.times >= self.cut
        return is_holdout(self.keys, split.holdout, split.salt)

    @cached_property
    def cut(self):
        """With a time split, the time of the oldest row that is held out; else None."""
        if self.settings.split.by != "time" or self.times is None:
            return None
        return time_cut(self.times, self.settings.split.holdout)

    @property
    def split_facts(self) -> dict[str, Any]:
        """How the hold-out was drawn, as run.json keeps it: a later model is compared on rows that neither was trained on."""
        split, roles = self.settings.split, self.settings.data.roles
        by = split.by if split.by == "time" else "id" if self.groups is None else "group"
        facts = {"holdout": split.holdout, "salt": split.salt, "id": roles[by]}
        return facts | ({} if by == "id" else {"by": by, "cut": "" if self.cut is None else shown(self.cut)})

    @property
    def keys(self) -> np.ndarray:
        """What the split's hash is taken of, shape (n,): the groups where there are any, so that they stay together, else the ids."""
        return self.ids if self.groups is None else self.groups

    @cached_property
    def hash(self) -> str:
        """SHA-256 over column names and values, in row order."""
        digest = hashlib.sha256(repr(list(self.features.columns)).encode())
        for column in (self.ids, self.target, *(self.features[name].to_numpy() for name in self.features)):
            digest.update(pd.util.hash_array(np.asarray(column)).tobytes())
        for role in ("weights", "groups", "times"):  # without such columns the hash is what it always was
            if (column := getattr(self, role)) is not None:
                digest.update(role.encode() + pd.util.hash_array(column).tobytes())
        return digest.hexdigest()


def read_frame() -> pd.DataFrame:
    """The frame that project/data.py returns, rows numbered from 0 and columns named by text; or the snapshot in its place.

    Raises DataError when it cannot be read or has no rows, ProjectError when load() itself fails.
    """
    then = "data/README.md says what the file must look like; load() is in project/data.py"
    try:
        if kept := snapshot.given():
            snapshot.say(kept)
            frame = snapshot.read(kept)
        else:
            frame = _loaded()
    except DataError as error:
        raise DataError(error.what, error.then or then) from error
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"load() returned {type(frame).__name__}, not a pandas DataFrame", then)
    if frame.empty:
        raise DataError("the data has no rows", then)
    names = frame.columns.map(str)
    wrong, remedy = encodings.misread(names)
    if wrong:
        raise DataError(wrong, remedy)
    if names.has_duplicates:
        raise DataError(f"the data has more than one column named {names[names.duplicated()][0]!r}", then)
    _refuse_half_characters(frame)
    indexed = [str(name) for name in frame.index.names if name is not None]
    frame = frame.set_axis(names, axis=1).reset_index(drop=True)
    frame.attrs[_INDEX_NAMES] = indexed
    return frame


def index_names(frame: pd.DataFrame) -> list[str]:
    """What the index that load() returned was called; it is no part of the data."""
    return frame.attrs.get(_INDEX_NAMES, [])


def in_index(name: str) -> str:
    """What to do when a column is the index."""
    return f"{name} is the frame's index: remove index_col from pd.read_csv, or return frame.reset_index()"


_ENCODING = 'name the right one in pd.read_csv in project/data.py, such as encoding="utf-8" or "cp1252"'
_RAGGED = (
    'correct that line; or, if the columns are separated by semicolons or tabs, add sep=";" or sep="\\t" '
    '(and decimal="," for decimal commas) to pd.read_csv in project/data.py; data/README.md has more'
)

_WITHOUT_NAME = "load() in project/data.py names it; what is in data/production/ is made by `make backfill`"


def _loaded():
    with in_project("load() in project/data.py"):
        from project.data import load

        return _read(load)


def _read(load):
    try:
        return load()
    except UnicodeDecodeError as error:
        what, then = encodings.of_bytes(bytes(error.object), error.start)
        raise DataError(f"the data file {what}", then) from error
    except UnicodeError as error:
        raise DataError(f"the data file is not of the encoding that load() names: {error}", _ENCODING) from error
    except pd.errors.EmptyDataError as error:
        raise DataError("the data file is empty") from error
    except pd.errors.ParserError as error:
        raise DataError(f"the data file is not a readable table: {str(error).strip()}", _RAGGED) from error
    except FileNotFoundError as error:
        if error.filename is None:  # as pd.read_parquet raises it: the path is in the words
            raise DataError(f"the data file is missing: {error}", _WITHOUT_NAME) from error
        raise DataError(f"{error.filename}: the data file is missing") from error
    except OSError as error:
        if error.filename is None:
            raise
        raise DataError(f"{error.filename}: the data file cannot be read: {error.strerror}") from error


def take_apart(frame: pd.DataFrame, settings: Settings) -> Dataset:
    """Features, target and ids of a frame; raises DataError naming the column (and row) that does not fit."""
    data = settings.data
    for key, name in data.roles.items():
        if name not in frame:
            if name in index_names(frame):
                raise DataError(f"the data has no column {name!r}", in_index(name))
            near = difflib.get_close_matches(name, [str(column) for column in frame], n=1)
            raise DataError(
                f"the data has no column {name!r}, which pipeline.toml [data] {key} names"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                "name the right column in pipeline.toml, or restore it in the data",
            )
    ids, target = frame[data.id], frame[data.target]
    for label, column in (("id", ids), ("target", target)):
        if column.isna().any():
            row = int(column.isna().to_numpy().argmax()) + 1
            raise DataError(
                f"{label} column {column.name!r} is empty in row {row}",
                "fill it or drop the row in project/data.py",
            )
    ids = ids.astype(str)
    if ids.duplicated().any():
        raise DataError(
            f"id {ids[ids.duplicated()].iloc[0]!r} stands in more than one row",
            "ids must be unique: remove the repeated row, or name another id column",
        )
    features = frame.drop(columns=list(data.roles.values())).rename(columns=str)
    if features.shape[1] == 0:
        raise DataError("the data has no feature column", f"add columns besides {' and '.join(data.roles)}")
    kinds = {name: kind_of(features[name]) for name in features}
    return Dataset(
        features=pd.DataFrame({name: values_of(features[name], kind) for name, kind in kinds.items()}),
        target=_target(target, settings),
        ids=ids.to_numpy(dtype=object),
        kinds=kinds,
        nullable={name: bool(features[name].isna().any()) for name in features},
        settings=settings,
        weights=row_columns.weights(frame, settings),
        groups=row_columns.groups(frame, settings),
        times=row_columns.times(frame, settings),
    )


def _refuse_half_characters(frame: pd.DataFrame) -> None:
    """Text that was read with the wrong encoding may hold what no UTF-8, and so no JSON, can carry."""
    for name, column in frame.items():
        if column.dtype != object:  # pandas' own type for text cannot hold it
            continue
        for row, value in enumerate(column, 1):
            try:
                value.encode() if isinstance(value, str) else None
            except UnicodeEncodeError as error:
                raise DataError(
                    f"column {name!r} holds half of a character in row {row}",
                    'name the encoding of what load() reads in project/data.py, such as encoding="cp1252"',
                ) from error


def load_dataset(settings: Settings) -> Dataset:
    """Read the team's data and take it apart."""
    return take_apart(read_frame(), settings)


# What pandas calls the content of a column of mixed storage, and what that is to a model.
_INFERRED: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "empty": "number",
    "string": "text",
}


def kind_of(column: pd.Series) -> Kind:
    """What a column is to a model; raises DataError for what no model input can be, such as dates."""
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(column):
        return "boolean"
    if pd.api.types.is_integer_dtype(column):
        return "integer"
    if pd.api.types.is_float_dtype(column):
        return "number"
    if isinstance(dtype, pd.StringDtype | pd.CategoricalDtype):
        return "text"
    inferred = pd.api.types.infer_dtype(column, skipna=True) if dtype.kind == "O" else str(dtype)
    if inferred in _INFERRED:
        return _INFERRED[inferred]
    if inferred.startswith("mixed"):
        row = int(column.map(lambda value: isinstance(value, str)).to_numpy().argmax())
        raise DataError(
            f"column {column.name!r} mixes types: row {row + 1} holds {column.iloc[row]!r}",
            "make it all numbers or all text in project/data.py",
        )
    raise DataError(
        f"column {column.name!r} has type {inferred}, which no model input can have",
        "turn it into numbers or text in project/data.py",
    )


def values_of(column: pd.Series, kind: Kind) -> np.ndarray:
    """A column as the stages use it: float64 with NaN where empty, or texts with "" where empty; raises DataError for infinity."""
    if kind == "text":
        return column.astype(object).where(column.notna(), "").astype(str).to_numpy(dtype=object)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax()) + 1
        raise DataError(
            f"column {column.name!r} is infinite in row {row}",
            "replace it by a number or leave it empty in project/data.py",
        )
    return values


def meant(positive: str | None, classes: list[str]) -> str:
    """A hint where a class is the positive one in another spelling: 1 for 1.0, true for True, 1 for True; else nothing."""

    def value(text: str) -> object:
        known = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}
        try:
            return float(text)
        except ValueError:
            return known.get(text.strip().lower(), text.strip().lower())

    near = [name for name in classes if positive is not None and name != positive and value(name) == value(positive)]
    return f'; write positive = "{near[0]}"' if near and positive not in classes else ""


def _target(column: pd.Series, settings: Settings) -> np.ndarray:
    data = settings.data
    if data.task == "regression":
        if kind_of(column) == "text":
            written = written_values.recognise(data.target, column)
            raise DataError(
                f"target {data.target!r} is text, but a regression needs numbers"
                + (f": it holds {written.what}" if written else ""),
                written.remedy
                if written
                else 'turn it into numbers in project/data.py, or set task = "multiclass" in pipeline.toml',
            )
        return values_of(column, "number")
    names = column.astype(str).to_numpy(dtype=object)
    classes = sorted(set(names))
    shown = ", ".join(map(repr, classes[:6])) + (" …" if len(classes) > 6 else "")
    if len(classes) < 2:
        raise DataError(
            f"target {data.target!r} has one class only ({shown})",
            "a classifier needs at least two: restore the missing rows",
        )
    if data.task == "binary" and len(classes) > 2:
        raise DataError(
            f"target {data.target!r} has {len(classes)} classes ({shown}), but the task is binary",
            'remove what does not belong, or set task = "multiclass" in pipeline.toml',
        )
    if data.task == "binary" and data.positive not in classes:
        raise DataError(
            f"target {data.target!r} never is {data.positive!r}, the positive class; it has {shown}{meant(data.positive, classes)}",
            "correct positive in pipeline.toml [data], or the data",
        )
    return names
