"""The gate: its verdicts, its bounds on the difference of two models, and its slices."""

import math
import time

import gate_cases
import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SettingsError
from pipeline.evaluation import gate
from pipeline.evaluation.gate import compare, decide, identical, slice_masks
from pipeline.evaluation.metrics import metrics_for

HOW = {"confidence": 0.95, "resamples": 400, "seed": 1}
POSITIVE = {"binary": 1, "multiclass": None, "regression": None}
EVERY = [(task, name) for task in POSITIVE for name in metrics_for(task, 1)]


def models(task: str, rows: int, seed: int = 0, noise: tuple[float, float] = (0.8, 1.2)):
    """y, and the answers of a candidate and a production model with noise of these sizes."""
    rng = np.random.default_rng(seed)
    if task == "regression":
        y = rng.normal(size=rows)
        return y, *(y + size * rng.normal(size=rows) for size in noise)
    k = 2 if task == "binary" else 3
    y = rng.integers(0, k, rows)
    logits = [2 * np.eye(k)[y] + size * rng.normal(size=(rows, k)) for size in noise]
    return y, *(np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in logits)


# --- the verdict ---


@pytest.mark.parametrize("higher", [True, False], ids=["score", "loss"])
@pytest.mark.parametrize("case", gate_cases.CASES, ids=lambda case: case.name)
def test_a_case_is_decided_as_the_rules_say(case, higher):
    """Whether more or less of the metric is better."""
    gate_cases.check_case(gate, case, higher)


def test_answers_within_the_tolerance_are_identical():
    """And those further away, of another shape, or NaN are not."""
    gate_cases.check_identical(gate)


def test_the_reason_gives_values_difference_and_how_sure():
    """A data scientist can read off what was seen and what it may mean."""
    comparison = gate.Comparison(0.081, 0.094, -0.013, -0.024, -0.002, 0.016)
    verdict = decide(
        gate.Evidence(0.081, False, comparison=comparison), gate.Rules("log_loss", False, "better", 0.01, 0.95)
    )
    assert verdict.reasons[0] == (
        "log_loss 0.081 against 0.094 in production: 0.013 better "
        "(95 % sure of each end: between 0.002 better and 0.024 better)"
    )


def test_equal_values_are_called_equal():
    """Not better by zero."""
    comparison = gate.Comparison(0.9, 0.9, 0.0, -0.02, 0.02, 0.03)
    assert "in production: equal (" in gate.in_words(comparison, gate.Rules("accuracy", True, "better", 0.01, 0.95))


def test_a_comparison_that_is_kept_says_what_the_hold_out_could_have_shown():
    """So that nobody waits for a difference that these rows cannot show."""
    comparison = gate.Comparison(0.9, 0.89, 0.01, -0.02, 0.04, 0.045)
    verdict = decide(gate.Evidence(0.9, False, comparison=comparison), gate.Rules("f1", True, "superior", 0, 0.95))
    assert "a true difference of 0.045 four times in five" in verdict.reasons[1]
    nothing = gate.Comparison(0.9, 0.9, 0.0, -math.inf, math.inf, math.inf)
    verdict = decide(gate.Evidence(0.9, False, comparison=nothing), gate.Rules("f1", True, "superior", 0, 0.95))
    assert "differ in nothing" in verdict.reasons[1]


def test_limits_know_from_the_metric_on_which_side_they_are():
    """A loss is at most, a score at least; one on no metric is refused by name."""
    known = metrics_for("binary", 1)
    values = {"log_loss": 0.2, "roc_auc": 0.97}
    judged = gate.judge_limits({"log_loss": 0.25, "roc_auc": 0.98}, values, known)
    assert [(one.metric, one.limit, one.value, one.success) for one in judged] == [
        ("log_loss", 0.25, 0.2, True),
        ("roc_auc", 0.98, 0.97, False),
    ]
    with pytest.raises(SettingsError, match=r"\[gate.limits\] 'auc'"):
        gate.judge_limits({"auc": 0.9}, values, known)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0131234, "0.01312"),
        (12345.6, "12350"),
        (1e-9, "0.000000001"),
        (-0.5, "-0.5"),
        (math.inf, "inf"),
        (95.0, "95"),
    ],
)
def test_numbers_are_short_and_without_powers_of_ten(value, text):
    """Four significant digits."""
    assert gate.number(value) == text


