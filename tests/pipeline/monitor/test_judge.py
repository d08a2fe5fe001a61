"""Daily counts become findings: what is wrong, since when, and what is only shown."""

import numpy as np
import pytest

from pipeline.monitor.plan import Trained
from serving.counts.records import Column, Day, Outcomes, Rows
from tests.pipeline.monitor.production_days import FIRST, World, date, judged
from tests.pipeline.monitor.watched_columns import numbers

pytestmark = pytest.mark.quick


@pytest.fixture
def world():
    """A model and its callers."""
    return World()


def moved(name: str, by: float):
    """A column that is moved."""

    def change(columns: dict) -> None:
        columns[name] = columns[name] + by

    return change


def emptied(name: str, share: float):
    """A column of which a share of the cells is empty."""

    def change(columns: dict) -> None:
        columns[name][: int(share * len(columns[name]))] = np.nan

    return change


def painted(columns: dict) -> None:
    """A colour that nobody has seen, in one row of ten."""
    columns["colour"] = np.where(np.arange(len(columns["colour"])) % 10 == 0, "green", columns["colour"])


def kinds(found):
    """Kind, check and column of the open incidents."""
    return {(one.kind, one.check, one.column) for one in found.open_incidents()}


def test_nothing_is_wrong_with_the_world_of_the_training(world):
    """Sixty days like the training: no incident, and figures that say so."""
    found = judged(world, lambda version: [world.day(number, version) for number in range(60)])
    assert (found.verdict, found.incidents, found.notes) == ("ok", [], [])
    assert found.performance.metrics[0].value == pytest.approx(0.85, abs=0.02)
    assert found.estimated[0].value == pytest.approx(0.85, abs=0.01)
    assert found.performance.coverage == 1 and found.outcomes.matched == 7000
    assert len(found.days) == 60 and max(found.days[-1].evidence.values()) < 1


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"change": moved("size", 0.5)}, ("data_drift", "distribution", "size")),
        ({"change": moved("noise", 20)}, ("data_broken", "outside", "noise")),
        ({"change": emptied("size", 0.1)}, ("data_broken", "missing", "size")),
        ({"change": painted}, ("data_broken", "unseen", "colour")),
        ({"change": moved("size", 0.5)}, ("prediction_drift", "distribution", "prediction: yes")),
        ({"correct": 0.7}, ("performance", "wrong", None)),
        ({"correct": 0.7}, ("concept_drift", "surprise", None)),
        ({"refused": {"422": 150, "429": 20}}, ("data_broken", "refused", None)),
        ({"rows": 20}, ("data_broken", "volume", None)),
    ],
)
def test_what_is_wrong_is_named(world, more, wanted):
    """Each kind of trouble has an incident of its own, which says since when and how much."""
    found = judged(world, lambda version: [world.day(n, version, **(more if n >= 40 else {})) for n in range(50)])
    assert wanted in kinds(found)
    (incident,) = [one for one in found.open_incidents() if (one.kind, one.check, one.column) == wanted]
    assert date(FIRST + 38) <= incident.since <= incident.alarm_day <= date(FIRST + 49)
    assert incident.words and incident.evidence >= 1 and incident.version == "1"
    assert found.verdict == {"data_broken": "broken", "performance": "falling"}.get(wanted[0], found.verdict)


def test_rows_that_stop_twice_are_two_incidents(world):
    """Days without rows are no measure of what is usual: the second time is noticed, too, and stays open."""
    rows = [1000] * 20 + [0] * 3 + [900] * 2 + [0] * 10
    found = judged(world, lambda version: [world.day(n, version, rows=number) for n, number in enumerate(rows) if number] + [Day(day=date(FIRST + 34), version="")])  # fmt: skip
    assert [(one.since, one.open) for one in found.incidents if one.check == "volume"] == [
        (date(FIRST + 25), True),
        (date(FIRST + 20), False),
    ]


def test_weekends_without_callers_are_no_incident(world):
    """Where nobody asks on two days of seven, a day without rows says nothing."""
    found = judged(world, lambda version: [world.day(n, version, rows=1000) for n in range(60) if n % 7 < 5])
    assert found.verdict == "ok" and not found.incidents


def test_drift_of_inputs_alone_is_no_change_of_the_concept(world):
    """Where inputs move and the model is as right as it says, neither performance nor concept has an alarm."""
    found = judged(
        world, lambda version: [world.day(n, version, change=moved("size", 1.0 * (n > 30))) for n in range(50)]
    )
    assert found.verdict == "watch"
    assert not {kind for kind, _, _ in kinds(found)} & {"performance", "concept_drift", "data_broken"}


