"""Checks of the model's code on a sample, before anything is trained for long."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd

from pipeline.data import expectations
from pipeline.data.dataset import Dataset
from pipeline.decisions import rules, threshold
from pipeline.errors import DataError, PortabilityError, ProjectError, in_project
from pipeline.evaluation import metrics
from pipeline.evaluation.behaviour import Direction, Invariance, Outcome, keeps_direction, keeps_still
from pipeline.evaluation.record import Format
from pipeline.formats import bundle, choose, family

ROWS = 2000  # of the sample: enough to tell a model from a dummy, few enough to fit in seconds
NO_GAIN = 0.01  # share of a dummy's loss; who gains surely less has learned nothing
STORED, UNTRUSTED = "can be stored without pickle", "not trusted: "
TRIED = 10  # columns that are taken away or filled with text, one at a time
Predict = Callable[[pd.DataFrame], np.ndarray]


def examine(dataset: Dataset) -> list[Outcome]:
    """Every outcome, in the order in which one relies on the other; ends early when the answers are unusable."""
    metrics.check_names(dataset.settings, list(dataset.features), metrics.of_project())
    rules.checked(dataset)
    threshold.check(dataset)
    rows, kept_back = sample(dataset)
    model, again = (family.fit(family.build(dataset.settings), dataset, rows[~kept_back]) for _ in range(2))
    predict, predict_again = partial(family.answer, model, dataset), partial(family.answer, again, dataset)
    features, y = dataset.features.iloc[rows[kept_back]], dataset.y[rows[kept_back]]
    features = features.set_axis(dataset.ids[rows[kept_back]], axis=0)
    usable = usable_answers(dataset, features, predict)
    if not usable.success:
        return [usable]
    dummy = partial(family.answer, dummy_for(dataset, rows[~kept_back]), dataset)
    return [
        usable,
        beats_dummy(dataset, y, predict(features), dummy(features)),
        same_twice(predict(features), predict_again(features)),
        one_row(dataset, model, features),
        refuses_missing_column(features, predict),
        refuses_text(dataset, features, predict),
        *behaves(dataset, features, predict),
        can_be_stored(dataset, model),
        *can_be_served(dataset, model, features, predict),
    ]


def sample(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """At most 2,000 rows of the training side, and which of them are kept back from the fit (every fourth).

    Classes are drawn evenly: a rare one would not show in a small sample. Always the same rows for the same data.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.flatnonzero(~dataset.holdout))
    groups = [rows]
    if dataset.classes:
        each = max(4, ROWS // len(dataset.classes))
        groups = [rows[dataset.y[rows] == position][:each] for position in range(len(dataset.classes))]
        for name, group in zip(dataset.classes, groups, strict=True):
            if len(group) < 4:
                raise DataError(
                    f"class {name!r} has {len(group)} rows on the training side, too few to try a model on",
                    "add rows of that class",
                )
    groups = [group[:ROWS] for group in groups]
    if len(groups[0]) < 4:
        raise DataError(f"the training side has {len(groups[0])} rows, too few to try a model on", "add rows")
    kept_back = np.concatenate([np.arange(len(group)) % 4 == 3 for group in groups])
    chosen = np.concatenate(groups)
    # Shuffled again: a model may not be told the class by the order of the rows.
    order = rng.permutation(len(chosen))
    return chosen[order], kept_back[order]


def dummy_for(dataset: Dataset, rows: np.ndarray) -> Any:
    """A model that has learned nothing but how common each class is, or the mean."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    dummy = DummyClassifier(strategy="prior") if dataset.classes else DummyRegressor()
    return dummy.fit(dataset.features.iloc[rows], dataset.y[rows])


def usable_answers(dataset: Dataset, features: pd.DataFrame, predict: Predict) -> Outcome:
    """Answers are finite, one per row; for classes, probabilities that sum to one."""
    check = "answers with probabilities" if dataset.classes else "answers with numbers"
    try:
        given = predict(features)
    except ProjectError as error:
        return Outcome(check, False, f"{error.what}; {error.then}")
    except Exception as error:
        return Outcome(check, False, f"raises {type(error).__name__}: {first_line(error)}")
    shape = (len(features), len(dataset.classes)) if dataset.classes else (len(features),)
    if given.shape != shape:
        return Outcome(check, False, f"answers have shape {given.shape}, expected {shape}")
    if not np.isfinite(given).all():
        return Outcome(check, False, f"{int((~np.isfinite(given)).sum())} answers are not finite")
    if dataset.classes:
        off = float(np.abs(given.sum(axis=1) - 1).max())
        if off > 1e-6 or given.min() < 0:
            return Outcome(check, False, f"sums differ from one by up to {off:.2g}, the least is {given.min():.2g}")
    return Outcome(check, True, f"{len(given)} rows, all finite" + (", sums are one" if dataset.classes else ""))


def beats_dummy(dataset: Dataset, y: np.ndarray, given: np.ndarray, dummy: np.ndarray) -> Outcome:
    """The model is nearer the truth than one that has learned nothing, on rows that it was not fitted on.

    Judged by the mean difference of the two losses per row and its one-sided 95 % bounds (paired t): surely less than a
    hundredth of the dummy's loss is no gain; where a gain and a loss are both possible, the rows are too few to tell.
    """
    check, data = "beats a dummy", dataset.settings.data
    positive = dataset.classes.index(data.positive) if data.positive else None
    name = "brier" if dataset.classes else "rmse"
    metric = metrics.metrics_for(data.task, positive)[name]
    values = f"{name} {metric.value(y, given):.4g}, a dummy's {metric.value(y, dummy):.4g} (lower is better), on {len(y)} rows"
    loss = cast(Callable[..., np.ndarray], metric.per_row)  # both have one
    theirs = loss(y, dummy)
    low, high = mean_bounds(theirs - loss(y, given))
    if low > 0:
        return Outcome(check, True, f"{values} kept back: surely better")
    if high < NO_GAIN * theirs.mean():
        return Outcome(check, False, f"{values} kept back: surely not better")
    return Outcome(
        check, True, f"{values} kept back: too few to tell, so this is not judged here; the gate's limits will be"
    )


def mean_bounds(differences: np.ndarray) -> tuple[float, float]:
    """One-sided 95 % bounds of the mean, by Student's t; infinite for fewer than two rows."""
    from scipy.stats import t

    count = len(differences)
    if count < 2:
        return -np.inf, np.inf
    half = float(t.ppf(0.95, count - 1) * differences.std(ddof=1) / np.sqrt(count))
    mean = float(differences.mean())
    return mean - half, mean + half


def same_twice(first: np.ndarray, second: np.ndarray) -> Outcome:
    """Two fits with the same seed answer alike, but for rounding."""
    off = float(np.abs(first - second).max()) if first.shape == second.shape else np.inf
    scale = max(1.0, float(np.abs(first).max()))
    same = off <= 1e-12 * scale
    observed = "two fits answer alike" if same else f"two fits differ by up to {off:.2g}: use the seed given to build()"
    return Outcome("same seed, same model", same, observed)


def one_row(dataset: Dataset, model: Any, features: pd.DataFrame) -> Outcome:
    """A row alone gets the answer that it gets among others."""
    check = "answers one row as it answers many"
    try:
        family.answer(model, dataset, features.iloc[[0]])
    except Exception as error:
        return Outcome(check, False, f"raises {type(error).__name__}: {first_line(error)}")
    found = choose.contradiction(model, dataset, features)
    if found.differ > choose.CONTRADICTED * found.rows:
        return Outcome(check, False, f"{found}; {choose.ONE_ANSWER}")
    return Outcome(check, True, str(found) if found.differ else f"{found.rows} rows, each alone and among the others")


def refuses_missing_column(features: pd.DataFrame, predict: Predict) -> Outcome:
    """Without a column that matters to it, the model raises instead of answering."""
    changes = {name: features.drop(columns=name) for name in few(list(features))}
    return _refuses("refuses a missing column", changes, features, predict)


def refuses_text(dataset: Dataset, features: pd.DataFrame, predict: Predict) -> Outcome:
    """With text in a number column that matters to it, the model raises instead of answering."""
    numbers = [name for name, kind in dataset.kinds.items() if kind == "number"]
    if not numbers:
        return Outcome("refuses text in a number column", True, "there is no number column")
    text = pd.Series("text", index=features.index, dtype=object)
    changes = {name: features.assign(**{name: text}) for name in few(numbers)}
    return _refuses("refuses text in a number column", changes, features, predict)


def can_be_stored(dataset: Dataset, model: Any) -> Outcome:
    """The model holds only types that skops or the settings trust."""
    unknown = family.family_of(model).untrusted(model, dataset.settings.train.trusted_types)
    observed = f"{UNTRUSTED}{', '.join(unknown)}" if unknown else "all types are trusted"
    return Outcome(STORED, not unknown, observed)


def can_be_served(dataset: Dataset, model: Any, features: pd.DataFrame, predict: Predict) -> list[Outcome]:
    """The model's labels are the most probable classes, and it answers within [gate] parity as before in one of the service's formats."""
    tolerance = dataset.settings.gate.parity
    declared = kept_limits(dataset)

    def contract_for(form: dict[str, Any]) -> dict[str, Any]:
        return bundle.contract(dataset, form, declared, "", tolerance)

    tried = choose.prepare(model, dataset, features, predict(features), contract_for({})["inputs"])
    odd = choose.not_most_probable(model, dataset, tried)
    labels = Outcome("names the most probable class", not odd, f"{odd}; {choose.MOST_PROBABLE}" if odd else "it does")
    return [*([labels] if dataset.classes else []), _in_a_format(dataset, model, tried, contract_for)]


def kept_limits(dataset: Dataset) -> dict[str, Any]:
    """The ranges and values that project/checks.py declares, without those that the data breaks: `make validate` is about them."""
    ranges, values = expectations.limits(expectations.suite_of_project())
    features = dataset.features

    def inside(name: str, limit: Any) -> bool:
        if dataset.kinds[name] == "text":
            return False
        low, high = (limit.get(side) for side in ("minimum", "maximum"))
        above, below = (limit.get(f"exclusive_{side}") for side in ("minimum", "maximum"))
        given = features[name].dropna()
        return bool(
            (low is None or (given >= low).all())
            and (high is None or (given <= high).all())
            and (above is None or (given > above).all())
            and (below is None or (given < below).all())
        )

    def listed(name: str, allowed: list) -> bool:
        given = features[name].dropna()
        return bool(given[given != ""].isin(allowed).all())

    return {
        "ranges": {name: limit for name, limit in ranges.items() if name in features and inside(name, limit)},
        "values": {name: allowed for name, allowed in values.items() if name in features and listed(name, allowed)},
    }


def _in_a_format(dataset: Dataset, model: Any, tried: list[choose.Trial], contract_for: Any) -> Outcome:
    check, tolerance = "can be served", dataset.settings.gate.parity
    try:
        chosen = choose.choose(model, dataset, tried, contract_for)
    except PortabilityError as error:
        return Outcome(check, False, f"{error.what}; {error.then}")
    differs = max(found.difference for found in chosen.parity)
    form = Format(chosen.form["format"], chosen.form["format_reason"])
    reason = f"; by {form.library} itself: {form.format_reason}" if form.format_reason else ""
    return Outcome(check, True, f"differs by up to {differs:.2g}, {tolerance:g} is tolerated{reason}")


def few(names: list[str]) -> list[str]:
    """At most ten of the names, spread evenly."""
    return [names[place] for place in np.linspace(0, len(names) - 1, min(TRIED, len(names))).astype(int)]


def _refuses(check: str, changes: dict[str, pd.DataFrame], features: pd.DataFrame, predict: Predict) -> Outcome:
    expected, answered = predict(features), []
    for name, changed in changes.items():
        try:
            given = predict(changed)
        except Exception:
            continue
        # The same answers: the model does not use the column, and is right not to miss it.
        if given.shape != expected.shape or not np.allclose(given, expected):
            answered.append(name)
    if answered:
        return Outcome(check, False, f"it answers all the same, and otherwise: {', '.join(answered)}")
    return Outcome(check, True, f"tried with {len(changes)} columns")


def behaves(dataset: Dataset, features: pd.DataFrame, predict: Predict) -> list[Outcome]:
    """The team's own rules: what must not matter, and which way the answers go."""
    with in_project("reading INVARIANCES and DIRECTIONS of project/checks.py"):
        from project import checks

        still, directions = getattr(checks, "INVARIANCES", []), getattr(checks, "DIRECTIONS", [])
        for rule, kind in [*((one, Invariance) for one in still), *((one, Direction) for one in directions)]:
            if not isinstance(rule, kind):
                raise TypeError(f"{rule!r} is no {kind.__name__}")
    data = dataset.settings.data
    return [keeps_still(rule, features, predict) for rule in still] + [
        keeps_direction(rule, features, predict, dataset.classes, data.positive) for rule in directions
    ]


def first_line(error: Exception) -> str:
    """An exception's message, its first line only."""
    return (str(error).strip().splitlines() or [""])[0]


def show(outcomes: list[Outcome]) -> None:
    """Print the outcomes as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "check", "observed")
    for one in outcomes:
        table.add_row(*map(Text, ("✅" if one.success else "❌", one.check, one.observed)))
    Console().print(table)
    print(f"{sum(one.success for one in outcomes)} of {len(outcomes)} checks passed")
