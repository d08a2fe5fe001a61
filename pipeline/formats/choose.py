"""Which format a model is served in, and its answers in that format.

Its family offers the formats: ONNX first, which is faster, smaller, and runs no Python; then the model's own library. The first that
answers like the trained model is taken, and the reason against the others is kept in words.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError
from pipeline.formats import bare_service, bundle, thresholds, trials
from pipeline.formats.family import Candidate, answer, family_of
from pipeline.formats.onnx.conversion import UnendedError
from pipeline.formats.parity import Parity, answered, apart
from pipeline.formats.parity import parity as difference_of
from serving import batch
from serving.model.decision import decide, lead, threshold_of

HOLDOUT, JUMPS = "on the hold-out", "on values beside a threshold"
NULLS, TEXT = "on rows with null", "on text that training did not see"
BEYOND, FAR = "on values beyond those seen", "on very large and very small values"
CALLS = 200  # single predictions that are timed
ALONE = 100  # hold-out rows that the trained model is asked one by one
CONTRADICTED = 0.05  # share of them that may have another answer alone than among others

# What to do about a model that cannot be judged by its probabilities.
MOST_PROBABLE = (
    "the service decides by the model's probabilities: leave a threshold of its own, as TunedThresholdClassifierCV has, out of the model and "
    "set it in pipeline.toml [decision]; around an SVC, CalibratedClassifierCV makes the two agree"
)
ONE_ANSWER = (
    f"the service answers rows alone and in batches, and at most {CONTRADICTED:.0%} of the rows may differ: take all randomness from "
    'the seed; for nearest neighbours, choose algorithm="ball_tree"'
)

Describe = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """Rows on which a format is tried, in words where they are from, and the trained model's answers: NaN where it refuses a row.

    `steady` says of each row whether the trained model answers it alike in another order.
    """

    where: str
    rows: pd.DataFrame
    trained: np.ndarray
    steady: np.ndarray


@dataclass(frozen=True)
class Contradiction:
    """How often a model's answer to a row depends on the rows beside it, or on chance: of `rows` asked, and by how much at most."""

    rows: int
    differ: int
    difference: float

    def __str__(self) -> str:
        return f"{self.differ} of {self.rows} rows get another answer alone than among others, by up to {self.difference:.2g}"


@dataclass(frozen=True)
class Served:
    """A model as the service will run it; `parity` has a figure for each trial."""

    files: dict[str, bytes]
    form: dict[str, Any]  # of the contract: `format`, the part that is called like it, and `format_reason`
    parity: list[Parity]


@dataclass(frozen=True)
class Measurement:
    """What a model answers in each trial as it is served, how far that is from the trained model, and the time of a single prediction."""

    answers: list[np.ndarray]
    parity: list[Parity]
    milliseconds: float


def prepare(
    model: Any, dataset: Dataset, rows: pd.DataFrame, trained: np.ndarray, inputs: Sequence[trials.Input]
) -> list[Trial]:
    """What a format must pass: the given rows, and rows made from them that cover what the contract's `inputs` admit.

    Those lie beside the jumps that the model makes, have empty cells, text that was never seen, and numbers beyond those seen.
    A trial without rows is left out. The model is asked as the service asks it: in one thread.
    """
    from threadpoolctl import threadpool_limits

    settings = dataset.settings
    ask = _asking(model, dataset)

    def trial(where: str, some: pd.DataFrame, answers: np.ndarray) -> Trial:
        again = ask(some.iloc[::-1])[::-1]
        return Trial(where, some, answers, _near(answers, again, settings.gate.parity))

    rng = np.random.default_rng(settings.train.seed)
    start = rows.reset_index(drop=True)
    fitted = dataset.features[~dataset.holdout]
    with threadpool_limits(1), np.errstate(all="ignore"):  # a few rows each: threads would only wait for each other
        beside = thresholds.beside_jumps(ask, dataset, start, settings.gate.parity, settings.train.seed, inputs)
        made = {
            JUMPS: beside,
            NULLS: trials.with_nulls(inputs, start, rng),
            TEXT: trials.with_other_text(inputs, start, fitted, rng),
            BEYOND: trials.beyond_seen(inputs, start, fitted, rng),
            FAR: trials.very_large(inputs, start, rng),
        }
        asked = [trial(where, some, ask(some)) for where, some in made.items() if len(some)]
        return [trial(HOLDOUT, start, trained), *asked]


def on_holdout(dataset: Dataset, trained: np.ndarray) -> Trial:
    """The hold-out as a trial; `trained` are the trained model's answers to it."""
    rows = dataset.features[dataset.holdout].reset_index(drop=True)
    return Trial(HOLDOUT, rows, trained, np.ones(len(rows), dtype=bool))