def test_an_incident_closes_when_its_cause_is_gone(world):
    """The alarm has an end, and the verdict is good again."""
    found = judged(
        world, lambda version: [world.day(n, version, change=moved("noise", 0.6 * (30 <= n < 36))) for n in range(75)]
    )
    (incident,) = [one for one in found.incidents if one.column == "noise" and one.check == "distribution"]
    assert not incident.open and incident.closed_day > date(FIRST + 36) and found.verdict == "ok"


def test_a_new_version_closes_the_incidents_of_the_old_one(world):
    """What was wrong with version 1 is over when version 2 answers."""

    def days(version):
        return [world.day(n, version, correct=0.6 if n >= 20 else 0.85) for n in range(30)] + [
            world.day(n, version, name="2") for n in range(30, 40)
        ]

    found = judged(world, days, limits={"accuracy": 0.8})
    assert found.verdict == "ok" and [one.version for one in found.releases] == ["1", "2"]
    assert "limit" in {one.check for one in found.incidents}
    assert {(one.version, one.open, one.closed_day) for one in found.incidents} == {("1", False, date(FIRST + 29))}


def test_a_canary_ends_no_incident_of_what_it_may_replace(world):
    """While a few rows are answered by version 2, version 1 still serves, and so does what is wrong with it."""

    def days(version):
        found = [world.day(n, version, correct=0.6 if n >= 20 else 0.85) for n in range(32)]
        return found + [world.day(n, version, rows=100, name="2") for n in range(30, 32)]

    found = judged(world, days, limits={"accuracy": 0.8})
    assert found.verdict == "falling" and ("performance", "limit", None) in kinds(found)
    assert found.versions[-1].version == "1" and found.performance.metrics[0].rows == 7000


def test_versions_that_take_turns_both_serve(world):
    """Version 1 answers on every other day: an incident of its own does not end and begin each day."""

    def days(version):
        return [
            world.day(n, version, name="12"[n % 2], correct=0.6 if n >= 20 and not n % 2 else 0.85) for n in range(40)
        ]

    found = judged(world, days)
    assert {one.version for one in found.open_incidents() if one.kind == "performance"} == {"1"}


def test_volume_is_that_of_all_versions(world):
    """Days on which another version answered are no days without rows, and a release is no new beginning."""
    back = judged(world, lambda version: [world.day(n, version, name="2" if 20 <= n < 26 else "1") for n in range(30)])
    assert not back.incidents
    fell = judged(world, lambda version: [world.day(n, version, name="2" if n >= 20 else "1", rows=1000 if n < 22 else 40) for n in range(24)])  # fmt: skip
    assert ("data_broken", "volume", None) in kinds(fell)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_an_experiment_changes_no_volume(world, share):
    """Rows that a challenger answers are no fewer rows, neither when the experiment begins nor when it ends."""

    def days(version):
        found = []
        for n in range(40):
            to = int(1000 * share) if 20 <= n < 28 else 0
            found += [world.day(n, version, rows=1000 - to)] if to < 1000 else []
            found += [Day(day=date(FIRST + n), version="2", challenged=to)] if to else []
        return found

    found = judged(world, days)
    assert found.verdict == "ok" and not found.incidents
    assert [one.version for one in found.versions] == ["1"]


def test_a_challenger_that_answers_everybody_is_no_silence(world):
    """Its rows are noted, and nobody is told that nobody asked."""

    def days(version):
        other = [Day(day=date(FIRST + n), version="2", challenged=1000) for n in range(30, 40)]
        return [world.day(n, version) for n in range(30)] + other

    found = judged(world, days)
    assert not found.incidents and not [note for note in found.notes if "Nobody has asked" in note]
    assert any("challenger of an experiment answered 7,000 rows" in note for note in found.notes)


def test_nothing_is_said_of_a_version_that_cannot_be_judged(world):
    """The version that answers now has no bundle: that the one before was right is no verdict on it, and its silence no incident."""

    def days(version):
        return [world.day(n, version) for n in range(20)] + [
            Day(day=date(FIRST + n), version="7", requests=10, asked=1000) for n in range(20, 25)
        ]

    found = judged(world, days)
    assert found.verdict == "unknown" and not found.incidents
    assert "Version 7 answered from" in found.notes[0] and "is gone from MLflow" in found.notes[0]
    assert next(one.rows for one in found.versions if one.version == "7") == 5000


def test_counts_of_another_model_with_the_same_number_are_left_out(world):
    """A registry that begins anew gives numbers again: what is left of the older model's days is no traceback and no figure."""

    def days(version):
        found = [world.day(n, version) for n in range(10)]
        for day in found[:5]:
            day.rows.features["size"], day.outcomes.confusion = Column(counts=[500, 500]), [[300, 0, 0]] * 3
            day.outcomes.target = Column(counts=[300, 300, 300, 0])
        return found

    found = judged(world, days, window_days=9)
    assert found.outcomes.matched == 5000 and not found.incidents


