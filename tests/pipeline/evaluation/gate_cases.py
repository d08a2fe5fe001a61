"""The gate's rules as a table: evidence and rules, and the verdict and words that must come out.

Shared by the test of the gate and the test that breaks the gate on purpose, so every function takes the module to judge.
"""

import dataclasses
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.evaluation.metrics import Metric, metrics_for

NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Case:
    """What is known, and what must be decided. Gains are given as (estimate, lower, upper): above 0 is better."""

    name: str
    verdict: str
    words: str
    gain: tuple[float, float, float] | None = (0.02, 0.01, 0.03)
    policy: str = "better"
    margin: float = 0.01
    value: float = 0.9
    limits: tuple[tuple[float, float], ...] = ()  # limit and value, both as scores
    checks: tuple[tuple[float, float], ...] = ()  # observed and limit
    slices: tuple[tuple[bool, tuple[float, float, float]], ...] = ()  # judged, gain
    first: bool = False
    identical: bool = False
    problem: str | None = None
    columns: bool = False  # the problem is that the columns differ
    word: bool = False  # the user said that the columns changed
    best: tuple[float, float, float] | None = None  # gain over the best version so far, where another one serves
    best_identical: bool = False


CASES = [
    # production or not
    Case("the first model", "accept", "first model", gain=None, first=True),
    Case("the first model misses a limit", "refuse", "must be {side}", gain=None, first=True, limits=((0.95, 0.9),)),
    Case("the first model's value is NaN", "refuse", "undefined", gain=None, first=True, value=NAN),
    Case("never compared, though there is a production model", "refuse", "could not be compared", gain=None),
    Case("the same answers", "keep", "nothing to gain", gain=(0, -INF, INF), identical=True),
    Case("the same answers, not_worse", "keep", "nothing to gain", gain=(0, 0, 0), identical=True, policy="not_worse"),
    Case("the same answers but a limit missed", "refuse", "must be {side}", identical=True, limits=((0.95, 0.9),)),
    Case("production cannot be compared: keep", "keep", "the split changed", gain=None, problem="keep"),
    Case("production cannot be compared: refuse", "refuse", "the split changed", gain=None, problem="refuse"),
    Case("production cannot be compared and a limit missed", "refuse", "must be {side}", problem="keep", limits=((0.95, 0.9),)),
    # changed columns, and the user's word for them
    Case("other columns without the word", "refuse", "the split changed", problem="refuse", columns=True, limits=((0.8, 0.9),)),
    Case(
        "other columns on the word", "accept", "judged by its limits alone", gain=None, problem="refuse", columns=True, word=True,
        limits=((0.8, 0.9),),
    ),
    Case(
        "other columns on the word, a limit missed", "refuse", "must be {side}", gain=None, problem="refuse", columns=True, word=True,
        limits=((0.95, 0.9),),
    ),
    Case(
        "other columns on the word, a check failed", "refuse", "portable", gain=None, problem="refuse", columns=True, word=True,
        limits=((0.8, 0.9),), checks=((21, 20),),
    ),
    Case(
        "other columns on the word, no limit to judge by", "refuse", "set at least one", gain=None, problem="refuse", columns=True,
        word=True,
    ),
    Case("another problem than the columns, and the word", "refuse", "the split", problem="refuse", word=True, limits=((0.8, 0.9),)),
    Case("rolled back, and the word", "keep", "the split changed", problem="keep", word=True, limits=((0.8, 0.9),)),
    Case("the word, but production can be compared", "refuse", "surely worse", gain=(-0.03, -0.05, -0.02), word=True),
    Case("the word, and a limit, but it can be compared", "keep", "not estimated", gain=(0, -1, 1), word=True, limits=((0.8, 0.9),)),
    # limits and checks
    Case("a limit met exactly", "accept", "better", limits=((0.9, 0.9),)),
    Case("a limit met", "accept", "better", limits=((0.8, 0.9),)),
    Case("a limit missed by little", "refuse", "must be {side}", limits=((0.9, 0.8999),)),
    Case("one of two limits missed", "refuse", "must be {side}", limits=((0.8, 0.9), (0.95, 0.9))),
    Case("a limit on a value that is NaN", "refuse", "must be {side}", limits=((0.8, NAN),)),
    Case("a check passed exactly", "accept", "better", checks=((20, 20),)),
    Case("a check passed", "accept", "better", checks=((3, 20),)),
    Case("a check failed", "refuse", "portable model is 20.1 ms, and must be at most 20 ms", checks=((20.1, 20),)),
    Case("a check that is NaN", "refuse", "undefined", checks=((NAN, 20),)),
    Case("a check failed, the model being superior", "refuse", "portable", checks=((21, 20),), policy="superior"),
    Case("the candidate's value is NaN", "refuse", "undefined", value=NAN),
    # NaN in the comparison
    Case("the difference is NaN", "refuse", "could not be compared", gain=(NAN, NAN, NAN)),
    Case("a bound is NaN", "refuse", "could not be compared", gain=(0.02, NAN, 0.03)),
    Case("the other bound is NaN", "refuse", "could not be compared", gain=(0.02, 0.01, NAN), policy="not_worse"),
    # better
    Case("better: clearly", "accept", "estimated to be"),
    Case("better: by an estimate, worse within the margin", "accept", "estimated to be", gain=(0.02, -0.009, 0.05)),
    Case("better: by an estimate, worse by the margin", "keep", "not surely not worse", gain=(0.02, -0.01, 0.05)),
    Case("better: by an estimate, maybe far worse", "keep", "not surely not worse", gain=(0.02, -0.05, 0.09)),
    Case("better: estimated equal", "keep", "not estimated to be", gain=(0, -0.005, 0.005)),
    Case("better: estimated worse, within the margin", "keep", "not estimated to be", gain=(-0.002, -0.005, 0.005)),
    Case("better: estimated worse, at most equal", "keep", "not estimated to be", gain=(-0.002, -0.005, 0)),
    Case("better: surely worse, within the margin", "refuse", "surely worse", gain=(-0.003, -0.005, -0.001)),
    Case("better: surely worse", "refuse", "surely worse", gain=(-0.03, -0.05, -0.02)),
    Case("better: no margin, surely better", "accept", "estimated to be", margin=0),
    Case("better: no margin, maybe equal", "keep", "not surely not worse", gain=(0.02, 0, 0.05), margin=0),
    Case("better: nothing can be said", "keep", "no statement", gain=(0.02, -INF, INF)),
    # superior
    Case("superior: clearly", "accept", "surely better", policy="superior"),
    Case("superior: perhaps equal", "keep", "superior: it is not", policy="superior", gain=(0.02, 0, 0.05)),
    Case("superior: worse within the margin", "keep", "is not surely better", policy="superior", gain=(0.02, -0.001, 1)),
    Case("superior: estimated worse", "keep", "superior: it is not", policy="superior", gain=(-0.01, -0.03, 0.01)),
    Case("superior: surely worse", "refuse", "surely worse", policy="superior", gain=(-0.03, -0.05, -0.02)),
    Case("superior: at most equal", "keep", "superior: it is not", policy="superior", gain=(-0.01, -0.03, 0)),
    Case("superior: nothing can be said", "keep", "no statement", policy="superior", gain=(0.02, -INF, INF)),
    # not_worse
    Case("not_worse: clearly better", "accept", "surely not worse", policy="not_worse"),
    Case("not_worse: estimated worse, within", "accept", "surely not", policy="not_worse", gain=(-0.002, -0.009, 0.005)),
    Case("not_worse: surely worse, within", "accept", "surely not", policy="not_worse", gain=(-0.005, -0.009, -0.001)),
    Case("not_worse: worse by the margin", "keep", "it is not", policy="not_worse", gain=(-0.002, -0.01, 0.006)),
    Case("not_worse: at most equal", "keep", "it is not", policy="not_worse", gain=(-0.02, -0.04, 0)),
    Case("not_worse: surely worse, maybe beyond", "refuse", "surely worse", policy="not_worse", gain=(-0.02, -0.03, -0.01)),
    Case("not_worse: better, maybe far worse", "keep", "it is not", policy="not_worse", gain=(0.02, -0.05, 0.09)),
    Case("not_worse: nothing can be said", "keep", "no statement", policy="not_worse", gain=(0, -INF, INF)),
    # slices
    Case("a slice that is better", "accept", "better", slices=((True, (0.02, 0.01, 0.03)),)),
    Case("a slice that may be worse", "accept", "better", slices=((True, (-0.02, -0.05, 0.01)),)),
    Case("a slice at most equal", "accept", "better", slices=((True, (-0.02, -0.05, 0)),)),
    Case("a slice surely worse", "refuse", "surely worse on part 0 (40 rows)", slices=((True, (-0.03, -0.05, -0.001)),)),
    Case("a small slice surely worse", "accept", "better", slices=((False, (-0.03, -0.05, -0.01)),)),
    Case("a slice without a value", "accept", "better", slices=((False, (NAN, NAN, NAN)),)),
    Case(
        "the second slice surely worse, superior", "refuse", "part 1", policy="superior",
        slices=((True, (0.02, 0.01, 0.03)), (True, (-0.03, -0.05, -0.02))),
    ),
    Case(
        "not_worse: a slice surely worse within the margin", "accept", "surely not", policy="not_worse",
        slices=((True, (-0.005, -0.02, -0.001)),),
    ),
    Case(
        "not_worse: a slice surely worse by the margin", "accept", "surely not", policy="not_worse",
        slices=((True, (-0.02, -0.03, -0.01)),),
    ),
    Case(
        "not_worse: a slice surely worse beyond the margin", "refuse", "part 0", policy="not_worse",
        slices=((True, (-0.02, -0.03, -0.011)),),
    ),
    # the best version so far
    Case("within the margin of the best", "accept", "in version 7, the best so far", best=(-0.005, -0.009, 0.005)),
    Case("worse than the best by the margin", "keep", "not surely within 0.01 (the margin) of the best", best=(-0.005, -0.01, 0.005)),
    Case("maybe far worse than the best", "keep", "with production alone it would be accepted", best=(0.02, -0.05, 0.09)),
    Case("surely far worse than the best", "keep", "the best version so far", policy="not_worse", best=(-0.03, -0.05, -0.02)),
    Case("answers like the best", "accept", "the best so far", best=(0, -INF, INF), best_identical=True),
    Case("nothing can be said about the best", "keep", "no statement", best=(0.02, -INF, INF)),
    Case("the best has no value", "keep", "the best so far", best=(NAN, NAN, NAN)),
    Case("near the best but surely worse than production", "refuse", "surely worse than production", gain=(-0.03, -0.05, -0.02),
         best=(0.02, 0.01, 0.03)),
    Case("near the best but not estimated better", "keep", "not estimated to be", gain=(0, -0.005, 0.005), best=(0.02, 0.01, 0.03)),
]  # fmt: skip


