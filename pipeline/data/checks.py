"""Checks of any data that need no configuration: can it be used, and would a model learn from it honestly.

What the team expects of single columns is a Great Expectations suite (project/checks.py). Here is what such a
suite cannot say. Rows are counted from 1, the header not included.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.data import encodings, row_columns, written_values
from pipeline.data.dataset import in_index, index_names, kind_of, meant
from pipeline.errors import DataError
from pipeline.settings import Settings

EXAMPLES = 5  # rows shown per finding
LOOKED_AT = 1000  # different texts of a column that are looked at
FEW = 50  # rows below which nearly every category may be another one
OWN_TEXT = 0.9  # share of different texts above which a column is no category
INDEX = re.compile(r"Unnamed: \d+|index|level_\d+")  # what pandas calls an index that became a column
SAMPLE = 50_000  # rows by which leakage is judged: enough for three digits of an AUC
ENOUGH = 10  # rows of a class below which a perfect order may be chance
CLASSES = 20  # a leak shows on the most common classes as well as on all
NEAR = 8  # rows with the nearest values that say what a number tells: few, so that a boundary stays sharp
LEAK_AUC = 0.995  # real measurements stay below: the best single column here reaches 0.976
LEAK_CORRELATION = 0.999

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class DataCheck:
    """One rule looked at: what it says, how grave it is, what was seen, and rows that break it."""

    column: str
    rule: str
    severity: Severity
    success: bool
    observed: str
    unexpected_count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


def check(frame: pd.DataFrame, settings: Settings, may_predict_alone: Iterable[str] = ()) -> list[DataCheck]:
    """Every check of this module that the frame allows; `may_predict_alone`: columns known not to leak."""
    data = settings.data
    there = present(frame, settings)
    found = [
        *there,
        *ids(frame, settings),
        *indexes(frame, settings),
        *usable(frame, settings),
        *finite(frame, settings),
        *row_roles(frame, settings),
    ]
    if data.target in frame:
        found += target(frame, settings)
        if all(one.success for one in found if one.column in (data.target, data.id)):
            found += [*balance(frame, settings), *repeated(frame, settings)]
            found += leakage(frame, settings, may_predict_alone)
    return found


def present(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """The id and target columns are there, and at least one feature."""
    found = []
    for role, name in settings.data.roles.items():
        near = difflib.get_close_matches(name, list(frame), n=1)
        hint = f"; {in_index(name)}" if name in index_names(frame) else f"; did you mean {near[0]}?" if near else ""
        observed = "present" if name in frame else f"column {name} is missing{hint}"
        found.append(DataCheck(name, f"the {role} column is there", "critical", name in frame, observed))
    count = len(features(frame, settings))
    found.append(DataCheck("(table)", "there is a feature column", "critical", count > 0, f"{count} features"))
    return found


def ids(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No id is empty, and none stands in two rows."""
    name = settings.data.id
    if name not in frame:
        return []
    empty = frame[name].isna().to_numpy()
    twice = frame[name].astype(str).duplicated(keep=False).to_numpy() & ~empty
    return [
        judged(frame, settings, name, "no id is empty", empty),
        judged(frame, settings, name, "no two rows have the same id", twice),
    ]


