"""Rows on both sides of a model's jumps: where another number format first gives another answer.

A tree asks whether a value is at most a threshold. Real data hardly ever lies within a rounding error of one, so a hold-out does not
show what happens there. The thresholds are found from outside, whatever stands before or inside the model: between two values of
a column, of which one changes the answer, the interval is halved until nothing lies between its ends any more.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.formats.trials import Input, some_empty

PAIRS = 256  # intervals that are halved; each gives four rows at most
HALVINGS = 66  # two 64-bit numbers have become neighbours by then

Answer = Callable[[pd.DataFrame], np.ndarray]


def beside_jumps(
    answer: Answer, dataset: Dataset, rows: pd.DataFrame, tolerance: float, seed: int, inputs: Sequence[Input] = ()
) -> pd.DataFrame:
    """Rows where the answer jumps by more than the tolerance: with the last value before, the first after, and one beside each.

    `answer` is the trained model, with NaN for a row that it does not answer; `rows` are the feature rows to start from. One column is
    moved at a time, from the value that a row holds to one that training saw; in half of the rows some cells of the columns that `inputs` says are nullable
    are empty, where the model answers such rows. No rows when there is no number column, or the model has no jumps.
    """
    rng = np.random.default_rng(seed)
    listed = {one["name"] for one in inputs if one["values"] is not None}  # nothing between listed values is admitted
    columns = [name for name, kind in dataset.kinds.items() if kind in ("number", "integer") and name not in listed]
    fitted = dataset.features[~dataset.holdout]
    usable, known = (
        {name: np.flatnonzero(some[name].notna().to_numpy()) for name in columns} for some in (rows, fitted)
    )
    chosen = [name for name in columns if len(usable[name]) and len(known[name])]
    if not chosen:
        return rows.iloc[:0]
    moved = np.array([chosen[place % len(chosen)] for place in range(PAIRS)])
    base, other = (np.array([rng.choice(places[name]) for name in moved]) for places in (usable, known))
    full = rows.iloc[base].reset_index(drop=True)
    start = some_empty(inputs, full, rng) if any(one["nullable"] for one in inputs) else full
    whole = np.array([dataset.kinds[name] == "integer" for name in moved])
    low, high = (_ordered(_values(some, places, moved), whole) for some, places in ((rows, base), (fitted, other)))

    def ask(places: np.ndarray, position: np.ndarray) -> np.ndarray:
        return answer(_with(start.iloc[places], moved[places], _number(position, whole[places]))).reshape(
            len(places), -1
        )

    everywhere = np.arange(len(moved))
    low_answer = ask(everywhere, low)
    if (refused := np.isnan(low_answer).any(axis=1)).any() and start is not full:
        start = pd.concat([full[refused], start[~refused]]).sort_index()
        low_answer = ask(everywhere, low)
    high_answer = ask(everywhere, high)
    for _ in range(HALVINGS):
        jump = np.abs(low_answer - high_answer) / np.maximum(1, np.abs(low_answer))
        alive = np.flatnonzero((jump.max(axis=1) > tolerance) & (np.abs(high - low) > 1))
        if not len(alive):
            break
        middle = low[alive] // 2 + high[alive] // 2 + (low[alive] % 2 + high[alive] % 2) // 2
        given = ask(alive, middle)
        first = np.abs(given - low_answer[alive]).max(axis=1) >= np.abs(given - high_answer[alive]).max(axis=1)
        high[alive[first]], high_answer[alive[first]] = middle[first], given[first]
        low[alive[~first]], low_answer[alive[~first]] = middle[~first], given[~first]
    jump = np.abs(low_answer - high_answer) / np.maximum(1, np.abs(low_answer))
    found = np.flatnonzero((jump.max(axis=1) > tolerance) & (np.abs(high - low) == 1))
    step = np.sign(high[found] - low[found])
    positions = [low[found] - step, low[found], high[found], high[found] + step]
    beside = [_with(start.iloc[found], moved[found], _number(where, whole[found])) for where in positions]
    return pd.concat(beside, ignore_index=True)


def _values(rows: pd.DataFrame, places: np.ndarray, names: np.ndarray) -> np.ndarray:
    columns = {name: rows[name].to_numpy(dtype=np.float64) for name in set(names)}
    return np.array([columns[name][place] for name, place in zip(names, places, strict=True)])


def _with(rows: pd.DataFrame, names: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """The rows, each with a value of its own in a column of its own."""
    changed = rows.copy()
    for name in sorted(set(names)):
        here = np.flatnonzero(names == name)
        column = changed[name].to_numpy(dtype=np.float64, copy=True)
        column[here] = values[here]
        changed[name] = column
    return changed


def _ordered(values: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Each value's place among all that its column can hold (int64): whole numbers as such, others by their bits."""
    bits = (values + 0.0).view(np.int64)  # + 0.0: there is one zero
    bits = np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)
    bits[whole] = np.clip(values[whole], -(2.0**62), 2.0**62).astype(np.int64)
    return bits


def _number(places: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The value at each place."""
    values = np.where(places < 0, np.iinfo(np.int64).min - places, places).view(np.float64)
    values[whole] = places[whole]
    return values
