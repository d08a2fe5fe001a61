"""The threshold: which one each rule chooses, on what it is chosen, and what it does to the metrics."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.decisions import judged, threshold
from pipeline.errors import DataError, SettingsError, StageError
from pipeline.evaluation.metrics import metrics_for
from pipeline.settings import Decision, Settings, load_settings
from serving.model.decision import Threshold

SCORE = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
HIT = np.array([False, False, True, False, True, False, True, True])


def settings(**decision) -> Settings:
    """Settings of two classes with this [decision]."""
    return Settings.model_validate(
        {
            "name": "decided",
            "data": {"task": "binary", "id": "id", "target": "target", "positive": "yes"},
            "split": {"holdout": 0.25, "salt": "s"},
            "train": {"seed": 1},
            "decision": decision,
            "gate": {"metric": "log_loss", "margin": 0.1},
        }
    )


def dataset(**decision):
    """Rows of which the column `a` says the class, with noise."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    frame = pd.DataFrame({"id": [f"r{row}" for row in range(400)], "a": a})
    frame["target"] = np.where(a + rng.normal(size=400) > 0.5, "yes", "no")
    return take_apart(frame, settings(**decision))


def by_column(data, rows) -> np.ndarray:
    """What a model says of these rows that answers with a function of the column `a`."""
    positive = 1 / (1 + np.exp(-2 * data.features["a"].to_numpy()[rows]))
    return np.stack([1 - positive, positive], axis=1)


def chosen(data) -> threshold.Choice:
    """The threshold of the settings, for that model."""
    return threshold.choose(data, lambda fit, judge: by_column(data, judge))


def best(**decision) -> float:
    """The threshold that a rule chooses for SCORE and HIT."""
    return threshold.best(SCORE, HIT, Decision(**decision))


def test_a_floor_of_precision_gives_the_highest_recall():
    """Of the thresholds that reach the floor, that which finds most."""
    assert best(rule="precision", floor=1.0) == pytest.approx(0.75)
    assert best(rule="precision", floor=0.6) == pytest.approx(0.25)


def test_a_floor_of_recall_gives_the_highest_precision():
    """Of the thresholds that find enough, that which is right most often."""
    assert best(rule="recall", floor=0.75) == pytest.approx(0.5)
    assert best(rule="recall", floor=1.0) == pytest.approx(0.25)


def test_the_least_cost_weighs_both_errors():
    """Where missing a row is dear, more rows are called positive; where a false alarm is, fewer."""
    missed = best(rule="cost", cost_false_negative=10)
    alarm = best(rule="cost", cost_false_positive=10)
    assert (missed, alarm) == (pytest.approx(0.25), pytest.approx(0.75))
    assert threshold.measure(SCORE, HIT, missed, Decision(rule="cost", cost_false_negative=10))["cost"] == 2 / 8


@pytest.mark.parametrize(
    "rule", [{"rule": "cost"}, {"rule": "precision", "floor": 0.7}, {"rule": "recall", "floor": 0.7}]
)
def test_a_row_of_weight_three_counts_as_three_rows(rule):
    """Threshold, precision, recall and cost are those of the data in which each row is there as often as it weighs."""
    weight = np.array([1, 3, 1, 0, 2, 3, 1, 1])
    score, hit, asked = SCORE.repeat(weight), HIT.repeat(weight), Decision(**rule)
    weighted = threshold.best(SCORE, HIT, asked, weight.astype(float))
    said, copied = weighted <= SCORE, threshold.best(score, hit, asked) <= SCORE
    assert (said == copied)[weight > 0].all()
    figures = threshold.measure(SCORE, HIT, weighted, asked, weight.astype(float))
    assert figures == pytest.approx(threshold.measure(score, hit, weighted, asked))


def test_no_row_lies_on_a_threshold():
    """A hair's breadth between two computations of a probability moves no row that it was chosen by."""
    for rule in ("cost", "precision", "recall"):
        assert np.abs(SCORE - best(rule=rule, floor=0.6)).min() > 0.04


def test_a_floor_that_nothing_reaches_is_refused_with_the_best_there_is():
    """In words that say what can be had."""
    with pytest.raises(StageError, match=r"no threshold reaches a precision of 0\.9 .* the best is 0\.5") as refused:
        threshold.best(np.array([0.2, 0.8, 0.8]), np.array([False, True, False]), Decision(rule="precision", floor=0.9))
    assert "lower floor" in refused.value.then


