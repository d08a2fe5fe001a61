"""A first project/checks.py, drafted from the data: types, ranges with room, values, empty cells. It is written to be read and edited."""

import math
from typing import Any

import pandas as pd

from pipeline.data import written_values
from pipeline.data.dataset import kind_of
from pipeline.settings import Settings

FEW_VALUES = 20  # different texts of a column up to which they are listed
OFTEN = 5  # rows that each listed text has on average at least: fewer, and the next rows bring another one

HEAD = '''"""Your checks: what you expect of the data, and how the model must behave.

`make checks` drafted this from {rows} rows: it says what those rows are like, not what is right. Read each line, and put in what you know.
Ranges and values that are critical are also what the service accepts: it refuses a request outside them.
"""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance
'''

TAIL = """

# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training. Add what you know, such as
# Direction("who is older pays more", "age", lambda age: age + 10, "up", tolerance=0.01).
INVARIANCES = [
    Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-9),
]
DIRECTIONS: list[Direction] = []
"""


def draft(frame: pd.DataFrame, settings: Settings) -> str:
    """The text of project/checks.py for these rows, as Python that a formatter has not seen yet."""
    data = settings.data
    features = [name for name in frame if name not in data.roles.values()]
    kinds = {name: kind_of(frame[name]) for name in features}
    ranges = {name: _range(frame[name]) for name, kind in kinds.items() if kind in ("number", "integer")}
    ranges = {name: limits for name, limits in ranges.items() if limits}
    values = {name: _values(frame[name]) for name, kind in kinds.items() if kind == "text"}
    values = {name: listed for name, listed in values.items() if listed}
    filled = [name for name in features if frame[name].notna().all()]
    gaps = {name: _share_filled(frame[name]) for name in features if name not in filled and frame[name].notna().any()}
    types = {name: sorted({str(frame[name].dtype), "int64", "float64"}) for name in ranges}
    parts = [
        HEAD.format(rows=f"{len(frame):,}"),
        _table("RANGES", "What the numbers may be: the range seen, with as much room again on each side. Narrow it to what is possible.", ranges),
        _table("VALUES", "What the texts may be: all that were seen.", values),
        _table("FILLED", "Columns that were never empty.", filled),
        _table("MOSTLY_FILLED", "The share of rows in which the others must at least be filled.", gaps),
        _table("TYPES", "The types that pandas may give the numbers.", types),
        _suite(frame, settings),
        TAIL,
    ]  # fmt: skip
    return "\n".join(parts)


def _table(name: str, comment: str, content: Any) -> str:
    kind = "list[str]" if isinstance(content, list) else "dict[str, list]" if name in ("VALUES", "TYPES") else "dict"
    return f"# {comment}\n{name}{f': {kind}' if not content else ''} = {content!r}\n"


def _suite(frame: pd.DataFrame, settings: Settings) -> str:
    data = settings.data
    columns = list(frame)
    if data.task == "regression":
        target = f"expect.ExpectColumnValuesToBeBetween(column={data.target!r}, {_bounds(frame[data.target])}, severity='critical'),"
    else:
        classes = sorted(frame[data.target].dropna().unique().tolist(), key=str)
        target = (
            f"expect.ExpectColumnValuesToBeInSet(column={data.target!r}, value_set={classes!r}, severity='critical'),"
        )
    return f'''
def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectTableColumnsToMatchSet(column_set={columns!r}, severity="critical"),
        # Half of what there was: fewer rows are more likely a broken export than news.
        expect.ExpectTableRowCountToBeBetween(min_value={max(1, len(frame) // 2)}, severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column={data.id!r}, severity="critical"),
        expect.ExpectColumnValuesToBeUnique(column={data.id!r}, severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column={data.target!r}, severity="critical"),
        {target}
    ]
    for column, types in TYPES.items():
        rules.append(expect.ExpectColumnValuesToBeInTypeList(column=column, type_list=types, severity="critical"))
    for column, (low, high) in RANGES.items():
        rules.append(
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity="critical")
        )
    for column, known in VALUES.items():
        rules.append(expect.ExpectColumnValuesToBeInSet(column=column, value_set=known, severity="critical"))
    for column in FILLED:
        rules.append(expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"))
    for column, share in MOSTLY_FILLED.items():
        rules.append(expect.ExpectColumnValuesToNotBeNull(column=column, mostly=share, severity="warning"))
    return ExpectationSuite({settings.name!r}, rules)
'''


def _bounds(column: pd.Series) -> str:
    low, high = _range(column) or (None, None)
    return f"min_value={low!r}, max_value={high!r}"


def _range(column: pd.Series) -> tuple[float, float] | None:
    """The range seen and as much room again on each side, to two digits; what is never negative stays so. None without numbers."""
    values = pd.to_numeric(column, errors="coerce").dropna().astype(float)
    values = values[values.abs() != math.inf]
    if values.empty:
        return None
    low, high = float(values.min()), float(values.max())
    room = (high - low) or abs(high) or 1.0
    lowest = 0.0 if low >= 0 and low - room < 0 else _rounded(low - room, math.floor)
    highest = 0.0 if high <= 0 and high + room > 0 else _rounded(high + room, math.ceil)
    return _plain(lowest), _plain(highest)


def _rounded(value: float, whole: Any) -> float:
    """Two digits, rounded outwards by `whole`."""
    if value == 0:
        return 0.0
    digits = 1 - math.floor(math.log10(abs(value)))
    return round(whole(value * 10.0**digits) / 10.0**digits, max(digits, 0))


def _plain(value: float) -> float:
    return int(value) if value == int(value) and abs(value) < 1e15 else value


def _values(column: pd.Series) -> list[str]:
    """All texts of a column of few, or [] where the next rows may well bring another one, or the text is no category."""
    seen = sorted(column.dropna().astype(str).unique())
    few = len(seen) <= min(FEW_VALUES, column.notna().sum() / OFTEN)
    return seen if few and written_values.recognise(str(column.name), column) is None else []


def _share_filled(column: pd.Series) -> float:
    """The share of filled rows, less half of the rest again: what a few more gaps do not break."""
    empty = float(column.isna().mean())
    return math.floor(max(0.0, 1 - 1.5 * empty) * 100) / 100