def contradiction(model: Any, dataset: Dataset, rows: pd.DataFrame) -> Contradiction:
    """How a model's answers to at most 100 of these rows, asked alone, differ from those among the others; in one thread."""
    from threadpoolctl import threadpool_limits

    some = rows.iloc[np.linspace(0, len(rows) - 1, min(ALONE, len(rows))).astype(int)]
    with threadpool_limits(1):
        among, by_itself = answer(model, dataset, some), alone(model, dataset, some)
    off = apart(among, by_itself)
    return Contradiction(len(some), int((off > dataset.settings.gate.parity).sum()), float(off.max()))


def alone(model: Any, dataset: Dataset, rows: pd.DataFrame) -> np.ndarray:
    """The trained model's answers to rows that it is asked one by one; NaN where it refuses a row."""
    ask = _asking(model, dataset)
    return np.concatenate([ask(rows.iloc[[place]]) for place in range(len(rows))])


def firm(model: Any, dataset: Dataset, tried: Sequence[Trial]) -> list[tuple[pd.DataFrame, np.ndarray]]:
    """Of each trial of ordinary values, the rows whose answers hold wherever they are computed, and these answers.

    Numbers that are larger or smaller by a billionth give the same answer there: none lies within a rounding error of a jump.
    """
    ask, tolerance = _asking(model, dataset), dataset.settings.gate.parity
    numbers = [name for name, kind in dataset.kinds.items() if kind == "number"]
    found = []
    for one in tried:
        if one.where in (NULLS, TEXT, BEYOND):
            shifted = [
                ask(one.rows.assign(**{name: one.rows[name] * by for name in numbers})) for by in (1 - 1e-9, 1 + 1e-9)
            ]
            holds = one.steady & _near(one.trained, shifted[0], tolerance) & _near(one.trained, shifted[1], tolerance)
            found.append((one.rows[holds], one.trained[holds]))
    return found


def not_most_probable(model: Any, dataset: Dataset, tried: Sequence[Trial]) -> str:
    """Where predict() of a classifier names another class than that of the largest probability, in words; "" where it never does.

    Two classes less than twice the tolerance apart may fall on either side.
    """
    if not dataset.classes or not hasattr(model, "predict"):
        return ""
    tolerance, differ, asked = dataset.settings.gate.parity, 0, 0
    for one in tried:
        known = one.steady & np.isfinite(one.trained).all(axis=1)
        given = one.trained[known]
        clear = lead(given) > 2 * tolerance
        rows = one.rows[known][clear]
        labels = trials.each_answered(model.predict, rows, 1).ravel()
        differ += int((np.isfinite(labels) & (labels != decide(given[clear]))).sum())
        asked += len(rows)
    if not differ:
        return ""
    return f"predict() of {_deciding(model)} names another class than the most probable one in {differ} of {asked} rows"


def _deciding(model: Any) -> str:
    title = family_of(model).title(model)
    return f"{title}, the pipeline's last step," if hasattr(model, "steps") else title


def _asking(model: Any, dataset: Dataset) -> Callable[[pd.DataFrame], np.ndarray]:
    """The trained model as a function that gives NaN for a row that it refuses."""
    width = max(1, len(dataset.classes))
    shape = (-1, width) if dataset.classes else (-1,)

    def ask(some: pd.DataFrame) -> np.ndarray:
        return trials.each_answered(lambda part: answer(model, dataset, part), some, width).reshape(shape)

    return ask


