"""May the candidate replace the production model? A paired bootstrap over the hold-out, and a verdict with its reasons.

Pure functions over arrays and plain data. docs/decisions/0001-gate.md gives the reasons and the measured error rates.
Shapes as in pipeline/metrics.py: y (n,), predictions (n, k) probabilities or (n,) values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from pipeline.metrics import Metric, named

CHUNK = (
    200_000  # weights handled at once (1.6 MB): several arrays of that size still fit the processor's cache
)
BUDGET = 20_000_000  # resamples x rows of one comparison: keeps a million rows within a few seconds
FEWEST = 100  # resamples, however large the hold-out
UNDEFINED = 0.1  # share of resamples without a value (no positive row drawn) above which nothing is claimed
POWER = 0.8  # with which `detectable` would have been found

_NORMAL = NormalDist()


# --- what is compared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A metric of both models on the same rows.

    `difference` is candidate - production as it stands, whichever is better; `lower` and `upper` bound it, each with the
    confidence asked for, and are infinite when the rows allow no statement. `detectable` is the true difference (in
    size) that as many rows would have shown with 80 % probability.
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
    y: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Comparison:
    """The difference of a metric with one-sided bounds, by a paired bootstrap over the rows.

    Both models meet the same resampled rows. Bounds are percentiles of the resampled differences, taken further out than
    the plain ones by what Student's t asks for that few rows. Counting metrics get two virtual rows on which the models
    disagree, one in favour of each, spread over the classes; without them rows on which both agree would
    prove, with certainty, that they always do.

    The number of resamples falls with the rows (`BUDGET`), to `FEWEST` for the largest; then the bounds are normal ones, from
    the standard deviation of the resampled differences. The same seed gives the same bounds.
    """
    reported = metric.value(y, candidate), metric.value(y, production)
    difference = reported[0] - reported[1]
    if math.isnan(difference):
        return Comparison(*reported, math.nan, math.nan, math.nan, math.nan)
    pool = _Pool(y, candidate, production, metric.counting)
    drawn = min(resamples, max(FEWEST, BUDGET // len(y)))
    differences = _resampled_differences(metric, pool, drawn, seed)
    known = differences[~np.isnan(differences)]
    if len(known) < (1 - UNDEFINED) * len(differences) or len(y) < 2:
        return Comparison(*reported, difference, -math.inf, math.inf, math.inf)
    error = float(known.std(ddof=1))
    z = _NORMAL.inv_cdf(confidence)
    if drawn < resamples:
        reach = float(stdtrit(drawn - 1, confidence)) * error
        lower, upper = difference - reach, difference + reach
    else:
        outer = _NORMAL.cdf(float(stdtrit(len(y) - 1, confidence)) * math.sqrt(len(y) / (len(y) - 1)))
        lower, upper = map(float, np.quantile(known, [1 - outer, outer]))
    # The virtual rows pull towards "no difference"; what was seen belongs inside.
    lower, upper = min(lower, difference), max(upper, difference)
    return Comparison(*reported, difference, lower, upper, (z + _NORMAL.inv_cdf(POWER)) * error)


class _Pool:
    """What resamples are drawn from: the rows, and for counting metrics the virtual ones."""

    def __init__(self, y: np.ndarray, candidate: np.ndarray, production: np.ndarray, counting: bool):
        self.y, self.candidate, self.production = y, candidate, production
        self.rows, self.slots_per_row, self.size = len(y), 1, len(y)
        if counting:
            k = candidate.shape[1]
            right = np.eye(k)
            wrong = np.roll(right, 1, axis=1)
            self.y = np.concatenate([y, np.arange(k), np.arange(k)])
            self.candidate = np.concatenate([candidate, right, wrong])
            self.production = np.concatenate([production, wrong, right])
            self.slots_per_row, self.size = k, len(y) + 2  # each virtual row is a k-th of a row

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """How often each row was drawn, (count, rows), multinomial."""
        columns, real = len(self.y), self.rows * self.slots_per_row
        slots = rng.integers(0, real + columns - self.rows, size=(count, self.size))
        index = np.where(slots < real, slots // self.slots_per_row, slots - real + self.rows)
        index += np.arange(count)[:, None] * columns
        return (
            np.bincount(index.ravel(), minlength=count * columns).reshape(count, columns).astype(np.float64)
        )


def _chunks(resamples: int, rows: int) -> Iterator[int]:
    step = max(1, CHUNK // rows)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _resampled_differences(metric: Metric, pool: _Pool, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    parts = []
    with np.errstate(divide="ignore", invalid="ignore"):
        of_candidate = metric.on(pool.y, pool.candidate)
        of_production = metric.on(pool.y, pool.production)
        for count in _chunks(resamples, len(pool.y)):
            weights = pool.draw(count, rng)
            parts.append(of_candidate(weights) - of_production(weights))
    return np.concatenate(parts)


# --- slices ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Slice:
    """The comparison on some of the rows, `confidence` that of each bound.

    Not judged: too few rows, or the metric is not defined on them (its comparison is then NaN).
    """

    slice: str
    rows: int
    judged: bool
    comparison: Comparison
    confidence: float


def slice_masks(values: np.ndarray, name: str, holdout: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Label and mask of each slice of the hold-out by one column.

    `values` is the column over all rows, `holdout` the mask of the held-out rows; the masks are over held-out rows only.
    Text is sliced by value (the 20 most frequent), numbers by thirds of the hold-out; empty cells are a slice "missing".
    """
    held = np.asarray(values)[holdout]
    if held.dtype.kind in "OUS":
        found, counts = np.unique(held.astype(str), return_counts=True)
        frequent = found[np.argsort(-counts, kind="stable")][:20]
        return [(f"{name}: {value or 'missing'}", held.astype(str) == value) for value in frequent]
    held = held.astype(np.float64)
    known = held[~np.isnan(held)]
    masks = []
    if len(known):
        low, high = np.quantile(known, [1 / 3, 2 / 3])
        masks = [
            (f"{name}: low (≤ {number(low)})", held <= low),
            (f"{name}: middle", (held > low) & (held <= high)),
            (f"{name}: high (> {number(high)})", held > high),
        ]
    masks.append((f"{name}: missing", np.isnan(held)))
    return [(label, mask) for label, mask in masks if mask.any()]