# --- the bounds ---


def test_bounds_lie_around_the_difference_or_are_infinite():
    """Infinite for a single row, for models the metric cannot tell apart, and where it is undefined too often."""
    gate_cases.check_compare(gate)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_metric_of_any_task_is_compared(task, name):
    """The values are those of the metric, and the better model is found on a large hold-out."""
    y, candidate, production = models(task, 2000)
    metric = metrics_for(task, POSITIVE[task])[name]
    found = compare(metric, y, candidate, production, **HOW)
    assert found.candidate == metric.value(y, candidate)
    assert found.production == metric.value(y, production)
    assert found.difference == found.candidate - found.production
    assert found.lower < found.difference < found.upper
    _, lower, _ = gate.gain(found, metric.higher_is_better)
    assert lower > 0


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_exchanged_models_have_mirrored_bounds(task, name):
    """Neither model is favoured: what one gains the other loses."""
    y, candidate, production = models(task, 150)
    metric = metrics_for(task, POSITIVE[task])[name]
    there = compare(metric, y, candidate, production, **HOW | {"resamples": 4000})
    back = compare(metric, y, production, candidate, **HOW | {"resamples": 4000, "seed": 2})
    width = there.upper - there.lower
    assert back.difference == -there.difference
    assert back.lower == pytest.approx(-there.upper, abs=0.05 * width)


def test_the_same_seed_gives_the_same_bounds_and_another_others():
    """A verdict can be had again."""
    y, candidate, production = models("binary", 200)
    metric = metrics_for("binary", 1)["roc_auc"]
    first = compare(metric, y, candidate, production, **HOW)
    assert compare(metric, y, candidate, production, **HOW) == first
    assert compare(metric, y, candidate, production, **HOW | {"seed": 2}).lower != first.lower


def test_more_confidence_and_fewer_rows_widen_the_bounds():
    """Being surer, or knowing less, claims less; so does finding smaller differences."""
    metric = metrics_for("binary", 1)["log_loss"]
    y, candidate, production = models("binary", 1000)
    plain = compare(metric, y, candidate, production, **HOW)
    surer = compare(metric, y, candidate, production, **HOW | {"confidence": 0.99})
    fewer = compare(metric, y[:100], candidate[:100], production[:100], **HOW)
    assert surer.lower < plain.lower < plain.upper < surer.upper
    assert fewer.upper - fewer.lower > 2 * (plain.upper - plain.lower)
    assert plain.detectable < fewer.detectable


def test_the_bound_is_the_one_of_students_t_for_a_mean():
    """For a mean over many rows the bootstrap must agree with the formula."""
    y, candidate, production = models("regression", 3000)
    found = compare(metrics_for("regression")["mae"], y, candidate, production, **HOW | {"resamples": 3000})
    differences = np.abs(y - candidate) - np.abs(y - production)
    error = differences.std(ddof=1) / math.sqrt(len(y))
    assert found.upper - found.difference == pytest.approx(1.645 * error, rel=0.05)
    assert found.difference - found.lower == pytest.approx(1.645 * error, rel=0.05)
    assert found.detectable == pytest.approx((1.645 + 0.8416) * error, rel=0.05)