def test_the_threshold_is_chosen_on_folds_of_the_training_side():
    """Each training row is judged once, by a model that did not see it, and no row of the hold-out ever; twice the same."""
    data, seen = dataset(rule="recall", floor=0.9), []

    def answers(fit, judge):
        assert not set(fit) & set(judge)
        assert not data.holdout[fit].any()
        seen.extend(judge)
        return by_column(data, judge)

    choice = threshold.choose(data, answers)
    assert sorted(seen) == np.flatnonzero(~data.holdout).tolist()
    assert choice.rows == len(seen)
    assert choice.recall >= 0.9
    assert choice.threshold < 0.5
    assert choice == chosen(data)


def test_positive_rows_without_a_weight_are_told():
    """Where every positive row has the weight 0, no figure is defined, and the message names the column's setting."""
    data = dataset(rule="recall", floor=0.9)
    weighted = replace(data, weights=(data.y == 0).astype(float))
    with pytest.raises(DataError, match="no row of class 'yes' on the training side has a weight") as refused:
        chosen(weighted)
    assert "[data] weight" in refused.value.then


def test_without_a_threshold_nothing_is_fitted_anew():
    """The most probable class and a fixed threshold need no folds."""
    assert threshold.choose(dataset(), None) is None
    fixed = threshold.choose(dataset(rule="fixed", threshold=0.2), None)
    assert threshold.contract_part(fixed) == {"labels": "threshold", "threshold": 0.2}
    assert threshold.contract_part(None) == {}


def test_metrics_of_labels_follow_the_threshold_and_those_of_probabilities_do_not():
    """Accuracy, precision and recall are of the labels that the threshold gives."""
    y = np.array([0, 0, 1, 1])
    given = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    known, cut = metrics_for("binary", 1), Threshold(1, 0.25)
    assert known["recall"].value(y, known["recall"].seen(given, cut)) == 1
    assert known["recall"].value(y, known["recall"].seen(given)) == 0.5
    assert known["precision"].value(y, known["precision"].seen(given, cut)) == pytest.approx(2 / 3)
    assert known["log_loss"].seen(given, cut) is given
    assert known["roc_auc"].seen(given, cut) is given
    broken = np.array([[np.nan, np.nan], *given[1:]])
    assert np.isnan(known["accuracy"].value(y, known["accuracy"].seen(broken, cut)))


@pytest.mark.parametrize(("line", "words"), [("threshold = 1.5", "less than 1"), ("threshold = 0.0", "greater than 0"), ("floor = 1.2", "less than or equal to 1"), ('rule = "best"', "rule = 'best'")])  # fmt: skip
def test_a_threshold_that_cannot_be_is_refused_at_the_start(tmp_path, line, words):
    """Before anything is trained, with table, key and what is allowed."""
    text = Path("tests/example/pipeline.toml").read_text(encoding="utf-8")
    before, after = text.split("[decision]", 1)
    key = line.split(" ")[0]
    lines = after.splitlines()
    place = next(number for number, one in enumerate(lines) if one.startswith(f"{key} "))
    lines[place] = line
    (tmp_path / "pipeline.toml").write_text(before + "[decision]" + "\n".join(lines))
    with pytest.raises(SettingsError, match=rf"\[decision\] .*{words}"):
        load_settings(tmp_path / "pipeline.toml")


def test_a_threshold_needs_two_classes():
    """Of more, the most probable is the answer."""
    with pytest.raises(ValueError, match='needs \\[data\\] task "binary"'):
        Settings.model_validate(
            settings(rule="fixed").model_dump() | {"data": {"task": "multiclass", "id": "id", "target": "target"}}
        )


def test_the_record_has_what_was_expected_and_what_was_measured():
    """The hold-out judges what the folds chose; the picture marks it."""
    data = dataset(rule="cost", cost_false_negative=5)
    choice, held = chosen(data), by_column(data, data.holdout)
    figures = ("rule", "threshold", "rows", "precision", "recall", "cost")
    run = {"decision": {name: getattr(choice, name) for name in figures}}
    found = judged.decision_of(run, data, held)
    assert (found.threshold, found.expected_cost, found.floor) == (choice.threshold, choice.cost, None)
    assert found.cost == pytest.approx(choice.cost, rel=0.5)
    assert len(judged.pictures(found, data, held)["threshold"].axes) == 2
    assert judged.decision_of({}, data, held) is None
    assert judged.pictures(None, data, held) == {}


def test_too_few_rows_for_the_folds_are_told_before_the_fit(monkeypatch):
    """Only where the threshold is looked for."""
    monkeypatch.setattr(threshold, "FOLDS", 1000)
    threshold.check(dataset())
    threshold.check(dataset(rule="fixed"))
    with pytest.raises(DataError, match="too few for 1000 folds"):
        threshold.check(dataset(rule="recall"))
