"""The space of a search: whether build() takes its parameters, and the combinations that are proposed from it."""

import difflib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipeline.errors import ProjectError, SettingsError, in_project
from pipeline.settings import Range, Search, Train

Values = list[Any] | Range
Build = Callable[[dict[str, Any], int], Any]


class Watched(dict):
    """A dictionary that knows which of its keys were read; whoever goes through all of them has read them all."""

    def __init__(self, given: dict[str, Any]):
        super().__init__(given)
        self.asked: set[Any] = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)

    def get(self, key, default=None):
        """The value, or the default."""
        self.asked.add(key)
        return super().get(key, default)

    def pop(self, key, *default):
        """The value, which is taken out."""
        self.asked.add(key)
        return super().pop(key, *default)

    def setdefault(self, key, default=None):
        """The value, or the default, which is put in."""
        self.asked.add(key)
        return super().setdefault(key, default)

    def __iter__(self):
        self.asked |= set(super().keys())
        return super().__iter__()

    def keys(self):
        """All keys."""
        self.asked |= set(super().keys())
        return super().keys()

    def items(self):
        """All pairs."""
        self.asked |= set(super().keys())
        return super().items()

    def values(self):
        """All values."""
        self.asked |= set(super().keys())
        return super().values()

    def copy(self):
        """A dictionary with the same pairs."""
        return dict(self)

    def __or__(self, other):
        return dict(self) | other

    def __ror__(self, other):
        return other | dict(self)


def check(build: Build, train: Train, search: Search) -> None:
    """Call build() with the ends or choices of each parameter, before anything is fitted.

    Raises SettingsError when build() does not take a parameter or never looks at it, ProjectError when it fails on a value.
    """
    for name, values in search.space.items():
        for value in ends(values):
            given = Watched(
                train.parameters | {other: first(some) for other, some in search.space.items()} | {name: value}
            )
            try:
                with in_project(f"build() with {name} = {value!r} from [search.space]"):
                    build(given, train.seed)
            except ProjectError as error:
                if isinstance(error.__cause__, TypeError) and f"'{name}'" in str(error.__cause__):
                    raise SettingsError(
                        f"pipeline.toml: [search.space] {name} is no parameter that build() in project/model.py takes: {error.__cause__}",
                        "correct the name, or have build() take it",
                    ) from error
                raise
            if name not in given.asked:
                near = difflib.get_close_matches(name, sorted(map(str, given.asked - set(search.space))), n=1)
                raise SettingsError(
                    f"pipeline.toml: build() in project/model.py never reads {name}, which [search.space] names"
                    + (f"; did you mean {near[0]}?" if near else ""),
                    "correct the name, or have build() use it",
                )


def first(values: Values) -> Any:
    """One of the values."""
    return values.low if isinstance(values, Range) else values[0]


def ends(values: Values) -> list[Any]:
    """Both ends of a range, or every choice."""
    return [values.low, values.high] if isinstance(values, Range) else values


def at_ends(space: Mapping[str, Values], found: Mapping[str, Any]) -> list[str]:
    """The parameters whose found value is an end of its range, or within 2 % of its width: a better one may lie beyond."""

    def at_end(values: Values, value: Any) -> bool:
        if not isinstance(values, Range):
            return False
        low, at, high = (math.log(one) if values.log else float(one) for one in (values.low, value, values.high))
        return min(at - low, high - at) <= 0.02 * (high - low)

    return [name for name, values in space.items() if at_end(values, found[name])]


class Proposals:
    """Combinations of parameters, asked for one by one and told their scores; the same seed and scores give the same proposals."""

    def __init__(self, search: Search, seed: int, higher_is_better: bool):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = search.space
        self._grid: Iterator[dict[str, Any]] | None = _grid(search) if search.method == "grid" else None
        self._open: list[Any] = []
        if search.method != "grid":
            samplers = optuna.samplers
            sampler = samplers.RandomSampler(seed) if search.method == "random" else samplers.TPESampler(seed=seed)
            self._study = optuna.create_study(sampler=sampler, direction="maximize" if higher_is_better else "minimize")

    def ask(self, count: int) -> list[dict[str, Any]]:
        """So many combinations; they must be told before more are asked for."""
        if self._grid is not None:
            return list(itertools.islice(self._grid, count))
        given = []
        for _ in range(count):  # one after the other: the optimiser keeps away from what is open
            self._open.append(self._study.ask())
            given.append({name: _suggest(self._open[-1], name, values) for name, values in self._space.items()})
        return given

    def tell(self, scores: Sequence[float | None]) -> None:
        """The scores of what was asked for last, in that order; None: there is none."""
        import optuna

        for trial, score in zip(self._open, scores, strict=self._grid is None):
            self._study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
        self._open = []


def _grid(search: Search) -> Iterator[dict[str, Any]]:
    each = [
        [values.value(place) for place in range(values.count)] if isinstance(values, Range) else values
        for values in search.space.values()
    ]
    return (dict(zip(search.space, point, strict=True)) for point in itertools.product(*each))


def _suggest(trial, name: str, values: Values) -> Any:
    """Optuna's proposal. Choices go by their place: a list may hold what Optuna would not keep, such as lists."""
    if not isinstance(values, Range):
        return values[trial.suggest_categorical(name, list(range(len(values))))]
    if values.step is not None:
        return values.value(trial.suggest_int(name, 0, values.count - 1))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def size(search: Search) -> float:
    """How many different combinations there are; infinite where a range has no step."""

    def count(values: Values) -> float:
        if not isinstance(values, Range):
            return len(values)
        if values.step is not None:
            return values.count
        whole = isinstance(values.low, int) and isinstance(values.high, int)
        return values.high - values.low + 1 if whole else math.inf

    return math.prod(count(values) for values in search.space.values())