@pytest.mark.parametrize("name", ["accuracy", "precision", "recall", "f1"])
def test_models_that_decide_alike_are_not_equal_for_certain(name):
    """On 100 rows without a disagreement, the truth may still be a few percent away (the rule of three)."""
    y, candidate, _ = models("binary", 100)
    production = 0.9 * candidate + 0.05  # other probabilities, the same decisions
    found = compare(metrics_for("binary", 1)[name], y, candidate, production, **HOW)
    assert found.difference == 0
    assert 0.01 < found.upper < 0.08
    assert -0.08 < found.lower < -0.01


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc"])
def test_models_that_rank_alike_allow_no_statement(name):
    """Two perfect rankings say nothing about rows on which one of them fails; the bounds are infinite."""
    y = np.arange(60) % 2
    candidate, production = np.column_stack([1 - y, y]), np.column_stack([0.6 - 0.2 * y, 0.4 + 0.2 * y])
    found = compare(metrics_for("binary", 1)[name], y, candidate, production, **HOW)
    assert (found.difference, found.lower, found.upper) == (0, -math.inf, math.inf)


def test_one_large_loss_counts_as_one_that_may_come_again_on_either_side():
    """A rare, large loss widens both bounds: the row with the widest gap is there once more, and once exchanged."""
    y, candidate, _ = models("regression", 100)
    production = candidate.copy()
    production[0] += 50
    found = compare(metrics_for("regression")["mae"], y, candidate, production, **HOW | {"resamples": 4000})
    # of 102 rows, three have that gap, one of them exchanged: standard deviation of the mean is about gap * sqrt(3) / 102
    gap = abs(found.difference) * 100
    expected = 1.66 * gap * math.sqrt(3 / 102 - (1 / 102) ** 2) / math.sqrt(102)
    assert found.upper - found.difference == pytest.approx(expected, rel=0.06)


def test_a_metric_of_the_teams_own_is_compared():
    """Its widest gap is that of the answers, for nothing is known of its terms."""
    y, candidate, production = models("binary", 200)
    own = metrics_for("binary", 1, {"share": (lambda y, p: float(np.mean((p[:, 1] > 0.5) == y)), True)})["share"]
    found = compare(own, y, candidate, production, **HOW)
    alike = compare(metrics_for("binary", 1)["accuracy"], y, candidate, production, **HOW)
    assert found.difference == pytest.approx(alike.difference)
    assert found.upper - found.lower == pytest.approx(alike.upper - alike.lower, rel=0.2)


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc", "recall", "precision"])
def test_a_hold_out_with_one_positive_row_allows_no_statement(name):
    """One row tells nothing about positive rows, and many resamples have none."""
    y, candidate, production = models("binary", 200)
    y = (np.arange(200) == 7).astype(int)
    found = compare(metrics_for("binary", 1)[name], y, candidate, production, **HOW)
    assert math.isfinite(found.difference)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_ranks_are_known_no_better_than_the_rarest_class():
    """With four positive rows, t has three degrees of freedom, however many negative rows there are."""
    y, candidate, production = models("binary", 400)
    rows = np.flatnonzero((y == 0) | (y.cumsum() <= 4))
    metric = metrics_for("binary", 1)["roc_auc"]
    found = compare(metric, y[rows], candidate[rows], production[rows], **HOW)
    t = (found.upper - found.difference) / (found.detectable - (found.upper - found.difference)) * 0.8416
    assert t == pytest.approx(2.353, abs=0.001)


def test_only_a_surely_better_candidate_becomes_the_best_version_so_far():
    """A better estimate alone is not enough, whether more or less is better."""
    gate_cases.check_surely_better(gate)


def test_copies_of_a_row_tell_no_more_than_the_row():
    """By every metric, overall and on a slice: the bounds are those of the distinct rows."""
    gate_cases.check_repeats(gate)


def test_a_row_that_is_most_of_the_hold_out_leaves_little_to_go_by():
    """Twenty rows and a hundred copies of one are worth less than two rows: nothing is claimed."""
    y, candidate, production = models("regression", 21)
    repeats = np.concatenate([np.arange(20), np.full(100, 20)])
    found = compare(
        metrics_for("regression")["mae"], y[repeats], candidate[repeats], production[repeats], repeats=repeats, **HOW
    )
    assert math.isfinite(found.difference)
    assert (found.lower, found.upper) == (-math.inf, math.inf)