def _comparison(gate: ModuleType, gain: tuple[float, float, float], higher: bool) -> Any:
    estimate, lower, upper = gain
    bounds = (estimate, lower, upper) if higher else (-estimate, -upper, -lower)
    return gate.Comparison(0.5 + bounds[0], 0.5, *bounds, detectable=INF if math.isinf(lower) else 0.03)


def check_case(gate: ModuleType, case: Case, higher: bool) -> None:
    """Decide one case with a metric of which more (or less) is better."""
    sign = 1 if higher else -1
    comparison = None if case.gain is None else _comparison(gate, case.gain, higher)
    evidence = gate.Evidence(
        value=case.value,
        first=case.first,
        limits=[gate.Limit("score", sign * limit, sign * value, higher) for limit, value in case.limits],
        checks=[gate.ModelCheck("latency", observed, limit, "ms") for observed, limit in case.checks],
        identical=case.identical,
        comparison=comparison,
        slices=[
            gate.Slice(f"part {number}", 40, judged, _comparison(gate, gain, higher), 0.98)
            for number, (judged, gain) in enumerate(case.slices)
        ],
        production_problem=gate.Problem(case.problem, "the split changed", case.columns) if case.problem else None,
        columns_changed=case.word,
        best=gate.Best("7", _comparison(gate, case.best, higher), case.best_identical) if case.best else None,
    )
    verdict = gate.decide(evidence, gate.Rules("score", higher, case.policy, case.margin, 0.95))
    said = "; ".join(verdict.reasons)
    assert verdict.verdict == case.verdict, f"{case.name}: {verdict.verdict} ({said})"
    assert case.words.format(side="at least" if higher else "at most") in said, f"{case.name}: {said}"