def row_roles(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """Weight, group and time are what they must be, where pipeline.toml [data] names such columns."""
    rules: dict[str, tuple[Callable, str]] = {
        "weight": (row_columns.weights, "weights are numbers of 0 or more, and not all 0"),
        "group": (row_columns.groups, "each row has its group, and there are several"),
        "time": (row_columns.times, "times are dates or numbers"),
    }
    found = []
    for role, (read, rule) in rules.items():
        name = settings.data.roles.get(role)
        if name is None or name not in frame:
            continue
        try:
            read(frame, settings)
            found.append(DataCheck(name, rule, "critical", True, "they are"))
        except DataError as error:
            found.append(DataCheck(name, rule, "critical", False, f"{error.what}; {error.then}"))
    return found


def usable(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """Each feature holds numbers, true/false or text; text like numbers or dates is pointed out."""
    found, rule = [], "features hold numbers, true/false or text"
    for name in features(frame, settings):
        try:
            kind = kind_of(frame[name])
        except DataError as error:
            strange = frame[name].map(lambda value: isinstance(value, str)).to_numpy()
            observed = f"{error.what}; {error.then}"
            found.append(judged(frame, settings, name, rule, strange, success=False, observed=observed))
            continue
        if kind == "text":
            found += _disguised(frame, settings, name)
        elif kind == "integer":
            found += _too_long(frame, settings, name)
    return found or [DataCheck("(features)", rule, "critical", True, "all do")]


def indexes(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No feature is the index of a table that was saved with it: a row's number says nothing of a new row."""
    names = [
        name
        for name in features(frame, settings)
        if INDEX.fullmatch(name) and (name.startswith("Unnamed") or _counts_rows(frame[name]))
    ]
    observed = "an index was saved with the data; add index_col=0 to pd.read_csv in project/data.py, or drop the column"
    return [
        DataCheck(name, "the table's index is no feature", "warning", False, observed, len(frame)) for name in names
    ]


def _counts_rows(column: pd.Series) -> bool:
    """Whether a column holds 0, 1, 2 … in the order of the rows."""
    return pd.api.types.is_integer_dtype(column) and bool((column.to_numpy() == np.arange(len(column))).all())


def _too_long(frame: pd.DataFrame, settings: Settings, name: str) -> list[DataCheck]:
    """Whole numbers fit the 53 bits that a model's numbers have; most that do not are ids."""
    beyond = (frame[name].astype(object).map(lambda value: not pd.isna(value) and abs(int(value)) > 2**53)).to_numpy()
    if not beyond.any():
        return []
    observed = (
        f"{int(beyond.sum())} of {len(frame)} values are above 2^53 and lose their last digits as float64; "
        f"if it is a key, drop it or make it text in project/data.py: frame[{name!r}].astype(str)"
    )
    return [judged(frame, settings, name, "whole numbers keep all digits", beyond, "warning", observed=observed)]


def _disguised(frame: pd.DataFrame, settings: Settings, name: str) -> list[DataCheck]:
    values = frame[name].astype(object).where(frame[name].notna(), None)
    first = values.dropna().iloc[:1000].astype(str)
    if len(first) and pd.to_numeric(first, errors="coerce").notna().mean() > 0.9:
        text = not_a_number(values)
        return [judged(frame, settings, name, "a column of numbers has no text in it", text, "warning")]
    if written := written_values.recognise(name, values):
        what = "dates" if "dates" in written.what else "numbers"
        observed = f"{written.what}, such as {_first(first)!r}; {written.remedy}"
        return [DataCheck(name, f"text means categories, not {what}", "warning", False, observed, len(first))]
    return [*_encoding(frame, settings, name, values), *_free_text(name, values)]


def _first(texts: pd.Series) -> str:
    return str(plain(texts.iloc[0]))


def _encoding(frame: pd.DataFrame, settings: Settings, name: str, values: pd.Series) -> list[DataCheck]:
    """Text is what was written: not UTF-8 read as something else."""
    kinds = values.dropna().drop_duplicates()
    meant = {value: said for value in kinds.iloc[:LOOKED_AT] if (said := encodings.as_utf8(str(value)))}
    if not meant:
        return []
    wrong, right = next(iter(meant.items()))
    observed = (
        f'{plain(wrong)!r} is UTF-8 read as another encoding and means {plain(right)!r}; encoding="utf-8" reads it'
    )
    rows = values.isin(list(meant)).to_numpy()
    return [judged(frame, settings, name, "text is read with its encoding", rows, "warning", observed=observed)]


def _free_text(name: str, values: pd.Series) -> list[DataCheck]:
    """Categories come again; text that is another one in nearly each row is a name, a key or prose."""
    filled, different = int(values.notna().sum()), values.nunique()
    if filled < FEW or different <= OWN_TEXT * filled:
        return []
    observed = (
        f"{different} different texts in {filled} rows: a category that never comes again teaches nothing. Drop it in "
        "project/data.py if it is a name or a key; a model that reads words (TfidfVectorizer) may keep it"
    )
    return [DataCheck(name, "text repeats, as categories do", "warning", False, observed, different)]


def not_a_number(column: pd.Series) -> np.ndarray:
    """True where a column is filled by something that cannot be read as a number, shape (n,)."""
    return (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()


def finite(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No number is infinite, in the features or in a regression's target."""
    rule, found = "no number is infinite", []
    for name in frame.columns.drop([settings.data.id], errors="ignore"):
        if pd.api.types.is_float_dtype(frame[name]):
            endless = np.isinf(frame[name].to_numpy(dtype=np.float64, na_value=np.nan))
            if endless.any():
                found.append(judged(frame, settings, name, rule, endless))
    return found or [DataCheck("(table)", rule, "critical", True, "none is")]


def target(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No target is empty, and what it holds fits the task."""
    name, task = settings.data.target, settings.data.task
    column = frame[name]
    empty = judged(frame, settings, name, "no target is empty", column.isna().to_numpy())
    if task == "regression":
        strange = not_a_number(column)
        written = written_values.recognise(name, column[strange]) if strange.any() else None
        observed = f"{written.what}; {written.remedy}" if written else None
        return [empty, judged(frame, settings, name, "a regression's target is a number", strange, observed=observed)]
    classes = sorted(column.dropna().astype(str).unique())
    shown = (", ".join(classes[:6]) + (", …" if len(classes) > 6 else "")) or "none"
    if task == "binary":
        shown += meant(settings.data.positive, classes)
        found = DataCheck(name, "the target has two classes", "critical", len(classes) == 2, shown)
        seen = settings.data.positive in classes
        rule = f"the positive class {settings.data.positive!r} occurs"
        return [empty, found, DataCheck(name, rule, "critical", seen, shown)]
    return [
        empty,
        DataCheck(name, "the target has two classes or more", "critical", len(classes) > 1, shown),
    ]


def balance(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No class is too rare to be learned and judged: it has 20 rows, and a tenth of an even share."""
    if settings.data.task == "regression":
        return []
    name = settings.data.target
    counts = frame[name].astype(str).value_counts()
    least = max(20, len(frame) / len(counts) / 10)
    rarest, rows = counts.index[-1], int(counts.iloc[-1])
    rare = frame[name].astype(str).map(counts).to_numpy() < least
    observed = f"the rarest, {rarest}, has {rows} rows ({rows / len(frame):.1%})"
    rule = f"each class has at least {least:.0f} rows"
    return [judged(frame, settings, name, rule, rare, "warning", observed=observed)]


def repeated(frame: pd.DataFrame, settings: Settings) -> list[DataCheck]:
    """No two rows have the same features: on both sides of the split, they flatter the model."""
    rows = row_hashes(frame[comparable(frame, settings)])
    again = rows.duplicated().to_numpy()
    rule = "no two rows have the same features"
    found = [judged(frame, settings, "(features)", rule, again, "warning")]
    if settings.data.task != "regression":
        twice = rows.duplicated(keep=False).to_numpy()
        classes = frame.loc[twice, settings.data.target].astype(str).groupby(rows[twice]).transform("nunique")
        conflict = np.zeros(len(frame), dtype=bool)
        conflict[twice] = classes.to_numpy() > 1
        rule = "rows with the same features have the same target"
        found.append(judged(frame, settings, settings.data.target, rule, conflict, "warning"))
    return found


def row_hashes(table: pd.DataFrame) -> pd.Series:
    """One 64-bit number per row, the same for equal rows."""
    return pd.util.hash_pandas_object(table, index=False)


def leakage(frame: pd.DataFrame, settings: Settings, may_predict_alone: Iterable[str] = ()) -> list[DataCheck]:
    """No column predicts the target alone: it was most likely made from it, or known only afterwards."""
    regression = settings.data.task == "regression"
    limit, measure = (LEAK_CORRELATION, "correlation") if regression else (LEAK_AUC, "AUC")
    rule = f"no column predicts the target alone ({measure} below {limit})"
    rows, y, score = _values_sample(frame, settings) if regression else _class_sample(frame, settings)
    if len(rows) < 2 * ENOUGH:
        return [DataCheck("(features)", rule, "critical", True, "not judged: too few rows")]
    known = set(may_predict_alone)
    names = [name for name in comparable(frame, settings) if name not in known]
    scores = {name: score(frame[name].iloc[rows], y) for name in names}
    leaks = {name: value for name, value in scores.items() if value >= limit}
    if not leaks:
        best = max(scores, key=scores.__getitem__, default=None)
        observed = f"the strongest is {best} with {scores[best]:.3f}" if best else "no column to judge"
        return [DataCheck("(features)", rule, "critical", True, observed)]
    advice = "remove it in project/data.py, or name it in MAY_PREDICT_ALONE of project/checks.py"
    return [
        DataCheck(name, rule, "critical", False, f"{measure} {value:.4f} on its own; {advice}", len(frame))
        for name, value in leaks.items()
    ]


def _values_sample(frame: pd.DataFrame, settings: Settings) -> tuple[np.ndarray, np.ndarray, Callable]:
    rows = np.random.default_rng(0).permutation(len(frame))[:SAMPLE]
    y = pd.to_numeric(frame[settings.data.target].iloc[rows]).to_numpy(dtype=np.float64)
    return rows, y, values_told


def _class_sample(frame: pd.DataFrame, settings: Settings) -> tuple[np.ndarray, np.ndarray, Callable]:
    """Rows drawn evenly from the classes, for an AUC does not depend on how common they are."""
    names = frame[settings.data.target].astype(str)
    counts = names.value_counts()
    common = counts.index[counts >= ENOUGH][:CLASSES]
    if len(common) < 2:
        return np.empty(0, dtype=int), np.empty(0, dtype=int), classes_told
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(np.flatnonzero((names == name).to_numpy()))[: SAMPLE // len(common)] for name in common]
    return (
        np.concatenate(drawn),
        np.repeat(np.arange(len(common)), [len(part) for part in drawn]),
        classes_told,
    )


def classes_told(column: pd.Series, y: np.ndarray) -> float:
    """How well one column alone tells every class from the others: the lowest one-against-rest AUC, 0 to 1.

    `y` holds class positions. What every second row teaches is tried on the others; where there are two
    classes, the order of a number column is tried as it is, too.
    """
    k = int(y.max()) + 1
    values, near = _ordered(column)
    half = np.arange(len(y)) % 2
    scores = []
    for teach, ask in ((half == 0, half == 1), (half == 1, half == 0)):
        told = taught(values[teach], np.eye(k)[y[teach]], values[ask], near)
        scores.append([auc(told[:, position], y[ask] == position) for position in range(k)])
    lowest = float(np.mean(scores, axis=0).min())
    if k > 2 or near == 0:
        return lowest
    order = auc(values, y == 1)
    return max(lowest, order, 1 - order)


def values_told(column: pd.Series, y: np.ndarray) -> float:
    """How well one column alone gives a regression's target, 0 to 1.

    For numbers this is the absolute rank correlation, for text the correlation with what every second row
    teaches.
    """
    values, near = _ordered(column)
    if near:
        filled = column.notna().to_numpy()
        if filled.sum() < 2 * ENOUGH:
            return 0.0
        return _correlation(_ranks(values[filled]), _ranks(y[filled]))
    half = np.arange(len(y)) % 2
    sides = ((half == 0, half == 1), (half == 1, half == 0))
    told = [(taught(values[teach], y[teach, None], values[ask], 0)[:, 0], y[ask]) for teach, ask in sides]
    return float(np.mean([_correlation(answer, truth) for answer, truth in told]))


def _ordered(column: pd.Series) -> tuple[np.ndarray, int]:
    """Each value's place in sorted order (empty comes last), and how many neighbours speak for a value."""
    if kind_of(column) == "text":
        return pd.factorize(column.astype(object).where(column.notna(), "").astype(str))[0], 0
    return np.unique(column.to_numpy(dtype=np.float64, na_value=np.nan), return_inverse=True)[1], NEAR


def taught(values: np.ndarray, outcome: np.ndarray, asked: np.ndarray, near: int) -> np.ndarray:
    """Mean outcome (n, k) of the rows with the value asked for, or at least of the `near` nearest in order.

    A value that was never seen, with near = 0, gets the mean of all.
    """
    order = np.argsort(values, kind="stable")
    values, outcome = values[order], outcome[order]
    sums = np.vstack([np.zeros(outcome.shape[1]), np.cumsum(outcome, axis=0)])
    low, high = np.searchsorted(values, asked, "left"), np.searchsorted(values, asked, "right")
    wanting = np.maximum(near - (high - low), 0)
    low = np.maximum(low - wanting // 2, 0)
    high = np.minimum(high + wanting - wanting // 2, len(values))
    rows = (high - low)[:, None]
    return np.where(rows > 0, (sums[high] - sums[low]) / np.maximum(rows, 1), sums[-1] / len(values))


def auc(score: np.ndarray, hit: np.ndarray) -> float:
    """Chance that a hit scores above a miss, ties counting half."""
    hits = int(hit.sum())
    above = _ranks(score)[hit].sum() - hits * (hits + 1) / 2
    return float(above / (hits * (len(hit) - hits)))


def _ranks(values: np.ndarray) -> np.ndarray:
    return pd.Series(values).rank().to_numpy()


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(abs(np.corrcoef(a, b)[0, 1]))


def features(frame: pd.DataFrame, settings: Settings) -> list[str]:
    """Names of all columns that no role is given to in pipeline.toml [data]."""
    return [name for name in frame if name not in settings.data.roles.values()]


def comparable(frame: pd.DataFrame, settings: Settings) -> list[str]:
    """Features of a kind that a model can have."""

    def known(name: str) -> bool:
        try:
            return bool(kind_of(frame[name]))
        except DataError:
            return False

    return [name for name in features(frame, settings) if known(name)]


def judged(
    frame: pd.DataFrame,
    settings: Settings,
    column: str,
    rule: str,
    broken: np.ndarray,
    severity: Severity = "critical",
    success: bool | None = None,
    observed: str | None = None,
) -> DataCheck:
    """A check from the rows that break its rule (True in `broken`, shape (n,)), the first of them shown."""
    count = int(broken.sum())
    said = observed or (f"{count} of {len(frame)} rows" if count else "no row breaks it")
    passed = count == 0 if success is None else success
    return DataCheck(column, rule, severity, passed, said, count, examples(frame, settings.data.id, column, broken))


def examples(frame: pd.DataFrame, id_column: str, column: str, broken: np.ndarray) -> list[dict[str, Any]]:
    """The first rows that break a rule: id, number of the row, and its value where the rule is about one column."""
    return [
        {"id": plain(frame[id_column].iloc[row]) if id_column in frame else None, "row": int(row) + 1}
        | ({"value": plain(frame[column].iloc[row])} if column in frame else {})
        for row in np.flatnonzero(broken)[:EXAMPLES]
    ]


def plain(value: Any) -> Any:
    """A value as JSON can hold it: empty as None, infinite as text, long text cut."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"