def compare_slices(
    metric: Metric,
    y: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray,
    masks: Sequence[tuple[str, np.ndarray]],
    *,
    minimum_rows: int,
    confidence: float,
    resamples: int,
    seed: int,
) -> list[Slice]:
    """Compare on each slice; the more slices are judged, the surer each must be (Bonferroni)."""
    judged = []
    for _, mask in masks:
        defined = not any(math.isnan(metric.value(y[mask], model[mask])) for model in (candidate, production))
        judged.append(defined and int(mask.sum()) >= minimum_rows)
    surer = 1 - (1 - confidence) / max(1, sum(judged))
    slices = []
    for (label, mask), is_judged in zip(masks, judged, strict=True):
        comparison = compare(
            metric,
            y[mask],
            candidate[mask],
            production[mask],
            confidence=surer,
            resamples=resamples,
            seed=seed,
        )
        slices.append(Slice(label, int(mask.sum()), is_judged, comparison, surer))
    return slices


# --- the verdict ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """What pipeline.toml asks for. `margin` is in units of the metric."""

    metric: str
    higher_is_better: bool
    policy: Literal["better", "superior", "not_worse"]
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
class Check:
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


@dataclass(frozen=True)
class Evidence:
    """All that the verdict rests on. `first`: there is no production model; then nothing is compared."""

    value: float  # of the gate's metric, the candidate's
    first: bool
    limits: Sequence[Limit] = ()
    checks: Sequence[Check] = ()
    identical: bool = False
    comparison: Comparison | None = None
    slices: Sequence[Slice] = ()
    production_problem: Problem | None = None


@dataclass(frozen=True)
class Verdict:
    """`accept`: replaces production. `keep`: production stays, nothing is wrong. `refuse`: something is wrong."""

    verdict: Literal["accept", "keep", "refuse"]
    reasons: tuple[str, ...]


def judge_limits(
    limits: Mapping[str, float], values: Mapping[str, float], metrics: Mapping[str, Metric]
) -> list[Limit]:
    """The limits of pipeline.toml beside the candidate's values; raises SettingsError for a limit on no metric."""
    return [
        Limit(name, limit, values[name], named(metrics, name, "[gate.limits]").higher_is_better)
        for name, limit in limits.items()
    ]