def test_silence_is_said(world):
    """One day with many rows and nothing for weeks: no alarm says so, hence a note does."""
    end = Day(day=date(FIRST + 40), version="")
    found = judged(world, lambda version: [world.day(0, version), end])
    assert [note for note in found.notes if f"Nobody has asked since {date(FIRST)}" in note]


def test_outcomes_that_cannot_be_used_are_said(world):
    """Outcomes of another type than the model's classes come to nothing: a note says how many, and what they must be."""

    def days(version):
        found = [world.day(n, version) for n in range(10)]
        for day in found:
            day.outcomes.unknown = 500
        return found

    (note,) = [note for note in judged(world, days).notes if "not used" in note]
    assert note.startswith("3,500 outcomes") and "no, yes" in note


def test_any_name_of_a_column_can_be_said(world):
    """A column may be called "{0}", and a value of it "others"; neither breaks a sentence, nor makes a known value an unseen one."""
    features, inputs = world.trained.reference["features"], world.trained.contract["inputs"]
    features["{0} {cell}"] = {"shares": {"others": 0.3, "red": 0.7}, "missing": 0.0}
    inputs.append({"name": "{0} {cell}", "type": "text", "example": "red", "observed": {"values": ["others", "red"]}})

    def days(version):
        found = [world.day(n, version) for n in range(30)]
        for n, day in enumerate(found):
            others = 300 if n < 20 else 600
            day.rows.features["{0} {cell}"] = Column(counts=[others, 1000 - others, 0])
        return found

    (incident,) = judged(world, days).open_incidents()
    assert (incident.kind, incident.check, incident.unit) == ("data_drift", "distribution", "share of rows = others")
    assert incident.words.startswith("share of rows with {0} {cell} = others: 30.0% at release, 6")


def test_rare_values_that_training_knew_are_not_unseen(world):
    """Of more values than are watched one by one, a rare one that becomes frequent is drift, not broken data."""
    values = [f"v{n}" for n in range(30)]
    shares = dict.fromkeys(values[:20], 0.045)
    world.trained.reference["features"]["code"] = {"shares": shares, "missing": 0.0}
    world.trained.contract["inputs"].append(
        {"name": "code", "type": "text", "example": "v1", "observed": {"values": values}}
    )

    def days(version):
        found = [world.day(n, version) for n in range(30)]
        for n, day in enumerate(found):
            each = 45 if n < 20 else 30
            day.rows.features["code"] = Column(counts=[each] * 20 + [1000 - 20 * each])
        return found

    (incident,) = judged(world, days).open_incidents()
    assert (incident.check, incident.unit) == ("distribution", "share of rows = any other value")


def test_truth_values_are_called_so(world):
    """An incident of a column of truth values says true or false, not "at least 1"."""
    world.trained.reference["features"]["used"] = numbers(np.repeat([0.0, 1.0], [2010, 1990]))
    world.trained.contract["inputs"].append({"name": "used", "type": "boolean", "example": True})

    def days(version):
        found = [world.day(n, version) for n in range(30)]
        for n, day in enumerate(found):
            true = 500 if n < 20 else 800
            day.rows.features["used"] = Column(counts=[0, 1000 - true, true])
        return found

    (incident,) = judged(world, days).open_incidents()
    assert incident.unit == "share of rows = true"


def test_limit_is_an_incident_when_the_whole_interval_is_beyond(world):
    """An accuracy below its limit by chance is shown; one that is surely below is an incident."""
    days = lambda correct: lambda version: [world.day(n, version, rows=300, correct=correct) for n in range(10)]  # noqa: E731
    chance = judged(world, days(0.79), limits={"accuracy": 0.8})
    sure = judged(world, days(0.6), limits={"accuracy": 0.8})
    assert ("performance", "limit", None) not in kinds(chance)
    assert ("performance", "limit", None) in kinds(sure) and sure.performance.limits[0].broken


def test_limit_of_a_metric_without_an_interval_is_an_incident(world):
    """The root mean squared error has no interval in the counts; beyond its limit it is an incident all the same."""
    contract = world.trained.contract | {"task": "regression", "inputs": world.trained.contract["inputs"][:1]}
    world.trained = Trained(
        contract | {"classes": None, "positive": None}, {"rows": 1000, "features": {}, "prediction": {}}
    )

    def days(version):
        told = Outcomes(rows=200, loss_sum=900.0, loss_squares=5000.0)
        return [
            Day(day=date(FIRST + n), version="1", requests=200, rows=Rows(rows=200), outcomes=told) for n in range(5)
        ]

    assert ("performance", "limit", None) in kinds(judged(world, days, limits={"rmse": 4.5}))
    assert not judged(world, days, limits={"rmse": 5.5}).incidents