# --- what surrounds the verdict ---


def check_surely_better(gate: ModuleType) -> None:
    """Only a candidate whose whole interval is better becomes the best version so far."""
    for higher in (True, False):
        rules = gate.Rules("score", higher, "better", 0.01, 0.95)
        assert gate.surely_better(_comparison(gate, (0.02, 0.01, 0.03), higher), rules)
        assert not gate.surely_better(_comparison(gate, (0.02, 0.0, 0.03), higher), rules)
        assert not gate.surely_better(_comparison(gate, (0.02, -0.01, 0.05), higher), rules)


HOW = {"confidence": 0.95, "resamples": 200, "seed": 1}


def _answers(*positive: float) -> np.ndarray:
    return np.column_stack([1 - np.array(positive), positive])


def _sometimes_undefined(share: float) -> Metric:
    """The mean of the answers, undefined on exactly that share of the resamples."""

    def on(y, prediction):
        def values(weights):
            means = weights @ prediction / weights.sum(axis=1)
            means[: round(share * len(means))] = np.nan if len(means) > 1 else means[0]
            return means

        return values

    return Metric("often", True, on, "own")


def check_identical(gate: ModuleType) -> None:
    """Answers are identical when none is further away than the tolerance."""
    one, other = _answers(0.25, 0.5), _answers(0.25, 0.75)
    assert gate.identical(one, one)
    assert not gate.identical(one, other)
    assert gate.identical(one, other, tolerance=0.25)
    assert not gate.identical(one, one[:1])
    assert not gate.identical(one, np.full((2, 2), np.nan))


