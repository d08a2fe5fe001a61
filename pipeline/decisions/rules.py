"""The rules of project/rules.py: read as the service reads them, tried before anything long is done, and asked beside a model."""

import ast
import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.artifacts import ROOT
from pipeline.data.dataset import Dataset
from pipeline.errors import ProjectError
from pipeline.formats import bare_service, bundle, sklearn_model
from serving.counts.records import MODEL
from serving.model.decision import Threshold, decide
from serving.model.rules import FILE, MODULE, NONE, RuleError, Rules, RulesError, load_rules

CODE = "code/"
BLANKED = 50  # rows in which each column that may be empty is emptied
THEN = "correct project/rules.py; docs/thresholds-and-rules.md says what a rule may do"


class Told(NamedTuple):
    """What a rule did to some rows: how many it decided, and the share of them that is right, with it and with the model alone.

    For a regression, the mean absolute errors on these rows instead; None where it decided none.
    """

    rule: str
    before: bool
    rows: int
    right: float | None = None
    right_without: float | None = None


def files() -> dict[str, bytes]:
    """project/rules.py and the modules of project/ that it imports, as files of the bundle; none where there are no rules.

    Raises ProjectError for text that is not Python, and for an import that the images of the service do not have.
    """
    if not (ROOT / FILE).is_file():
        return {}
    try:
        found = sklearn_model.code_for([MODULE])
    except SyntaxError as error:
        raise ProjectError(
            f"{error.filename} is not valid Python: {error.msg}, line {error.lineno}", "correct that line"
        ) from error
    known = {*sys.stdlib_module_names, sklearn_model.OWN, *_shared_packages()}
    for name, text in found.items():
        for package in _packages(text, name):
            if package not in known:
                raise ProjectError(
                    f"{name.removeprefix(CODE)} imports {package}, which the image of the service does not have",
                    "rules may import the standard library, numpy and modules of project/ that do no more; "
                    "move what rules need into a module of its own",
                )
    return found


def of_files(found: Mapping[str, bytes], dataset: Dataset) -> Rules | None:
    """The rules among the files of a bundle, as the service reads them; None where there are none. Raises ProjectError."""
    if f"{CODE}{FILE}" not in found:
        return None
    code = {name.removeprefix(CODE): text for name, text in found.items() if name.startswith(CODE)}
    try:
        return load_rules(code, dataset.kinds, dataset.classes, dataset.settings.data.positive)
    except RulesError as error:
        raise ProjectError(str(error), THEN) from error


def checked(dataset: Dataset) -> dict[str, bytes]:
    """The files of the rules, after every rule was tried; none where there are no rules. Raises ProjectError naming rule and row."""
    found = files()
    rules = of_files(found, dataset)
    if rules is None or not rules.names:
        return {}
    with TemporaryDirectory() as elsewhere, chdir(elsewhere):  # the service has none of the project's files beside it
        for place in range(len(rules.names)):
            for name, row in _rows(rules, dataset):
                for given in _scores(dataset):
                    _try(rules, place, name, row, given)
    return found


def contract_part(found: Mapping[str, bytes], dataset: Dataset) -> dict[str, Any]:
    """What the contract says of the rules; nothing where there are none."""
    rules = of_files(found, dataset)
    return {"rules": rules.lists} if rules else {}


