"""May the candidate replace the production model? A paired bootstrap over the hold-out, a verdict, and its reasons.

Pure functions over arrays and plain data. docs/decisions/0001-gate.md gives the reasons and the measured error rates.
Shapes as in pipeline/evaluation/metrics.py: y_true (n,), predictions (n, k) probabilities or (n,) values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import stdtrit

from pipeline.evaluation.metrics import Metric, named

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 200_000  # weights handled at once (1.6 MB): several arrays of that size still fit the processor's cache
BUDGET = 10_000_000  # resamples x rows of one comparison: keeps a million rows within a few seconds
FEWEST = 50  # resamples, however large the hold-out; Student's t then widens the bounds by 2 %
UNDEFINED = 0.1  # share of resamples without a value (no positive row drawn) above which nothing is claimed
POWER = 0.8  # with which a true difference of `detectable` is found

Outcome = Literal["accept", "keep", "refuse"]
Policy = Literal["better", "superior", "not_worse"]


# --- what is compared ---


@dataclass(frozen=True)
class Comparison:
    """A metric of both models on the same rows.

    `difference` is candidate - production as it stands, whichever is better; `lower` and `upper` bound it, each with
    the confidence asked for, and are infinite when the rows allow no statement. `detectable` is the size of the true
    difference that as many rows show with 80 % probability.
    """

    candidate: float
    production: float
    difference: float
    lower: float
    upper: float
    detectable: float

    def plain(self) -> dict[str, float | None]:
        """As JSON can carry it: what is infinite or undefined is None."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def identical(candidate: np.ndarray, production: np.ndarray, tolerance: float = 0.0) -> bool:
    """Whether both give the same answer on every row, probabilities or values within the tolerance."""
    return candidate.shape == production.shape and bool((np.abs(candidate - production) <= tolerance).all())