def decide(evidence: Evidence, rules: Rules) -> Verdict:
    """The verdict and its reasons, most important first.

    Anything undefined or missing is refused, never accepted.
    """
    broken = _broken(evidence, rules)
    if broken:
        return Verdict("refuse", tuple(broken))
    if evidence.production_problem is not None:
        return Verdict(evidence.production_problem.verdict, (evidence.production_problem.reason,))
    if evidence.first:
        return Verdict(
            "accept",
            (f"first model: there is none in production, and all limits hold ({_value(evidence, rules)})",),
        )
    if evidence.identical:
        return Verdict("keep", ("answers like production on every row of the hold-out: nothing to gain",))
    comparison = evidence.comparison
    if comparison is None or any(map(math.isnan, asdict(comparison).values())):
        return Verdict(
            "refuse",
            (f"{rules.metric} could not be compared with production: a value is missing or undefined",),
        )
    verdict, why = _by_policy(comparison, rules)
    worse = [part for part in evidence.slices if is_worse(part, rules)]
    if worse:
        return Verdict(
            "refuse", (*(_slice_in_words(part, rules) for part in worse), in_words(comparison, rules))
        )
    return Verdict(verdict, (in_words(comparison, rules), why))


def _broken(evidence: Evidence, rules: Rules) -> list[str]:
    reasons = []
    if math.isnan(evidence.value):
        reasons.append(f"{rules.metric} of the candidate is undefined (NaN)")
    for limit in evidence.limits:
        if not limit.success:
            side = "below" if limit.higher_is_better else "above"
            reasons.append(f"{limit.metric} {number(limit.value)} is {side} the limit {number(limit.limit)}")
    for check in evidence.checks:
        if not check.success:
            observed, most = (
                f"{number(value)} {check.unit}".strip() for value in (check.observed, check.limit)
            )
            reasons.append(f"{check.check} of the portable model is {observed}, allowed are {most}")
    return reasons


def _by_policy(comparison: Comparison, rules: Rules) -> tuple[Literal["accept", "keep", "refuse"], str]:
    estimate, lower, upper = _gain(comparison, rules)
    margin, policy = rules.margin, rules.policy
    within = f"surely not worse by the margin {number(margin)} or more"
    if policy == "not_worse" and lower > -margin:
        return "accept", f'policy "not_worse": {within}'
    if upper < 0:
        return "refuse", "surely worse than production"
    if policy == "better" and estimate > 0 and lower > -margin:
        return "accept", f'policy "better": estimated better, and {within}'
    if policy == "superior" and lower > 0:
        return "accept", 'policy "superior": surely better than production'
    if policy == "better" and not estimate > 0:
        return "keep", 'policy "better": not estimated better'
    wanted = "surely better" if policy == "superior" else within
    return "keep", f'policy "{policy}": not {wanted}; {_detectable_in_words(comparison)}'


def is_worse(part: Slice, rules: Rules) -> bool:
    """Whether production is surely better on a judged slice (by more than the margin, where a loss within it is allowed)."""
    allowed = rules.margin if rules.policy == "not_worse" else 0.0
    return part.judged and _gain(part.comparison, rules)[2] < -allowed


def _gain(comparison: Comparison, rules: Rules) -> tuple[float, float, float]:
    """Estimate and bounds of what the candidate gains: positive is better, whatever the metric."""
    if rules.higher_is_better:
        return comparison.difference, comparison.lower, comparison.upper
    return -comparison.difference, -comparison.upper, -comparison.lower


# --- words ----------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Four significant digits, never in powers of ten."""
    if not math.isfinite(value):
        return str(value)
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def in_words(comparison: Comparison, rules: Rules) -> str:
    """The comparison as a sentence."""
    estimate, lower, upper = _gain(comparison, rules)
    values = (
        f"{rules.metric} {number(comparison.candidate)} against {number(comparison.production)} in production"
    )
    if not math.isfinite(lower) or not math.isfinite(upper):
        return f"{values}: {_side(estimate)}; the rows allow no statement on how sure that is"
    sure = f"{number(100 * rules.confidence)} % sure"
    return f"{values}: {_side(estimate)} ({sure} of each bound: {_side(lower)} to {_side(upper)})"


def _slice_in_words(part: Slice, rules: Rules) -> str:
    surer = replace(rules, confidence=part.confidence)
    return f"worse on {part.slice}, {part.rows} rows: {in_words(part.comparison, surer)}"


def _side(gain: float) -> str:
    if gain == 0:
        return "equal"
    return f"{'better' if gain > 0 else 'worse'} by {number(abs(gain))}"


def _detectable_in_words(comparison: Comparison) -> str:
    if not math.isfinite(comparison.detectable):
        return "the hold-out is too small to show any difference"
    return f"this hold-out shows a true difference of {number(comparison.detectable)} four times in five"


def _value(evidence: Evidence, rules: Rules) -> str:
    return f"{rules.metric} {number(evidence.value)}"