def test_rows_with_the_same_features_and_target_are_found():
    """Empty cells are equal too; a column may have any name; distinct rows need no groups."""
    features = pd.DataFrame({"target": [1.0, np.nan, 1.0, np.nan, 1.0], "city": ["a", "b", "a", "b", "b"]})
    assert gate.repeated(features, np.array([0, 1, 0, 1, 0])).tolist() == [0, 1, 0, 1, 2]
    assert gate.repeated(features, np.array([0, 1, 1, 0, 0])) is None


def test_groups_of_one_row_change_no_figure():
    """Bit for bit: what is compared is the same where no row is a copy."""
    y, candidate, production = models("binary", 120)
    for metric in metrics_for("binary", 1).values():
        plain = compare(metric, y, candidate, production, **HOW)
        assert compare(metric, y, candidate, production, repeats=np.arange(120), **HOW) == plain


def test_what_is_infinite_or_undefined_is_none_in_json():
    """JSON has neither."""
    plain = gate.Comparison(0.9, math.nan, 0.1, -math.inf, math.inf, 0.2).plain()
    assert plain == {
        "candidate": 0.9,
        "production": None,
        "difference": 0.1,
        "lower": None,
        "upper": None,
        "detectable": 0.2,
    }


@pytest.mark.parametrize("name", ["log_loss", "accuracy", "roc_auc"])
def test_a_million_rows_are_compared_within_seconds(name):
    """The number of resamples falls as the rows grow."""
    y, candidate, production = models("binary", 1_000_000, noise=(1.0, 1.01))
    start = time.process_time()
    found = compare(metrics_for("binary", 1)[name], y, candidate, production, **HOW | {"resamples": 20_000})
    assert time.process_time() - start < 20  # about 2 s, and 7 s for roc_auc
    assert 0 < found.upper - found.lower < 0.01