def check_compare(gate: ModuleType) -> None:
    """Bounds lie around the difference, and are infinite where the rows allow no statement."""
    log_loss = metrics_for("binary", 1)["log_loss"]
    y = np.array([0, 1])
    found = gate.compare(log_loss, y, _answers(0.2, 0.8), _answers(0.3, 0.5), **HOW)
    assert -INF < found.lower < found.difference < found.upper < INF
    assert found.difference < 0 < found.detectable < INF
    one = gate.compare(log_loss, y[:1], _answers(0.2), _answers(0.3), **HOW)
    assert (one.lower, one.upper, one.detectable) == (-INF, INF, INF)
    assert one.difference < 0
    same = gate.compare(log_loss, y, _answers(0.2, 0.8), _answers(0.2, 0.8), **HOW)
    assert (same.difference, same.lower, same.upper) == (0, -INF, INF)
    undefined = gate.compare(log_loss, y, _answers(0.2, NAN), _answers(0.3, 0.5), **HOW)
    assert math.isnan(undefined.difference) and math.isnan(undefined.lower) and math.isnan(undefined.upper)
    values = np.arange(10.0)
    for share, finite in ((0.1, True), (0.11, False)):
        often = gate.compare(_sometimes_undefined(share), values, values, values**2, **HOW)
        assert math.isfinite(often.lower) == finite
        assert math.isfinite(often.upper) == finite


def check_slices(gate: ModuleType) -> None:
    """A slice is judged from the minimum of rows on, if the metric is defined; the confidence is shared among the judged."""
    y = np.tile([0, 1], 10)
    candidate, production = _answers(*np.linspace(0.1, 0.9, 20)), _answers(*np.linspace(0.3, 0.6, 20))
    rows = np.arange(20)
    masks = [("six", rows < 6), ("five", rows < 5), ("negative", y == 0), ("all", rows < 20)]
    auc = metrics_for("binary", 1)["roc_auc"]
    slices = gate.compare_slices(auc, y, candidate, production, masks, minimum_rows=6, **HOW)
    assert [(one.slice, one.rows, one.judged) for one in slices] == [
        ("six", 6, True),
        ("five", 5, False),
        ("negative", 10, False),
        ("all", 20, True),
    ]
    assert all(math.isclose(one.confidence, 0.975) for one in slices)
    alone = gate.compare(auc, y, candidate, production, confidence=0.975, resamples=200, seed=1)
    assert slices[3].comparison == alone
    assert math.isnan(slices[2].comparison.difference)
    assert gate.compare_slices(auc, y, candidate, production, [], minimum_rows=6, **HOW) == []
    none = gate.compare_slices(auc, y, candidate, production, masks[1:2], minimum_rows=6, **HOW)
    assert math.isclose(none[0].confidence, 0.95)


