"""Rules that a model's answers keep when its input changes: what must not matter, and which way things go.

The rules themselves are the team's (project/checks.py). "Answer" is the probability of one class, by default
the positive one, or the value of a regression.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.errors import ProjectError, in_project

NOISE = 1e-9  # a move smaller than this is rounding, not behaviour


@dataclass(frozen=True)
class Invariance:
    """A change of the rows that must not move any answer by more than `tolerance`.

    `change` takes and returns a frame of features; it may reorder rows, but must keep all of them.
    """

    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    tolerance: float


@dataclass(frozen=True)
class Direction:
    """A change of one column that must not move an answer the other way than `expect` by more than `tolerance`.

    `change` takes and returns the column. `of` names the class whose probability is meant; without it, the
    positive one. `tolerance` is in units of the answer: 0.01 is one per cent of probability, or 0.01 of what a
    regression predicts. Trees and other models of steps need one; a linear model keeps a direction exactly.
    """

    name: str
    column: str
    change: Callable[[pd.Series], pd.Series]
    expect: Literal["up", "down"]
    of: str | None = None
    tolerance: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of one rule."""

    check: str
    success: bool
    observed: str


def keeps_still(rule: Invariance, features: pd.DataFrame, predict: Callable) -> Outcome:
    """Whether no answer moves by more than the tolerance; `predict` gives one entry or row per example."""
    with in_project(f"the change of {rule.name!r} in project/checks.py"):
        changed = rule.change(features.copy())
    if not isinstance(changed, pd.DataFrame) or set(changed.index) != set(features.index):
        raise ProjectError(
            f"the change of {rule.name!r} in project/checks.py does not return the rows it was given",
            "reorder or change the rows, but keep all of them and their index",
        )
    place = features.index.get_indexer(changed.index)
    with in_project(f"the model, after the change of {rule.name!r} in project/checks.py,"):
        given = np.asarray(predict(changed))
    moves = np.abs(given - np.asarray(predict(features))[place])
    largest = float(moves.max())
    return Outcome(
        rule.name,
        largest <= rule.tolerance,
        f"the largest move of an answer is {largest:.2g}; at most {rule.tolerance:g} is tolerated",
    )


def keeps_direction(
    rule: Direction,
    features: pd.DataFrame,
    predict: Callable,
    classes: list[str],
    positive: str | None = None,
) -> Outcome:
    """Whether no answer goes the wrong way; raises ProjectError when the rule names what is not there."""
    if rule.column not in features:
        raise ProjectError(
            f"direction {rule.name!r} in project/checks.py names column {rule.column!r}, which is no feature",
            "name a feature column, or remove the rule",
        )
    answer = _answer(rule, predict, classes, positive)
    with in_project(f"the change of {rule.name!r} in project/checks.py"):
        changed = features.assign(**{rule.column: rule.change(features[rule.column].copy())})
    with in_project(f"the model, after the change of {rule.name!r} in project/checks.py,"):
        given = answer(changed)
    moves = (given - answer(features)) * (1 if rule.expect == "up" else -1)
    back = moves < -NOISE
    wrong = moves < -max(rule.tolerance, NOISE)
    worst = int(moves.argmin())
    where = f"worst in row {features.index[worst]}, by {-moves[worst]:.2g}"
    if wrong.any():
        more = f" by more than {rule.tolerance:g}" if rule.tolerance else ""
        return Outcome(rule.name, False, f"{wrong.sum()} of {len(moves)} answers go the other way{more}; {where}")
    moved = f"{int((moves > NOISE).sum())} of {len(moves)} answers go {rule.expect}"
    if back.any():
        return Outcome(
            rule.name, True, f"{moved}, {back.sum()} the other way; {where}; {rule.tolerance:g} is tolerated"
        )
    return Outcome(rule.name, True, f"{moved}, none the other way")


def _answer(rule: Direction, predict: Callable, classes: list[str], positive: str | None) -> Callable:
    if not classes:
        return lambda frame: np.asarray(predict(frame))
    name = rule.of or positive
    if name not in classes:
        raise ProjectError(
            f"direction {rule.name!r} in project/checks.py must say whose probability it means: of = one of "
            + ", ".join(map(repr, classes)),
        )
    return lambda frame: np.asarray(predict(frame))[:, classes.index(name)]