def _near(one: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
    return apart(one, other) <= tolerance


def choose(model: Any, dataset: Dataset, tried: Sequence[Trial], describe: Describe) -> Served:
    """The format in which a fitted model is served; `describe` makes a contract from its part.

    It is the first format of which a form answers like the model itself in all trials. Raises PortabilityError with the reason of each
    format when there is none.
    """
    tolerance, family = dataset.settings.gate.parity, family_of(model)
    problems: list[PortabilityError] = []
    for forms in family.formats(model, dataset):
        reason = f"{family.title(model)}: {_in_words(problems)}" if problems else ""

        def judge(one: Candidate, reason: str = reason) -> list[Parity]:
            _fits(one, dataset.settings.gate.max_bundle_mb)
            return measure(one.files, describe(_part(one, reason)), tried, tolerance).parity

        try:
            with closing(forms):
                found, parity = closest(forms, judge, tolerance)
        except PortabilityError as error:
            problems.append(error)
            continue
        if all(one.holds(tolerance) for one in parity):
            return Served(dict(found.files), _part(found, reason), parity)
        problems.append(PortabilityError(_difference(found.what, tried, parity, tolerance)))
    raise PortabilityError(
        f"the model cannot be served: {family.title(model)}: {_in_words(problems)}",
        problems[-1].then or "change it in project/model.py",
    )


def _fits(one: Candidate, limit: float) -> None:
    """Raise PortabilityError for a model that the gate would refuse by its size, before it is tried."""
    size = sum(len(content) for content in one.files.values()) / 1e6
    if size > limit:
        raise PortabilityError(
            f"{one.what} would be {size:.3g} MB, more than max_bundle_mb = {limit:g} in pipeline.toml [gate]",
            "make the model smaller (fewer or shallower trees), or raise max_bundle_mb",
        )


def closest(
    forms: Iterable[Candidate | PortabilityError], judge: Callable[[Candidate], list[Parity]], tolerance: float
) -> tuple[Candidate, list[Parity]]:
    """The first form that `judge` finds within the tolerance in all trials, with its figures; else the one that is closest.

    Raises PortabilityError with the reason of each when none can be made and run.
    """
    best: tuple[Candidate, list[Parity]] | None = None
    problems: list[PortabilityError] = []
    for form in forms:
        if isinstance(form, PortabilityError):
            # What ended all conversions says more than what ended one.
            problems.insert(0 if isinstance(form, UnendedError) else len(problems), form)
            continue
        try:
            found = judge(form)
        except PortabilityError as error:
            problems.append(error)
            continue
        if best is None or _worst(found) < _worst(best[1]):
            best = form, found
        if all(one.holds(tolerance) for one in found):
            break
    if best is None:
        raise PortabilityError(_in_words(problems), problems[0].then)
    return best


def _part(one: Candidate, reason: str) -> dict[str, Any]:
    """The contract's part of a form, with the reason why no better format was taken."""
    return {"format": one.form["format"], "format_reason": reason, **one.form}


def _in_words(problems: Sequence[PortabilityError]) -> str:
    return "; ".join(dict.fromkeys(one.what for one in problems))


def _worst(found: Sequence[Parity]) -> tuple[int, float]:
    odd = max(one.labels + one.unanswered + one.answered for one in found)
    return odd, max(one.difference for one in found)


def measure(
    files: Mapping[str, bytes], contract: dict[str, Any], tried: Sequence[Trial], tolerance: float, calls: int = 0
) -> Measurement:
    """Ask a model as it will be served, and compare its answers with the trained model's.

    This is the one test of parity: train.py chooses a format by it, and evaluate.py asks it of the files that were written. Raises
    PortabilityError where the service would not load the model.
    """
    given, milliseconds = ask(files, contract, [one.rows for one in tried], calls, each=True)
    return Measurement(given, compare(tried, given, contract, tolerance), milliseconds)


def compare(
    tried: Sequence[Trial], given: Sequence[np.ndarray], contract: dict[str, Any], tolerance: float
) -> list[Parity]:
    """How far a format's answers are from the trained model's in each trial, over the rows that the contract admits.

    Of very large and very small values the format may refuse some that the trained model answers: the caller is told so, and given
    no wrong answer. A stored model is the very same code, so where the trained one contradicts itself, there is no answer to compare with.
    """
    largest = batch.largest(contract)
    found = []
    for one, answers in zip(tried, given, strict=True):
        counts = trials.admitted(contract["inputs"], one.rows, largest)
        if contract["format"] != "onnx":
            counts &= one.steady
        if one.where == FAR:
            counts &= answered(answers)
        found.append(difference_of(one.trained[counts], answers[counts], tolerance, threshold_of(contract)))
    return found


def ask(
    files: Mapping[str, bytes],
    contract: dict[str, Any],
    parts: Sequence[pd.DataFrame],
    calls: int = 0,
    each: bool = False,
) -> tuple[list[np.ndarray], float]:
    """A served model's answers in float64 for each part, whose rows are asked together, by the code of the service.

    Also the median milliseconds of `calls` single predictions (or NaN). Raises PortabilityError where the service would not load the
    model or it fails on a row; with `each`, such a row has NaN, and so have all where the model answers none.
    """
    if contract["format"] != "onnx":
        return bare_service.ask(files, contract, parts, calls, each)
    rows = pd.concat([part[[given["name"] for given in contract["inputs"]]] for part in parts], ignore_index=True)
    plain = list(zip(*(rows[given["name"]].tolist() for given in contract["inputs"]), strict=True))
    with tempfile.TemporaryDirectory() as work:
        folder = bundle.try_out(files, contract, Path(work) / "bundle")
        try:
            with np.errstate(over="ignore"):  # rows that the contract would refuse
                answers, milliseconds = batch.ask(folder, plain, [len(part) for part in parts], calls, each)
        except batch.REFUSED as error:
            raise PortabilityError(f"the service cannot run the model: {batch.in_words(error)}") from error
    return np.split(answers, np.cumsum([len(part) for part in parts])[:-1]), milliseconds


def predict(
    files: Mapping[str, bytes], contract: dict[str, Any], rows: pd.DataFrame, calls: int = 0
) -> tuple[np.ndarray, float]:
    """A served model's answers in float64, and the median milliseconds of `calls` single predictions (or NaN)."""
    (answers,), milliseconds = ask(files, contract, [rows], calls)
    return answers, milliseconds


def _difference(what: str, tried: Sequence[Trial], parity: Sequence[Parity], tolerance: float) -> str:
    where, worst = next(
        (one.where, found) for one, found in zip(tried, parity, strict=True) if not found.holds(tolerance)
    )
    if worst.unanswered:
        return f"{what} has no finite answer {where}"
    if worst.answered:
        return f"{what} answers what the trained model refuses {where}"
    return f"{what} differs by {worst.difference:.2g} {where}"
