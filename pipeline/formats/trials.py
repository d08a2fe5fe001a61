"""Rows that the contract admits and a hold-out may lack: what a format is tried on beside the hold-out.

Each function starts from feature rows as the model takes them (a number that is empty is NaN, text that is empty is "") and from the
`inputs` of the contract, and changes some of the cells to values that the service would let through. `fitted` are the feature
rows that the model was fitted on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

Input = dict[str, Any]

ROWS = 2000  # of a trial at most, unless there are very many columns
BASES = 64  # hold-out rows in which a value is tried at most
# Text as people and programs send it: a converted model may split, fold or compare it in another way.
TEXTS = (
    "", " ", "?", "unseen", "UNSEEN", "3", "3.0", "nan", "None", "Ünsëen, naïve: ﬁ ß İ", "東京 🙂", "two  words\tand\na line",
    "a.b@c-d_e's", "e\u0301t\u00e9", "\u00a0", "x" * 400, "nul\0", "0",
)  # fmt: skip
WORDS = 20  # of texts that training saw, each tried alone
FAR = (1e6, 1e9, 2.0**53, 1e20, 1e30, *(float(np.finfo(kind).max) for kind in (np.float32, np.float64)), 1e100, 1e300)
# Somewhere between these a model takes a scale for zero, and another number format does so elsewhere.
NEAR = (1e-6, 1e-9, 1e-12, 1e-15, 1e-18, 1e-22, 1e-30, 1e-38, 1e-45, 1e-300)


def with_nulls(inputs: Sequence[Input], rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each nullable column empty alone, all of them empty together, and some of them at random."""
    nullable = [one for one in inputs if one["nullable"]]
    if not nullable:
        return rows.iloc[:0]
    count = _times(len(nullable) + 3, rows)
    # Alone: in rows without other empty cells, where there are any.
    full = rows[~_empty(inputs, rows).any(axis=1)]
    alone = [_emptied([one]) for one in nullable]
    found = [
        _changed(full if len(full) else rows, alone, count, rng),
        _changed(rows, [_emptied(nullable)], count, rng),
        _some_emptied(nullable, _drawn(rows, 2 * count, rng), rng),
    ]
    return pd.concat(found, ignore_index=True)