def compare(
    metric: Metric,
    y_true: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    repeats: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Comparison:
    """The difference of a metric with one-sided bounds, by a paired bootstrap over the rows.

    `repeats` gives each row the number of its group, shape (n,): rows that are copies of one another have the same (see
    `repeated`), and are drawn together or not at all. None: no row is a copy.
    `subjects` gives each row the number of whom it is about, shape (n,): rows of one subject are unlike, but tell of the
    same, so they too are drawn together (a cluster bootstrap). None: each row is about somebody else.
    `weights` gives each row what it counts, shape (n,), 0 or more; it is no more often drawn for that. None, or a metric that
    takes no weights: each counts the same.

    Both models meet the same resampled rows. A bound is Student's t times the standard deviation of the resampled
    differences away from the difference; a few virtual rows on which the models disagree (see `_pool`) widen it on
    small hold-outs. The number of resamples falls with the rows (`BUDGET`), to `FEWEST` from 200,000 rows on; Student's
    t accounts for that as well. The same seed gives the same bounds.

    Nothing is claimed, and the bounds are infinite, when the metric does not move at all (the models differ in nothing
    it can see) or is undefined on more than a tenth of the resamples.
    """
    weights = weights if metric.weighted else None
    reported = metric.value(y_true, candidate, weights), metric.value(y_true, production, weights)
    difference = reported[0] - reported[1]
    if math.isnan(difference):
        return Comparison(*reported, math.nan, math.nan, math.nan, math.nan)
    first, sizes = _groups(repeats, weights)
    y_true, candidate, production = y_true[first], candidate[first], production[first]
    units = None if subjects is None else np.unique(subjects[first], return_inverse=True)[1]
    drawn = min(resamples, max(FEWEST, BUDGET // len(y_true)))
    pool = _pool(metric, y_true, candidate, production, sizes, units)
    differences = _resampled_differences(metric, pool, drawn, seed)
    known = differences[~np.isnan(differences)]
    unbounded = Comparison(*reported, difference, -math.inf, math.inf, math.inf)
    telling = _telling(metric, y_true, sizes, units)
    if telling < 2 or len(known) < (1 - UNDEFINED) * drawn:
        return unbounded
    error = float(known.std(ddof=1))
    if error == 0:
        return unbounded
    t = float(stdtrit(min(telling, len(known)) - 1, confidence))
    detectable = (t + NormalDist().inv_cdf(POWER)) * error
    return Comparison(*reported, difference, difference - t * error, difference + t * error, detectable)


def interval(
    metric: Metric,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    confidence: float,
    resamples: int,
    seed: int,
    repeats: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """Bounds of a metric of one model, each with that confidence: percentiles of a bootstrap over the rows, drawn as by `compare`.

    None, where the rows allow no statement: the metric is undefined on them or on more than a tenth of the resamples, or
    the same on all. It is for people to read; the verdict rests on `compare`.
    """
    weights = weights if metric.weighted else None
    value = metric.value(y_true, y_pred, weights)
    if math.isnan(value):
        return None
    first, sizes = _groups(repeats, weights)
    y_true, y_pred = y_true[first], y_pred[first]
    units = None if subjects is None else np.unique(subjects[first], return_inverse=True)[1]
    drawn = min(resamples, max(FEWEST, BUDGET // len(y_true)))
    count = len(y_true) if units is None else int(units.max()) + 1
    pool = _Pool(y_true, y_pred, y_pred, rows=count, slots=1, sizes=sizes, units=units)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_model = metric.on(y_true, y_pred)
        values = np.concatenate([of_model(weights) for weights in _draws(pool, drawn, seed)])
    known = values[~np.isnan(values)]
    if len(known) < (1 - UNDEFINED) * drawn or known.min() == known.max():
        return None
    lower, upper = np.quantile(known, [1 - confidence, confidence])
    return min(value, float(lower)), max(value, float(upper))


def repeated(features: "pd.DataFrame", y_true: np.ndarray) -> np.ndarray | None:
    """The number of each row's group, 0 … groups - 1, shape (n,); None when all rows are distinct.

    Rows with the same features and target are one group: copies of one row, or rows that cannot be told from copies.
    """
    rows = features.assign(**{_unused(features): y_true})
    if not rows.duplicated().any():
        return None
    return rows.groupby(list(rows.columns), dropna=False, sort=False).ngroup().to_numpy()


def _unused(features: "pd.DataFrame") -> str:
    """A name that no column has."""
    return "target" + "_" * max((len(name) for name in features.columns), default=0)


def _groups(
    repeats: np.ndarray | None, weights: np.ndarray | None = None
) -> tuple[np.ndarray | slice, np.ndarray | None]:
    """The first row of each group of copies, and how much they count together; without groups, every row and its weight, if any."""
    if repeats is None:
        return slice(None), weights
    _, first, place, sizes = np.unique(repeats, return_index=True, return_inverse=True, return_counts=True)
    return first, sizes if weights is None else np.bincount(place, weights=weights)


def _telling(metric: Metric, y_true: np.ndarray, sizes: np.ndarray | None, units: np.ndarray | None = None) -> float:
    """How many observations the bounds rest on.

    An area under a curve compares classes: it is known no better than the rarest of them. Groups of unlike sizes, and rows of
    unlike weights, are worth fewer of one size (Kish 1965): one that is half of the rows is not half of the evidence.
    """
    ones = np.ones(len(y_true), dtype=int) if sizes is None else sizes
    every = np.ones(len(y_true), dtype=bool)
    classes = [y_true == position for position in np.unique(y_true)] if metric.kind == "rank" else [every]
    counted = [ones[rows] if units is None else np.bincount(units[rows], weights=ones[rows]) for rows in classes]
    return min(float(each.sum() ** 2 / (each**2).sum()) for each in counted)


@dataclass(frozen=True)
class _Pool:
    """What resamples are drawn from. A real row fills `slots` slots, each of the virtual rows after it one.

    `sizes` is how many rows each of them stands for, or what it counts; None: each for one. `units` is the number of the subject that is drawn
    instead of the row, where several rows are of one: `rows` is then how many real ones there are; None: each row is drawn by itself.
    """

    y_true: np.ndarray
    candidate: np.ndarray
    production: np.ndarray
    rows: int
    slots: int
    sizes: np.ndarray | None = None
    units: np.ndarray | None = None

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """How often each row was drawn, (count, rows with the virtual ones), multinomial; copies are counted."""
        columns = len(self.y_true) if self.units is None else int(self.units.max()) + 1
        real = self.rows * self.slots
        filled = real + columns - self.rows
        index = rng.integers(0, filled, size=(count, filled // self.slots))
        if self.slots > 1:
            index = np.where(index < real, index // self.slots, index - real + self.rows)
        index += np.arange(count)[:, None] * columns
        counts = np.bincount(index.ravel(), minlength=count * columns)
        weights = counts.reshape(count, columns).astype(np.float64)
        weights = weights if self.units is None else weights[:, self.units]
        return weights if self.sizes is None else weights * self.sizes


def _pool(
    metric: Metric,
    y_true: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    sizes: np.ndarray | None,
    units: np.ndarray | None = None,
) -> _Pool:
    """The rows, and virtual ones: what the hold-out, being small, may have missed.

    A bootstrap only knows the disagreements it has seen. Two models that agree on every row of a small hold-out would be
    equal for certain, and a rare, large loss that happens not to be there costs nothing. So:
    - hits: two rows, one that only the candidate gets right and one that only production does, in equal parts of each
      class (the adjustment of Agresti and Min, and of Bonett and Price, for paired proportions);
    - everything else: the row on which the models differ most (for ranks one per class), once more as it is and once
      with the two answers exchanged.
    Where rows are repeated, `sizes` says how often, and a virtual row is as well. Where subjects are drawn, so are the virtual
    ones: see `_of_subjects`.
    """
    if units is not None:
        plain = np.ones(len(y_true)) if sizes is None else sizes
        return _of_subjects(metric, y_true, candidate, production, plain, units)
    if metric.kind == "hit":
        k = candidate.shape[1]
        right, positions = np.eye(k), np.arange(k)
        wrong = np.roll(right, 1, axis=1)
        virtual = np.concatenate([positions, positions]), np.concatenate([right, wrong]), np.concatenate([wrong, right])
        typical = (
            None if sizes is None else np.full(2 * k, (sizes**2).sum() / sizes.sum())
        )  # as a row of the hold-out finds it
        return _with_virtual_rows(y_true, candidate, production, virtual, k, sizes, typical)
    groups = [np.arange(len(y_true))]
    if metric.kind == "rank":
        # Scores of two models have no common scale; ranks have, and an area under a curve depends on nothing else.
        candidate, production = _ranks(candidate), _ranks(production)
        groups = [np.flatnonzero(y_true == position) for position in np.unique(y_true)]
    gap = _gap(metric, y_true, candidate, production) * (1 if sizes is None else sizes)
    widest = np.array([rows[gap[rows].argmax()] for rows in groups])
    virtual = (
        np.concatenate([y_true[widest], y_true[widest]]),
        np.concatenate([candidate[widest], production[widest]]),
        np.concatenate([production[widest], candidate[widest]]),
    )
    widest_sizes = None if sizes is None else np.concatenate([sizes[widest], sizes[widest]])
    return _with_virtual_rows(y_true, candidate, production, virtual, 1, sizes, widest_sizes)


def _with_virtual_rows(y_true, candidate, production, virtual, slots: int, sizes, virtual_sizes) -> _Pool:
    together = [np.concatenate(pair) for pair in zip((y_true, candidate, production), virtual, strict=True)]
    repeats = None if sizes is None else np.concatenate([sizes, virtual_sizes])
    return _Pool(together[0], together[1], together[2], rows=len(y_true), slots=slots, sizes=repeats)


def _of_subjects(
    metric: Metric,
    y_true: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    sizes: np.ndarray,
    units: np.ndarray,
) -> _Pool:
    """The rows, drawn by subject, and virtual subjects: the one on which the models differ most, once as it is and once exchanged.

    Of an area under a curve one per class, by its rows of that class. Where hits are alike in every subject, the virtual rows of
    `_pool` are one subject each, with as many rows as a row of the hold-out finds its subject to have.
    """
    count = int(units.max()) + 1
    apart = _apart(metric, y_true, candidate, production) * sizes
    classes = np.unique(y_true) if metric.kind == "rank" else [None]
    each = [np.bincount(units, apart if one is None else apart * (y_true == one)) for one in classes]
    if metric.kind == "hit" and not each[0].any():
        pool = _pool(metric, y_true, candidate, production, sizes)
        per_subject, virtual = np.bincount(units, weights=sizes), len(pool.y_true) - pool.rows
        typical = np.full(virtual, (per_subject**2).sum() / per_subject.sum())
        own = np.concatenate([units, count + np.arange(virtual)])
        return replace(pool, rows=count, sizes=np.concatenate([sizes, typical]), units=own)
    if metric.kind == "rank":
        candidate, production = _ranks(candidate), _ranks(production)
    rows = [np.flatnonzero(units == widest) for widest in dict.fromkeys(int(np.abs(one).argmax()) for one in each)]
    numbers = [np.full(len(some), count + 2 * place + side) for side in (0, 1) for place, some in enumerate(rows)]
    some = np.concatenate(rows)
    virtual_rows = (
        np.concatenate([y_true[some], y_true[some]]),
        np.concatenate([candidate[some], production[some]]),
        np.concatenate([production[some], candidate[some]]),
    )
    virtual_sizes = np.concatenate([sizes[some], sizes[some]])
    pool = _with_virtual_rows(y_true, candidate, production, virtual_rows, 1, sizes, virtual_sizes)
    return replace(pool, rows=count, units=np.concatenate([units, *numbers]))


def _apart(metric: Metric, y_true: np.ndarray, candidate: np.ndarray, production: np.ndarray) -> np.ndarray:
    """How far the models are apart on each row, shape (n,), with the sign that lets rows of one subject cancel out."""
    if metric.per_row is not None:
        return metric.per_row(y_true, candidate) - metric.per_row(y_true, production)
    if metric.kind == "hit":
        return (candidate.argmax(axis=1) == y_true) * 1.0 - (production.argmax(axis=1) == y_true)
    return _gap(metric, y_true, candidate, production)


def _gap(metric: Metric, y_true: np.ndarray, candidate: np.ndarray, production: np.ndarray) -> np.ndarray:
    """How far the models are apart on each row, shape (n,): in the metric's own terms, else in their answers."""
    if metric.per_row is not None:
        return np.abs(metric.per_row(y_true, candidate) - metric.per_row(y_true, production))
    return np.abs(candidate - production).reshape(len(y_true), -1).max(axis=1)


def _ranks(y_pred: np.ndarray) -> np.ndarray:
    """The rank of each value in its column, equal values sharing the middle one."""
    ranks = np.empty(y_pred.shape)
    for column in range(y_pred.shape[1]):
        _, inverse, counts = np.unique(y_pred[:, column], return_inverse=True, return_counts=True)
        ranks[:, column] = (counts.cumsum() - (counts - 1) / 2)[inverse]
    return ranks


def _resampled_differences(metric: Metric, pool: _Pool, resamples: int, seed: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        of_candidate = metric.on(pool.y_true, pool.candidate)
        of_production = metric.on(pool.y_true, pool.production)
        parts = [of_candidate(weights) - of_production(weights) for weights in _draws(pool, resamples, seed)]
    return np.concatenate(parts)


def _draws(pool: _Pool, resamples: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // len(pool.y_true))
    for start in range(0, resamples, step):
        yield pool.draw(min(step, resamples - start), rng)


# --- slices ---


@dataclass(frozen=True)
class Slice:
    """The comparison on some of the rows, `confidence` that of each bound.

    Not judged: too few distinct rows, or the metric is not defined on them (its comparison is then NaN).
    """

    slice: str
    rows: int
    judged: bool
    comparison: Comparison
    confidence: float
    distinct: int | None = (
        None  # rows that are no copy of another, or subjects where these are drawn; None: all of them
    )


def slice_masks(values: np.ndarray, name: str, holdout: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Label and mask of each slice of the hold-out by one column.

    `values` is the column over all rows, `holdout` the mask of the held-out ones; the masks are over held-out rows only.
    Text is sliced by value (the 20 most frequent), numbers by thirds; empty cells are a slice of their own, "missing".
    """
    held = np.asarray(values)[holdout]
    is_text = held.dtype.kind in "OUS"
    masks = _by_value(held.astype(str), name) if is_text else _by_thirds(held.astype(np.float64), name)
    return [(label, mask) for label, mask in masks if mask.any()]


def _by_value(held: np.ndarray, name: str) -> list[tuple[str, np.ndarray]]:
    found, counts = np.unique(held, return_counts=True)
    frequent = found[np.argsort(-counts, kind="stable")][:20]
    return [(f"{name}: {value or 'missing'}", held == value) for value in frequent]


def _by_thirds(held: np.ndarray, name: str) -> list[tuple[str, np.ndarray]]:
    missing = np.isnan(held)
    masks = [(f"{name}: missing", missing)]
    if not missing.all():
        low, high = np.quantile(held[~missing], [1 / 3, 2 / 3])
        masks += [
            (f"{name}: low (≤ {number(low)})", held <= low),
            (f"{name}: middle", (held > low) & (held <= high)),
            (f"{name}: high (> {number(high)})", held > high),
        ]
    return masks[1:] + masks[:1]


def compare_slices(
    metric: Metric,
    y_true: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    masks: Sequence[tuple[str, np.ndarray]],
    *,
    minimum_rows: int,
    confidence: float,
    resamples: int,
    seed: int,
    repeats: np.ndarray | None = None,
    subjects: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> list[Slice]:
    """Compare on each slice; the more slices are judged, the surer each must be (Bonferroni).

    A slice is judged from `minimum_rows` distinct rows on; where `subjects` are given, from as many of these.
    """
    units = repeats if subjects is None else subjects
    distinct = [None if units is None else len(np.unique(units[mask])) for _, mask in masks]
    judged = [
        (int(mask.sum()) if groups is None else groups) >= minimum_rows
        and not any(
            math.isnan(metric.value(y_true[mask], model[mask], None if weights is None else weights[mask]))
            for model in (candidate, production)
        )
        for (_, mask), groups in zip(masks, distinct, strict=True)
    ]
    surer = 1 - (1 - confidence) / max(1, sum(judged))
    slices = []
    for (label, mask), is_judged, groups in zip(masks, judged, distinct, strict=True):
        rows = y_true[mask], candidate[mask], production[mask]
        copies, whom, counts = (None if given is None else given[mask] for given in (repeats, subjects, weights))
        comparison = compare(
            metric,
            *rows,
            confidence=surer,
            resamples=resamples,
            seed=seed,
            repeats=copies,
            subjects=whom,
            weights=counts,
        )
        slices.append(Slice(label, int(mask.sum()), is_judged, comparison, surer, groups))
    return slices


# --- the verdict ---


@dataclass(frozen=True)
class Rules:
    """What pipeline.toml asks for. `margin` is in units of the metric."""

    metric: str
    higher_is_better: bool
    policy: Policy
    margin: float
    confidence: float


@dataclass(frozen=True)
class Limit:
    """An absolute limit of the candidate: a score must be at least that, a loss at most."""

    metric: str
    limit: float
    value: float
    higher_is_better: bool

    @property
    def success(self) -> bool:
        """NaN fails."""
        return self.value >= self.limit if self.higher_is_better else self.value <= self.limit


@dataclass(frozen=True)
class ModelCheck:
    """A check of the portable model: parity, latency or bundle size; at most the limit."""

    check: str
    observed: float
    limit: float
    unit: str = ""

    @property
    def success(self) -> bool:
        """NaN fails."""
        return self.observed <= self.limit


@dataclass(frozen=True)
class Problem:
    """Why production could not be compared, and what follows from it."""

    verdict: Literal["refuse", "keep"]
    reason: str
    columns: bool = False  # only the columns differ, which may be meant


@dataclass(frozen=True)
class Best:
    """The comparison with the best version so far, which is another than production's.

    Its comparison has the best version's value where another has production's.
    """

    version: str
    comparison: Comparison
    identical: bool = False


@dataclass(frozen=True)
class Evidence:
    """All that the verdict rests on. `first`: there is no production model, and nothing is compared."""

    value: float  # the candidate's, of the gate's metric
    first: bool
    limits: Sequence[Limit] = ()
    checks: Sequence[ModelCheck] = ()
    identical: bool = False
    comparison: Comparison | None = None
    slices: Sequence[Slice] = ()
    best: Best | None = None  # None: the best version serves, or cannot be compared
    production_problem: Problem | None = None
    columns_changed: bool = False  # the user said so: where only the columns forbid the comparison, the limits decide


@dataclass(frozen=True)
class Verdict:
    """accept: replaces production. keep: production stays, nothing is wrong. refuse: something is wrong."""

    verdict: Outcome
    reasons: tuple[str, ...]


def judge_limits(
    limits: Mapping[str, float], values: Mapping[str, float], metrics: Mapping[str, Metric]
) -> list[Limit]:
    """The limits of pipeline.toml beside the candidate's values; raises SettingsError for one on no metric."""
    limited = [(named(metrics, name, "[gate.limits]"), limit) for name, limit in limits.items()]
    return [Limit(metric.name, limit, values[metric.name], metric.higher_is_better) for metric, limit in limited]


def decide(evidence: Evidence, rules: Rules) -> Verdict:
    """The verdict and its reasons, most important first. What is undefined or missing is refused, never accepted."""
    broken = _broken(evidence, rules)
    if broken:
        return Verdict("refuse", tuple(broken))
    if judged_by_limits(evidence):
        return _by_limits(evidence, rules)
    if evidence.production_problem is not None:
        return Verdict(evidence.production_problem.verdict, (evidence.production_problem.reason,))
    if evidence.first:
        value = f"{rules.metric} {number(evidence.value)}"
        return Verdict("accept", (f"first model: there is none in production, and all limits hold ({value})",))
    if evidence.identical:
        return Verdict("keep", ("answers like production on every row of the hold-out: nothing to gain",))
    comparison = evidence.comparison
    if comparison is None or any(map(math.isnan, asdict(comparison).values())):
        return Verdict("refuse", (f"{rules.metric} could not be compared with production: it is undefined",))
    worse = [in_words_on(part, rules) for part in evidence.slices if is_worse(part, rules)]
    if worse:
        return Verdict("refuse", (*worse, f"overall: {in_words(comparison, rules)}"))
    outcome, why = _by_policy(comparison, rules)
    reasons = in_words(comparison, rules), why
    if outcome != "accept" or evidence.best is None:
        return Verdict(outcome, reasons)
    return _beside_best(evidence.best, rules, reasons)


def judged_by_limits(evidence: Evidence) -> bool:
    """Whether the user's word is needed and counts: nothing but changed columns stands in the way of the comparison."""
    problem = evidence.production_problem
    return evidence.columns_changed and problem is not None and problem.columns


def _by_limits(evidence: Evidence, rules: Rules) -> Verdict:
    if not evidence.limits:
        return Verdict(
            "refuse",
            ("COLUMNS=changed has the limits decide, but pipeline.toml [gate.limits] has none: set at least one",),
        )
    value = f"{rules.metric} {number(evidence.value)}"
    why = "judged by its limits alone, because the columns changed (COLUMNS=changed)"
    return Verdict("accept", (f"{why}: all limits hold ({value})",))


def _broken(evidence: Evidence, rules: Rules) -> list[str]:
    """What alone forbids the candidate, whatever is in production."""
    reasons = []
    if math.isnan(evidence.value):
        reasons.append(f"{rules.metric} of the candidate is undefined")
    for limit in evidence.limits:
        if not limit.success:
            side = "at least" if limit.higher_is_better else "at most"
            reasons.append(f"{limit.metric} is {number(limit.value)}, and must be {side} {number(limit.limit)}")
    for check in evidence.checks:
        if not check.success:
            observed, most = (f"{number(value)} {check.unit}".strip() for value in (check.observed, check.limit))
            reasons.append(f"{check.check} of the portable model is {observed}, and must be at most {most}")
    return reasons


def _by_policy(comparison: Comparison, rules: Rules) -> tuple[Outcome, str]:
    estimate, lower, upper = gain(comparison, rules.higher_is_better)
    within = f"surely not worse by {number(rules.margin)} (the margin) or more"
    if rules.policy == "not_worse" and lower > -rules.margin:
        return "accept", f"not_worse: {within}"
    if upper < 0:
        return "refuse", "surely worse than production"
    if rules.policy == "better" and estimate > 0 and lower > -rules.margin:
        return "accept", f"better: it is estimated to be, and is {within}"
    if rules.policy == "superior" and lower > 0:
        return "accept", "superior: surely better than production"
    if rules.policy == "better" and estimate <= 0:
        return "keep", "better: it is not estimated to be"
    missed = "surely better" if rules.policy == "superior" else within
    return "keep", f"{rules.policy}: it is not {missed}; {_detectable_in_words(comparison)}"


def _beside_best(best: Best, rules: Rules, accepted: tuple[str, ...]) -> Verdict:
    """What production alone would accept must be surely within the margin of the best version as well."""
    words = in_words(best.comparison, rules, f"in version {best.version}, the best so far")
    _, lower, _ = gain(best.comparison, rules.higher_is_better)
    if best.identical or lower > -rules.margin:
        return Verdict("accept", (*accepted, words))
    why = f"it is not surely within {number(rules.margin)} (the margin) of the best version so far"
    return Verdict("keep", (f"{why}: {words}", f"compared with production alone it would be accepted: {accepted[0]}"))


def surely_better(comparison: Comparison, rules: Rules) -> bool:
    """Whether the whole interval is on the candidate's side: only then does it become the best version so far."""
    return gain(comparison, rules.higher_is_better)[1] > 0


def is_worse(part: Slice, rules: Rules) -> bool:
    """Whether the candidate is surely worse on a judged slice; not_worse allows it a loss within the margin there too."""
    allowed = rules.margin if rules.policy == "not_worse" else 0.0
    _, _, upper = gain(part.comparison, rules.higher_is_better)
    return part.judged and upper < -allowed


def gain(comparison: Comparison, higher_is_better: bool) -> tuple[float, float, float]:
    """Estimate and bounds of what the candidate gains: above 0 is better, whatever the metric."""
    if higher_is_better:
        return comparison.difference, comparison.lower, comparison.upper
    return -comparison.difference, -comparison.upper, -comparison.lower


# --- words ---


def number(value: float) -> str:
    """Four significant digits, never in powers of ten."""
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else str(value)
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def in_words(comparison: Comparison, rules: Rules, where: str = "in production") -> str:
    """The comparison as a sentence; `where` says with what the candidate is compared."""
    estimate, lower, upper = gain(comparison, rules.higher_is_better)
    values = f"{rules.metric} {number(comparison.candidate)} against {number(comparison.production)} {where}"
    if not math.isfinite(lower):
        return f"{values}: {_side(estimate)}, but these rows allow no statement about other rows"
    sure = f"{number(100 * rules.confidence)} % sure"
    return f"{values}: {_side(estimate)} ({sure} of each end: between {_side(lower)} and {_side(upper)})"


def in_words_on(part: Slice, rules: Rules) -> str:
    """The comparison on a slice as a sentence."""
    sentence = in_words(part.comparison, replace(rules, confidence=part.confidence))
    return f"surely worse on {part.slice} ({part.rows} rows): {sentence}"


def _side(gained: float) -> str:
    if gained == 0:
        return "equal"
    return f"{number(abs(gained))} {'better' if gained > 0 else 'worse'}"


def _detectable_in_words(comparison: Comparison) -> str:
    if not math.isfinite(comparison.detectable):
        return "the models differ in nothing that these rows could show"
    return f"a hold-out of this size shows a true difference of {number(comparison.detectable)} four times in five"