def check_repeats(gate: ModuleType) -> None:
    """Copies count together: every row three times over tells as much as once, and a slice counts its distinct rows."""
    y = np.tile([0, 1], 10)
    candidate, production = _answers(*np.linspace(0.1, 0.9, 20)), _answers(*np.linspace(0.3, 0.6, 20))
    repeats = np.arange(20).repeat(3)
    masks = [("seven", np.arange(20) < 7), ("all", np.arange(20) < 20)]
    for metric in metrics_for(
        "binary", 1, {"share": (lambda y, p: float(np.mean((p[:, 1] > 0.5) == y)), True)}
    ).values():
        once = gate.compare_slices(metric, y, candidate, production, masks, minimum_rows=7, **HOW)
        thrice = gate.compare_slices(
            metric, y.repeat(3), candidate.repeat(3, axis=0), production.repeat(3, axis=0),
            [(label, mask.repeat(3)) for label, mask in masks], minimum_rows=7, repeats=repeats, **HOW,
        )  # fmt: skip
        for one, other in zip(once, thrice, strict=True):
            assert (other.rows, other.distinct, one.distinct) == (3 * one.rows, one.rows, None)
            assert (one.judged, one.confidence) == (other.judged, other.confidence)
            expected = dataclasses.astuple(one.comparison)
            assert np.allclose(dataclasses.astuple(other.comparison), expected, rtol=1e-9, atol=1e-12), metric.name
    few = gate.compare_slices(metric, y[:18], candidate[:18], production[:18], [("six", np.ones(18, dtype=bool))],
                              minimum_rows=7, repeats=repeats[:18], **HOW)  # fmt: skip
    assert not few[0].judged


def check_weights(gate: ModuleType) -> None:
    """A row of weight 3 counts as three copies of it; who takes no weights is judged as without; no weight, nothing to judge."""
    y = np.tile([0, 1], 10)
    candidate, production = _answers(*np.linspace(0.1, 0.9, 20)), _answers(*np.linspace(0.3, 0.6, 20))
    weights = np.arange(20) % 3 + 1
    masks = [("seven", np.arange(20) < 7), ("all", np.arange(20) < 20)]
    known = metrics_for("binary", 1, {"share": (lambda y, p: float(np.mean((p[:, 1] > 0.5) == y)), True)})
    copied = [one.repeat(weights, axis=0) for one in (y, candidate, production)]
    for metric in known.values():
        weighted = gate.compare_slices(metric, y, candidate, production, masks, minimum_rows=7, weights=weights, **HOW)
        expected = gate.compare_slices(
            metric, *copied, [(label, mask.repeat(weights)) for label, mask in masks], minimum_rows=7,
            repeats=np.arange(20).repeat(weights), **HOW,
        ) if metric.weighted else gate.compare_slices(metric, y, candidate, production, masks, minimum_rows=7, **HOW)  # fmt: skip
        for one, other in zip(weighted, expected, strict=True):
            assert one.judged == other.judged
            figures = [dataclasses.astuple(each.comparison) for each in (one, other)]
            assert np.allclose(*figures, rtol=1e-9, atol=1e-12), metric.name
    nothing = gate.compare_slices(known["accuracy"], y, candidate, production, masks, minimum_rows=7,
                                  weights=np.where(masks[0][1], 0, 1), **HOW)  # fmt: skip
    assert [one.judged for one in nothing] == [False, True]


def check_subjects(gate: ModuleType) -> None:
    """Rows of one subject tell less than as many of their own, and a slice counts its subjects."""
    y = np.tile([0, 1], 10).repeat(3)
    candidate, production = (
        _answers(*np.linspace(low, high, 20)).repeat(3, axis=0) for low, high in ((0.1, 0.9), (0.3, 0.6))
    )
    subjects, masks = np.arange(20).repeat(3), [("six", np.arange(60) < 18), ("all", np.arange(60) < 60)]
    for metric in metrics_for("binary", 1).values():
        grouped = gate.compare(metric, y, candidate, production, subjects=subjects, **HOW)
        alone = gate.compare(metric, y, candidate, production, **HOW)
        assert grouped.difference == alone.difference
        if metric.kind != "rank":  # whose virtual rows are others
            assert grouped.upper - grouped.lower > 1.2 * (alone.upper - alone.lower), metric.name
        slices = gate.compare_slices(metric, y, candidate, production, masks, minimum_rows=7, subjects=subjects, **HOW)
        assert [(each.judged, each.distinct) for each in slices] == [(False, 6), (True, 20)]
    accuracy = metrics_for("binary", 1)["accuracy"]
    alike = gate.compare(accuracy, y, candidate, candidate**2, subjects=subjects, **HOW)
    assert alike.difference == 0 and -1 < alike.lower < 0 < alike.upper < 1


def check_all(gate: ModuleType) -> None:
    """Every rule, for metrics of which more and of which less is better; raises AssertionError for one that is broken."""
    for higher in (True, False):
        for case in CASES:
            check_case(gate, case, higher)
    check_identical(gate)
    check_slices(gate)
    check_compare(gate)
    check_repeats(gate)
    check_weights(gate)
    check_subjects(gate)
    check_surely_better(gate)
