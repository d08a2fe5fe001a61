"""When the monitor starts a retraining: one rule each, without MLflow, GitHub or data."""

import datetime

import pytest

from pipeline.monitor.actions.retraining import DAY, Attempt, World, decide, reason
from pipeline.monitor.findings import DayRow, Measured, Performance
from pipeline.settings import Retrain
from tests.pipeline.monitor.found import findings, incident, performance

NOW = datetime.datetime(2026, 12, 1, 4, tzinfo=datetime.UTC).timestamp()
RULES = Retrain()
LABELS = [DayRow(day=f"2026-11-{day:02d}", version="3", rows=1000, labelled=100) for day in range(1, 31)]


def world(*attempts, **given):
    """A world in which nothing stands against a retraining."""
    return World(NOW, attempts, **{"trained": "2026-11-01"} | given)


def found(*incidents, **given):
    """Findings with enough outcomes."""
    return findings(*(incidents or (performance(),)), **{"days": LABELS} | given)


def refused(one, rules=RULES, delay=1.0, about=None):
    """The reasons against, of a decision that must not start anything."""
    decision = decide(one, rules, delay, about or world())
    assert not decision.start and decision.refusals
    return " | ".join(decision.refusals)


def days_ago(days, why="every Monday"):
    """A retraining some days ago."""
    return Attempt(NOW - days * DAY, why)


def test_falling_performance_starts_one_with_its_reason():
    """The reason says what moved and since when, as MLflow keeps it."""
    decision = decide(found(), RULES, 1.0, world())
    assert decision.start and decision.refusals == []
    assert decision.reason == "performance: accuracy 0.76 (hold-out 0.85), since 2026-11-20"


def test_the_reason_has_the_metric_that_people_know():
    """Where it was measured: the accuracy of the last outcomes beside the hold-out's, whatever alarm came first."""
    one = Measured(name="accuracy", value=0.7612, holdout=0.8533, rows=700, higher_is_better=True)
    now = found(performance(words="loss"), daily_metric="accuracy", performance=Performance(metrics=[one]))
    assert decide(now, RULES, 1.0, world()).reason == "performance: accuracy 0.76 (hold-out 0.85), since 2026-11-20"


def test_a_long_reason_is_cut_before_its_day():
    """MLflow keeps 200 characters with "retrain: " in front; the text is on one line."""
    said = reason(findings(), performance(words="x\n" * 300))
    assert len(f"retrain: {said}") <= 200 and said.endswith(", since 2026-11-20") and "\n" not in said


def test_without_an_incident_nothing_starts():
    """Nor for one that is over."""
    assert "no open incident of performance" in refused(findings(days=LABELS))
    over = performance(open=False, closed_day="2026-11-29")
    assert "no open incident" in refused(found(over))


def test_drift_alone_starts_nothing_unless_it_is_asked_for():
    """Drift that does not harm is watched; who wants to retrain on it says so."""
    assert "no open incident" in refused(found(incident()))
    assert decide(found(incident()), Retrain(on=["data_drift"]), 1.0, world()).reason.startswith(
        "data_drift: mean_area"
    )


def test_the_kind_that_stands_first_is_the_reason():
    """Of one kind, the surest."""
    one = found(incident(evidence=9), performance(evidence=1.1, words="a"), performance(evidence=2, words="b"))
    assert decide(one, Retrain(on=["performance", "data_drift"]), 1.0, world()).reason.startswith("performance: b")
    assert decide(one, Retrain(on=["data_drift", "performance"]), 1.0, world()).reason.startswith("data_drift")


def test_it_can_be_switched_off():
    """An empty list is never a reason."""
    assert "on in pipeline.toml is empty" in refused(found(), Retrain(on=[]))


def test_broken_data_are_not_learnt():
    """As long as they are broken, whatever else is wrong."""
    broken = incident("data_broken", "texture", check="missing", words="texture: 20 % are empty")
    assert "the data are broken since 2026-11-20: texture: 20 % are empty" in refused(found(performance(), broken))


def test_the_fastest_outcomes_are_not_enough():
    """Outcomes of the incident's first day must be due: those that come first are not like the others."""
    assert "those of 2026-11-20 until 2026-12-04" in refused(found(), delay=14)
    assert decide(found(), RULES, 10, world()).start


@pytest.mark.parametrize(("trained", "starts"), [("2026-11-26", True), ("2026-11-27", False)])
def test_outcomes_count_from_the_training_on(trained, starts):
    """Those from before, production knows already."""
    decision = decide(found(), RULES, 1.0, world(trained=trained))
    assert decision.start == starts
    assert starts or decision.refusals == ["there are 400 new outcomes, of at least 500 ([retrain] min_new_labels)"]


def test_another_one_waits():
    """Whoever started the last."""
    assert "the last retraining was on 2026-11-26 (every Monday), the next may be on 2026-12-03" in refused(
        found(), about=world(days_ago(4.5))
    )
    assert decide(found(), RULES, 1.0, world(days_ago(7.1))).start


def test_a_month_has_an_end():
    """The cap needs a person."""
    often = world(*(days_ago(days) for days in (8, 14, 20, 29)))
    assert "4 retrainings within 30 days are as many as" in refused(found(), about=often)
    assert decide(found(), RULES, 1.0, often).exhausted
    assert decide(found(), RULES, 1.0, world(*(days_ago(days) for days in (8, 14, 20, 31)))).start


def test_two_that_did_not_help_are_enough():
    """Two since the alarm for this kind of incident; those before it, or for another reason, do not count."""
    rules = Retrain(min_days_between=0, max_per_30_days=30)
    tried = days_ago(3, "performance: accuracy 0.77, since 2026-11-20")
    before = days_ago(12, "performance: accuracy 0.77, since 2026-11-10")
    assert decide(found(), rules, 1.0, world(tried, before, days_ago(2), days_ago(1, "data_drift: x"))).start
    decision = decide(found(), rules, 1.0, world(tried, days_ago(1, "performance: accuracy 0.75, since 2026-11-20")))
    assert "retrainings on 2026-11-28 and 2026-11-30 did not end it, a person must look" in decision.exhausted
    assert decision.exhausted in decision.refusals and not decision.start


def test_a_new_version_with_the_same_trouble_has_not_ended_it():
    """A retraining that was released and is as bad counts, though its incident is a new one; after a month it is another trouble."""
    rules = Retrain(min_days_between=0, max_per_30_days=30)
    tried = world(
        days_ago(12, "performance: accuracy 0.77, since 2026-11-10"),
        days_ago(3, "performance: accuracy 0.75, since 2026-11-20"),
    )
    before = performance(version="2", since="2026-11-10", alarm_day="2026-11-12", open=False, closed_day="2026-11-19")
    assert "a person must look" in decide(found(performance(), before), rules, 1.0, tried).exhausted
    long_ago = performance(version="2", since="2026-09-10", alarm_day="2026-09-12", open=False, closed_day="2026-09-19")
    assert decide(found(performance(), long_ago), rules, 1.0, tried).start


@pytest.mark.parametrize("what", ["under_way", "unapproved", "same_data"])
def test_what_the_world_says_stands_against_it(what):
    """A delivery that goes on, nobody who approves, and the same data, in the words of those who know."""
    assert refused(found(), about=world(**{what: "because"})) == "because"


def test_all_reasons_are_told_at_once():
    """Nobody mends one to hear of the next."""
    broken = incident("data_broken", "texture", words="empty")
    said = refused(found(performance(), broken, days=[]), delay=30, about=world(days_ago(1), under_way="busy"))
    assert len(said.split(" | ")) == 5