def without(files: Mapping[str, bytes], contract: Mapping[str, Any]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A model's files and contract without its rules: for parity, where the model alone is asked."""
    alone = {key: value for key, value in contract.items() if key != "rules"}
    if contract["format"] != "skops":
        files = {name: data for name, data in files.items() if not name.startswith(CODE)}
    return dict(files), alone


def apply(rules: Rules, dataset: Dataset, rows: pd.DataFrame, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The answers of model and rules together to these rows, and the number of the rule that decided each (-1: none).

    A row to which the model has no finite answer, or on which a rule fails, has NaN.
    """
    together, numbers = np.array(y_pred, dtype=np.float64), np.full(len(rows), NONE)
    plain = rows[list(dataset.kinds)].itertuples(index=False, name=None)
    for place, row in enumerate(plain):
        named = rules.named(row)
        try:
            decided = rules.before(named)
            if decided is None and np.isfinite(together[place]).all():
                decided = rules.after(named, together[place])
        except RuleError:
            together[place] = np.nan
            continue
        if decided is not None:
            together[place], numbers[place] = decided.answer, decided.rule
    return together, numbers


def together(rules: Rules | None, dataset: Dataset, y_pred: np.ndarray) -> np.ndarray:
    """What model and rules answer on the hold-out, of which `y_pred` are the model's own answers. Raises ProjectError where a rule fails."""
    if rules is None:
        return y_pred
    given, _ = apply(rules, dataset, dataset.features[dataset.holdout], y_pred)
    if not np.isfinite(given).all():
        row = dataset.ids[dataset.holdout][int((~np.isfinite(given.reshape(len(given), -1)).all(axis=1)).argmax())]
        raise ProjectError(f"a rule fails on the model's answer to row {row}", THEN)
    return given


def deciders(rules: Rules | None, dataset: Dataset, y_pred: np.ndarray) -> dict[str, float]:
    """The share of the hold-out that the model decides, and each rule by its name; empty without rules. `y_pred` are the model's answers."""
    if rules is None or not rules.names:
        return {}
    _, numbers = apply(rules, dataset, dataset.features[dataset.holdout], y_pred)
    shares = np.bincount(numbers + 1, minlength=len(rules.names) + 1) / len(numbers)
    return dict(zip((MODEL, *rules.names), shares.round(6).tolist(), strict=True))


def settled(
    rules: Rules, dataset: Dataset, tolerance: float, rows: pd.DataFrame, y_pred: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The answers of both together, the number of the rule that decided each (-1: none), and which of them hold.

    An answer holds where the same rule decides alike when the model's own answer is off by twice the tolerance.
    """
    held = np.ones(len(rows), dtype=bool)
    given, numbers = apply(rules, dataset, rows, y_pred)
    for by in (-2 * tolerance, 2 * tolerance):
        moved = y_pred + by * np.maximum(1, np.abs(y_pred)) if y_pred.ndim == 1 else np.clip(y_pred + by, 0, 1)
        other, again = apply(rules, dataset, rows, moved)
        near = np.abs(given - other) <= 4 * tolerance * np.maximum(1, np.abs(given))
        held &= (numbers == again) & near.reshape(len(rows), -1).all(axis=1)
    return given, numbers, held & np.isfinite(given).reshape(len(rows), -1).all(axis=1)


def on_holdout(rules: Rules, dataset: Dataset, y_pred: np.ndarray, threshold: Threshold | None) -> list[Told]:
    """What each rule did to the hold-out, beside the model alone, whose answers `y_pred` are."""
    y_true = dataset.y[dataset.holdout]
    together, numbers = apply(rules, dataset, dataset.features[dataset.holdout], y_pred)
    made = []
    for place, name in enumerate(rules.names):
        mine = numbers == place
        figures: tuple[float | None, ...] = (None, None)
        if mine.any() and dataset.classes:
            figures = tuple(float((decide(one[mine], threshold) == y_true[mine]).mean()) for one in (together, y_pred))
        elif mine.any():
            figures = tuple(float(np.abs(one[mine] - y_true[mine]).mean()) for one in (together, y_pred))
        made.append(Told(name, name in rules.lists["before"], int(mine.sum()), *figures))
    return made


def _try(rules: Rules, place: int, name: str, row: Mapping[str, Any], given: np.ndarray) -> None:
    rule, asked = rules.names[place], [dict(copy.deepcopy(row)) for _ in range(2)]
    try:
        first, second = (rules.answer(place, one, given) for one in asked)
    except RuleError as error:
        raise ProjectError(f"project/rules.py: {error}, on {name}", THEN) from error
    if asked[0] != row or asked[1] != row:
        raise ProjectError(f"project/rules.py: the rule {rule} changes the row that it is given, on {name}", THEN)
    if (first is None) != (second is None) or (first and second and not np.array_equal(first.answer, second.answer)):
        raise ProjectError(f"project/rules.py: the rule {rule} answers differently when asked twice, on {name}", THEN)


def _rows(rules: Rules, dataset: Dataset) -> Iterator[tuple[str, dict[str, Any]]]:
    """The hold-out's rows, whose first is the contract's example, and some of them with an empty cell where one may be."""
    held = dataset.features[dataset.holdout][list(dataset.kinds)]
    ids = dataset.ids[dataset.holdout]
    rows = [rules.named(row) for row in held.itertuples(index=False, name=None)]
    yield from ((f"row {name}", row) for name, row in zip(ids, rows, strict=True))
    for column in dataset.kinds:
        if bundle.nullable(dataset, column):
            for name, row in zip(ids[:BLANKED], rows[:BLANKED], strict=True):
                yield f"row {name} without {column}", row | {column: None}


def _scores(dataset: Dataset) -> list[np.ndarray]:
    """What a model might answer: the ends and the middle of what is possible, or of what was seen."""
    k = len(dataset.classes)
    if k:
        return [*np.eye(k)[[0, -1]], np.full(k, 1 / k)]
    return [np.array(value) for value in np.quantile(dataset.y[~dataset.holdout], (0, 0.5, 1))]


def _packages(text: bytes, name: str) -> Iterator[str]:
    """The packages that a file imports, but for its own by a relative import."""
    for node in ast.walk(ast.parse(text, name)):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def _shared_packages() -> set[str]:
    """The names under which the packages are imported that every image of the service has."""
    return set.intersection(*(set(bare_service.packages(kind)) for kind in bundle.REQUIREMENTS))