# --- one model alone ---


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_the_interval_of_one_model_holds_its_value(task, name):
    """Every metric of a model has bounds around its value, wider with more confidence, the same for the same seed."""
    y, answers, _ = models(task, 150)
    metric = metrics_for(task, POSITIVE[task])[name]
    lower, upper = gate.interval(metric, y, answers, **HOW)
    assert lower < upper and lower <= metric.value(y, answers) <= upper
    assert gate.interval(metric, y, answers, **HOW) == (lower, upper)
    surer = gate.interval(metric, y, answers, **HOW | {"confidence": 0.99})
    assert surer[0] <= lower and upper <= surer[1]


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Of 400 hold-outs, about 5 % have the mean below the interval of a mean absolute error, and about 5 % above."""
    metric, rng, outside = metrics_for("regression")["mae"], np.random.default_rng(2), [0, 0]
    for seed in range(400):
        errors = rng.normal(size=200)
        lower, upper = gate.interval(metric, errors, np.zeros(200), confidence=0.95, resamples=400, seed=seed)
        truth = math.sqrt(2 / math.pi)
        outside = [outside[0] + (truth < lower), outside[1] + (truth > upper)]
    assert all(0.02 <= count / 400 <= 0.09 for count in outside), outside


def test_copies_narrow_no_interval():
    """Every row three times over: the interval of the distinct rows."""
    y, answers, _ = models("binary", 90)
    for metric in metrics_for("binary", 1).values():
        plain = gate.interval(metric, y, answers, **HOW)
        thrice = gate.interval(metric, y.repeat(3), answers.repeat(3, axis=0), repeats=np.arange(90).repeat(3), **HOW)
        assert thrice == pytest.approx(plain, rel=1e-9)


def test_a_metric_that_cannot_move_has_no_interval():
    """All rows right, or no positive row: the rows allow no statement about others."""
    y = np.array([0, 1] * 20)
    known = metrics_for("binary", 1)
    assert gate.interval(known["accuracy"], y, np.eye(2)[y], **HOW) is None
    assert gate.interval(known["roc_auc"], np.zeros(40, dtype=int), np.full((40, 2), 0.5), **HOW) is None
    assert gate.interval(known["log_loss"], y, np.full((40, 2), np.nan), **HOW) is None


# --- slices ---


def test_slices_are_judged_from_enough_rows_on_and_share_the_confidence():
    """Bonferroni: of two judged slices each must be 97.5 % sure."""
    gate_cases.check_slices(gate)


def test_text_is_sliced_by_value_and_empty_cells_are_missing():
    """The most frequent first, over the held-out rows only."""
    values = np.array(["b", "a", "a", "", "b", "b", "c"], dtype=object)
    holdout = np.array([True, True, True, True, True, True, False])
    masks = slice_masks(values, "grade", holdout)
    assert [label for label, _ in masks] == ["grade: b", "grade: a", "grade: missing"]
    assert masks[0][1].tolist() == [True, False, False, False, True, True]
    assert masks[2][1].tolist() == [False, False, False, True, False, False]


def test_at_most_twenty_values_of_a_text_are_slices():
    """The rare ones have too few rows to say anything."""
    values = np.array([f"v{number:02}" for number in range(30) for _ in range(30 - number)], dtype=object)
    masks = slice_masks(values, "city", np.ones(len(values), dtype=bool))
    assert [label for label, _ in masks] == [f"city: v{number:02}" for number in range(20)]


def test_numbers_are_sliced_by_thirds_of_the_hold_out():
    """Each held-out row lies in one slice; the bounds are in the labels."""
    values = np.concatenate([np.arange(1.0, 10), [1000]])
    holdout = np.arange(10) < 9
    masks = slice_masks(values, "mean_radius", holdout)
    assert [label for label, _ in masks] == [
        "mean_radius: low (≤ 3.667)",
        "mean_radius: middle",
        "mean_radius: high (> 6.333)",
    ]
    assert np.sum([mask for _, mask in masks], axis=0).tolist() == [1] * 9
    assert [int(mask.sum()) for _, mask in masks] == [3, 3, 3]


def test_numbers_that_are_missing_are_a_slice_of_their_own():
    """And a column that is empty altogether is that slice alone."""
    values = np.array([1.0, np.nan, 2, 3, np.nan, 4])
    everywhere = np.ones(6, dtype=bool)
    masks = slice_masks(values, "age", everywhere)
    assert masks[-1][0] == "age: missing"
    assert masks[-1][1].tolist() == [False, True, False, False, True, False]
    assert np.sum([mask for _, mask in masks], axis=0).tolist() == [1] * 6
    assert [label for label, _ in slice_masks(np.full(6, np.nan), "age", everywhere)] == ["age: missing"]


def test_slices_without_a_row_are_left_out():
    """A constant column is one slice, and a boolean one at most two."""
    everywhere = np.ones(6, dtype=bool)
    assert len(slice_masks(np.ones(6), "one", everywhere)) == 1
    assert len(slice_masks(np.array([0, 1, 0, 1, 1, 1], dtype=float), "flag", everywhere)) == 2


def test_a_model_that_gave_up_on_a_slice_is_refused_though_better_overall():
    """From predictions to the verdict, naming the slice."""
    y, candidate, production = models("binary", 900, noise=(0.5, 1.2))
    group = np.where(np.arange(900) % 9, np.where(np.arange(900) % 2, "north", "east"), "south")
    candidate = np.where((group == "south")[:, None], candidate[:, ::-1] * 0.4 + 0.3, candidate)
    metric = metrics_for("binary", 1)["brier"]
    overall = compare(metric, y, candidate, production, **HOW)
    assert overall.upper < 0  # less loss: better
    slices = gate.compare_slices(
        metric, y, candidate, production, slice_masks(group, "region", np.ones(900, dtype=bool)), minimum_rows=30, **HOW
    )
    evidence = gate.Evidence(overall.candidate, False, comparison=overall, slices=slices)
    verdict = decide(evidence, gate.Rules("brier", False, "better", 0.01, 0.95))
    assert verdict.verdict == "refuse"
    assert verdict.reasons[0].startswith("surely worse on region: south (100 rows): brier")
    assert "98.33 % sure" in verdict.reasons[0]
    assert not identical(candidate, production)