def with_other_text(
    inputs: Sequence[Input], rows: pd.DataFrame, fitted: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Each column of text with values that training did not see, and with those that the contract lists."""
    changes = [
        {one["name"]: text} for one in inputs if one["type"] == "text" for text in _texts(one, fitted[one["name"]])
    ]
    return _changed(rows, _few(changes), min(8, _times(len(changes), rows)), rng)


def beyond_seen(
    inputs: Sequence[Input], rows: pd.DataFrame, fitted: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Each column of numbers at the ends of what training saw and of what is admitted, beyond, between, and beside what it saw.

    Half of the rows have other cells empty.
    """
    columns = [one for one in inputs if one["type"] != "text"]
    changes = _few([{one["name"]: value} for one in columns for value in _ordinary(one, fitted[one["name"]])])
    emptied = _some_emptied([one for one in inputs if one["nullable"]], rows, rng)
    count = min(8, _times(len(changes), rows))
    return pd.concat([_changed(some, changes, count, rng) for some in (rows, emptied)], ignore_index=True)


def very_large(inputs: Sequence[Input], rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Numbers of a size that no measurement has, and nearly zero, as far as the contract admits them; alone and in all columns at once."""
    columns = [one for one in inputs if one["type"] in ("number", "integer")]
    changes = []
    for size in [sign * size for size in FAR + NEAR for sign in (1.0, -1.0)]:
        together = {one["name"]: size for one in columns if _admits(one, size)}
        changes += [together, *({name: size} for name in together if len(together) > 1)]
    return _changed(rows, _few([one for one in changes if one]), 1, rng)


def admitted(inputs: Sequence[Input], rows: pd.DataFrame, largest: float) -> np.ndarray:
    """Which rows have no number beyond the largest that a form of the model takes, shape (n,)."""
    numbers = [one["name"] for one in inputs if one["type"] != "text"]
    return ~(rows[numbers].abs().to_numpy(dtype=np.float64) > largest).any(axis=1)


def some_empty(inputs: Sequence[Input], rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The rows (numbered from 0), with some cells of nullable columns empty in every other one."""
    nullable = [one for one in inputs if one["nullable"]]
    odd = np.arange(len(rows)) % 2 == 1
    return pd.concat([rows[~odd], _some_emptied(nullable, rows[odd], rng)]).sort_index()


def each_answered(answer: Callable[[pd.DataFrame], np.ndarray], rows: pd.DataFrame, width: int) -> np.ndarray:
    """A model's answers (n, width) in float64, with NaN in rows at which it raises."""
    try:
        return np.asarray(answer(rows), dtype=np.float64).reshape(len(rows), width)
    except Exception:  # what a model raises on odd values has no common class
        if len(rows) <= 1:
            return np.full((len(rows), width), np.nan)
    half = len(rows) // 2
    return np.concatenate([each_answered(answer, some, width) for some in (rows.iloc[:half], rows.iloc[half:])])


def _times(changes: int, rows: pd.DataFrame) -> int:
    """In how many rows each of so many changes is tried."""
    return max(1, min(BASES, ROWS // max(1, changes), len(rows)))


def _few(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most 2,000 changes, spread evenly."""
    return [changes[place] for place in np.linspace(0, len(changes) - 1, min(ROWS, len(changes))).astype(int)]


def _drawn(rows: pd.DataFrame, count: int, rng: np.random.Generator) -> pd.DataFrame:
    return rows.iloc[rng.choice(len(rows), count)].reset_index(drop=True)


def _changed(
    rows: pd.DataFrame, changes: Sequence[dict[str, Any]], count: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Each change, the new cells by column, in so many rows that are drawn from those given."""
    if not changes:
        return rows.iloc[:0]
    found = _drawn(rows, len(changes) * count, rng)
    cells: dict[str, list[tuple[int, Any]]] = {}
    for place, change in enumerate(changes):
        for name, value in change.items():
            cells.setdefault(name, []).extend((place * count + time, value) for time in range(count))
    columns = {}
    for name, given in cells.items():
        columns[name] = found[name].to_numpy(copy=True)
        for place, value in given:
            columns[name][place] = value
    return found.assign(**columns)


def _nothing(one: Input) -> Any:
    return "" if one["type"] == "text" else np.nan


def _empty(inputs: Sequence[Input], rows: pd.DataFrame) -> np.ndarray:
    names = {one["name"]: one["type"] for one in inputs}
    return np.stack(
        [rows[name].eq("") if kind == "text" else rows[name].isna() for name, kind in names.items()], axis=1
    )


def _emptied(columns: Sequence[Input]) -> dict[str, Any]:
    return {one["name"]: _nothing(one) for one in columns}


def _some_emptied(columns: Sequence[Input], rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Each cell of these columns is emptied with a chance of one half."""
    cells = {one["name"]: rows[one["name"]].mask(rng.random(len(rows)) < 0.5, _nothing(one)) for one in columns}
    return rows.assign(**cells)


def _texts(one: Input, column: pd.Series) -> list[str]:
    if one["values"] is not None:
        return [value for value in one["values"] if isinstance(value, str)]
    known = sorted(set(column) - {""})
    seen = known[:2]
    variants = [text for one in seen for text in (one.upper(), one.lower(), f"{one} ", f" {one}", one[:-1])]
    # A model that counts words may answer a single word in a way that none of the whole texts shows.
    words = sorted({word for text in known[:ROWS] for word in text.split()} - set(known))
    some = [words[place] for place in np.linspace(0, len(words) - 1, min(WORDS, len(words))).astype(int)]
    return list(dict.fromkeys([*TEXTS, *variants, *some, " ".join(seen), "".join(seen)]))


def _admits(one: Input, value: float) -> bool:
    if one["values"] is not None:
        return value in one["values"]
    if one["type"] == "integer" and value != np.floor(value):
        return False
    low, high = one["minimum"], one["maximum"]
    above, below = (one.get(f"exclusive_{side}") for side in ("minimum", "maximum"))
    return (
        (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _ordinary(one: Input, column: pd.Series) -> list[float]:
    """Values of one column that a caller may well send."""
    if one["type"] == "boolean":
        return [0.0, 1.0]
    if one["values"] is not None:
        return [float(value) for value in one["values"] if value is not None]
    return list(dict.fromkeys(value for value in _candidates(one, column) if _admits(one, value)))


def _candidates(one: Input, column: pd.Series) -> Iterator[float]:
    seen = np.unique(column.dropna().to_numpy(dtype=np.float64))
    observed = [(one["observed"] or {}).get(end) for end in ("minimum", "maximum")]
    given = [*seen, *(float(value) for value in observed if value is not None)]
    low, high = (min(given), max(given)) if given else (0.0, 1.0)
    span = max(high - low, abs(high), abs(low)) or 1.0
    whole = np.round if one["type"] == "integer" else float
    yield from (float(value) for value in (one["minimum"], one["maximum"]) if value is not None)
    for side, inwards in (("minimum", np.inf), ("maximum", -np.inf)):
        if (bound := one.get(f"exclusive_{side}")) is not None:
            yield float(bound + np.sign(inwards) if one["type"] == "integer" else np.nextafter(bound, inwards))
    yield from (low, high, 0.0, 1.0, -1.0)
    for share in (0.001, 0.1, 1, 30, 1000):
        yield float(whole(low - share * span))
        yield float(whole(high + share * span))
    for place in np.linspace(0, len(seen) - 1, min(6, len(seen))).astype(int):  # a category by number has no neighbours
        yield from (float(seen[place]), *_neighbours(one, seen[place]))
        if place:
            yield float(whole(seen[place - 1] / 2 + seen[place] / 2))


def _neighbours(one: Input, value: float) -> tuple[float, float]:
    """The values next to this one, which another number format may take for it."""
    if one["type"] == "integer":
        return float(value - 1), float(value + 1)
    return float(np.nextafter(value, -np.inf)), float(np.nextafter(value, np.inf))