def test_limit_waits_for_outcomes(world):
    """Below `min_outcomes` a limit has no value, and nothing is broken."""
    found = judged(world, lambda version: [world.day(0, version, rows=90, correct=0.1)], limits={"accuracy": 0.8})
    assert found.performance.limits[0].value is None and ("performance", "limit", None) not in kinds(found)


def test_outcomes_that_are_still_to_come_are_not_missed(world):
    """The youngest days are judged by their outcomes later, and are not in the coverage."""

    def days(version):
        return [world.day(n, version, labelled=1.0 if n < 9 else 0.0) for n in range(10)]

    assert judged(world, days, label_delay_days=1).performance.coverage == 1
    assert judged(world, days, label_delay_days=0).performance.coverage == pytest.approx(6 / 7)


def test_one_row_a_day_is_judged_when_there_are_enough(world):
    """Days with few rows count together, and none of them is an alarm."""
    found = judged(world, lambda version: [world.day(n, version, rows=1) for n in range(100)])
    assert found.verdict == "ok" and found.columns[0].rows == 7


@pytest.mark.parametrize(
    ("days", "note"),
    [
        ([], "The prediction log is empty"),
        ([Day(day=date(FIRST), version="", orphaned=3)], "No day is over yet"),
    ],
)
def test_nothing_to_judge_is_said(world, days, note):
    """Without rows the verdict is unknown, and a note says why."""
    found = judged(world, lambda version: days)
    assert found.verdict == "unknown" and note in found.notes[0]


def test_version_without_a_bundle_is_named(world):
    """Rows of a version that nobody knows are counted, and the reason stands beside them."""

    def days(version):
        return [Day(day=date(FIRST), version="7", requests=9), world.day(1, version)]

    found = judged(world, days)
    gone = next(one for one in found.versions if one.version == "7")
    assert not gone.judged and "is gone from MLflow" in gone.why_not and found.verdict == "ok"


def test_older_reference_leaves_out_what_it_lacks(world):
    """A bundle from before the monitor has no target, losses and metrics: features and predictions are judged all the same."""
    for key in ("target", "loss", "metrics", "expected_accuracy", "prediction_rows"):
        del world.trained.reference[key]
    found = judged(
        world, lambda version: [world.day(n, version, change=moved("size", 0.5 * (n > 20))) for n in range(40)]
    )
    assert ("data_drift", "distribution", "size") in kinds(found)


def test_numbers_of_usual_tests_are_shown_and_page_nobody(world):
    """KS, PSI, chi-squared and adjusted p-values of each column stand in the findings."""
    found = judged(world, lambda version: [world.day(number, version) for number in range(20)])
    size = next(one for one in found.columns if one.name == "size")
    assert 0 < size.ks < 0.05 and 0 <= size.psi < 0.05 and 0 <= size.p_value <= size.p_adjusted <= 1
    assert found.performance.t_test.rows >= 1000


@pytest.mark.parametrize("share, alarms", [(0.02, 0), (0.2, 1)])
def test_a_rule_that_decides_far_more_rows_than_on_the_hold_out_is_named(world, share, alarms):
    """What decides, the model or a rule, is watched like a prediction, and shown among the columns."""
    world.trained.reference["deciders"] = {"shares": {"the model": 0.98, "block_stolen_card": 0.02}}

    def days(version):
        assert version.deciders.values == ["the model", "block_stolen_card"]
        found = [world.day(n, version) for n in range(30)]
        for n, day in enumerate(found):
            ruled = round(1000 * (0.02 if n < 20 else share))
            day.rows.deciders = Column(counts=[1000 - ruled, ruled, 0])
        return found

    found = judged(world, days)
    incidents = found.open_incidents()
    assert len(incidents) == alarms
    assert "prediction: what decides" in {one.name for one in found.distributions}
    for one in incidents:
        assert (one.kind, one.column) == ("prediction_drift", "prediction: what decides")
        assert one.words.startswith(
            (
                "share of rows decided by the model: 98.0% at release",
                "share of rows decided by block_stolen_card: 2.0% at release",
            )
        )


def test_days_that_were_counted_before_rules_were_say_nothing_of_them(world):
    """An older service counted no deciders: nothing is missed."""
    world.trained.reference["deciders"] = {"shares": {"the model": 0.5, "allow_all": 0.5}}
    assert not judged(world, lambda version: [world.day(n, version) for n in range(30)]).open_incidents()
