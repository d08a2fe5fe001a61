"""Rules beside a model: the named functions of project/rules.py that answer before it, or correct what it has answered.

A rule of BEFORE takes a row, {feature: value}, and returns a class, or a regression's value; then the model is not asked. A rule of AFTER
takes the row and the model's score (the probability of the positive class, {class: probability} of several classes, or the value), and
returns a class, another probability of the positive class, or another value. None, and the score as it was, mean that the rule has
nothing to say. The first rule that answers decides.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.model.code import load_apart
from serving.model.features import shown
from serving.model.rows import Row

MODULE = "project.rules"
FILE = "project/rules.py"
LISTS = ("BEFORE", "AFTER")
NONE = -1  # the number of the rule that decided a row which none has decided

Function = Callable[..., Any]


class RuleError(Exception):
    """A rule fails, or answers what is no answer; `rule` is its name."""

    def __init__(self, rule: str, what: str):
        super().__init__(f"the rule {rule} {what}")
        self.rule = rule


class RulesError(Exception):
    """project/rules.py does not hold what it must."""


class Decided(NamedTuple):
    """The place among the names of the rule that decided, and the answer: probabilities (k,), or a value of shape ()."""

    rule: int
    answer: np.ndarray


class Rules:
    """Rules around a model of these inputs (their types by name) and classes (none for a regression)."""

    def __init__(
        self, kinds: Mapping[str, str], classes: Sequence[str], positive: str | None,
        before: Sequence[Function], after: Sequence[Function],
    ):  # fmt: skip
        self._rules, self._first = [*before, *after], len(before)  # the place of the first rule that corrects
        self.names = [one.__name__ for one in (*before, *after)]
        self.lists = {"before": self.names[: len(before)], "after": self.names[len(before) :]}
        self._classes = {name: place for place, name in enumerate(classes)}
        self._positive = self._classes[positive] if positive else None
        self._kinds = list(kinds.items())

    def named(self, row: Row) -> dict[str, Any]:
        """A row as rules take it: by name, whole numbers and booleans as such, None where a cell is empty."""
        return {name: _plain(value, kind) for (name, kind), value in zip(self._kinds, row, strict=True)}

    def before(self, row: Mapping[str, Any]) -> Decided | None:
        """What the first rule decides that answers without the model; raises RuleError."""
        return next(filter(None, (self.answer(place, row) for place in range(self._first))), None)

    def after(self, row: Mapping[str, Any], given: np.ndarray) -> Decided | None:
        """What the first rule decides that corrects the model, which gave probabilities (k,) or a value; raises RuleError."""
        places = range(self._first, len(self._rules))
        return next(filter(None, (self.answer(place, row, given) for place in places)), None)

    def answer(self, place: int, row: Mapping[str, Any], given: np.ndarray | None = None) -> Decided | None:
        """What one rule says; one that corrects is told what the model gave. Raises RuleError."""
        corrects = place >= self._first
        score = self._score(given) if corrects else None
        try:
            answer = self._rules[place](row, score) if corrects else self._rules[place](row)
        except (Exception, SystemExit) as error:  # it is the team's own code
            line = (str(error).strip().splitlines() or [""])[0][:200]
            raise RuleError(self.names[place], f"fails: {type(error).__name__}: {line}") from error
        if isinstance(answer, dict) and isinstance(score, dict) and answer == self._score(given):
            return None
        if answer is None or (is_number(answer) and answer == score):
            return None
        return Decided(place, self._read(place, answer, corrects))

    def _score(self, given: np.ndarray | None) -> Any:
        numbers = np.asarray(given, dtype=np.float64).tolist()
        if not self._classes:
            return numbers
        return numbers[self._positive] if self._positive is not None else dict(zip(self._classes, numbers, strict=True))

    def _read(self, place: int, answer: Any, corrects: bool) -> np.ndarray:
        if isinstance(answer, str) and answer in self._classes:
            return np.eye(len(self._classes))[self._classes[answer]]
        if not self._classes and is_number(answer) and math.isfinite(answer):
            return np.array(float(answer))
        if corrects and self._positive is not None and is_number(answer) and 0 <= answer <= 1:
            probabilities = np.full(2, 1 - float(answer))
            probabilities[self._positive] = float(answer)
            return probabilities
        raise RuleError(self.names[place], f"returns {_words(answer)}, allowed is {self._allowed(corrects)}")

    def _allowed(self, corrects: bool) -> str:
        if not self._classes:
            return "a finite number or None"
        words = f"None or one of {', '.join(map(repr, self._classes))}"
        if not corrects or self._positive is None:
            return words
        return f"{words}, or a probability of {list(self._classes)[self._positive]!r} from 0 to 1"


def load_rules(
    files: Mapping[str, bytes], kinds: Mapping[str, str], classes: Sequence[str], positive: str | None
) -> Rules:
    """The rules of project/rules.py among the files of a bundle's code, by their paths.

    Raises RulesError where it cannot be imported, has no list, or lists what is no named function.
    """
    try:
        module = load_apart(files, MODULE)
    except (Exception, SystemExit) as error:  # it is the team's own code
        line = (str(error).strip().splitlines() or [""])[0][:200]
        raise RulesError(f"{FILE} cannot be imported: {type(error).__name__}: {line}") from error
    if not any(hasattr(module, name) for name in LISTS):
        raise RulesError(
            f"{FILE} has neither BEFORE nor AFTER, so it lists no rule: an empty BEFORE = [] says that there are none"
        )
    lists = [getattr(module, name, []) for name in LISTS]
    for name, rules in zip(LISTS, lists, strict=True):
        if not isinstance(rules, list | tuple):
            raise RulesError(f"{name} in {FILE} is {type(rules).__name__}, not a list of functions")
        for rule in rules:
            if not callable(rule) or not getattr(rule, "__name__", "").isidentifier():
                raise RulesError(f"{name} in {FILE} holds {_words(rule)}, which is no function with a name")
    names = [rule.__name__ for rules in lists for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RulesError(f"{FILE} lists the rule {twice[0]} twice")
    return Rules(kinds, classes, positive, *lists)


def is_number(value: Any) -> bool:
    """Whether an answer is a number, Python's or NumPy's; True and False are not."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _plain(value: float | str | None, kind: str) -> Any:
    if kind == "text":
        return value or None
    if value is None or value != value:
        return None
    return {"integer": int, "boolean": bool, "number": float}[kind](value)


def _words(value: Any) -> str:
    return shown(value) if isinstance(value, str | int | float) else type(value).__name__
