"""An experiment is counted by subject, day and variant, from the prediction log alone."""

import json
import os
import statistics
import subprocess
import sys

import msgspec
import psycopg
import pytest

from serving.experiment.count.log import count
from serving.experiment.count.records import Plan, Sums, plan_of
from serving.experiment.count.shadow import Sample, Waiting
from serving.log import stops
from serving.log.blocks import Source, frame_of
from serving.log.store import Store
from tests.serving.counts.logged import CLASSES, DAY, MONDAY
from tests.serving.postgres import postgres
from tests.serving.service import ROOT

pytestmark = pytest.mark.quick
SOURCES = {
    "A": Source("cars", "7", "new-data", "A"),
    "B": Source("cars", "8", "new-data", "B"),
    "": Source("cars", "7", "", ""),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL server."""
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request, tmp_path):
    """An empty log of each kind."""
    url = f"sqlite:///{tmp_path}/log.db"
    if request.param == "postgresql":
        _, _, url = request.getfixturevalue("server")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def sqlite(tmp_path):
    """An empty log in a file."""
    store = Store(f"sqlite:///{tmp_path}/log.db")
    yield store
    store.close()


def asked(log, variant, request_id, at, subject="anna", labels=("yes",), role="served", values=None, latency=2.0):
    """Log a request that a variant answered with these classes, or these values."""
    answers = [
        {"label": label, "class_id": CLASSES.index(label), "probabilities": {"no": 0.5, "yes": 0.5}} for label in labels
    ]
    if values is not None:
        answers = [{"value": value} for value in values]
    given = json.dumps(answers).encode()
    record = request_id, at, "shop", subject, role, len(answers), latency, b"[[1]]", given
    log.insert_block([frame_of([record])], SOURCES[variant])


def told(log, request_id, at, outcome="yes", row=0, value=None):
    """Log an outcome that came at a time; None where only its value came."""
    log.insert([], [(request_id, row, json.dumps(outcome), at, "shop", value)])


def plan(**more):
    """Count from Monday on, for four days."""
    return Plan(
        **{
            "model": "cars", "experiment": "new-data", "mode": "ab", "champion": "7", "challenger": "8", "since": float(MONDAY),
            "until": float(MONDAY + 4 * DAY), "outcome": "correct", "window": None,
        } | more
    )  # fmt: skip


def counted(log, **more):
    """The sums, through JSON as they are printed."""
    sums, _ = count(log, plan(**more))
    return msgspec.json.decode(msgspec.json.encode(sums), type=Sums)


def test_rows_of_a_subject_are_one_number_first(log):
    """Anna's three rows count as their mean; Ben's one row as much as all of hers."""
    asked(log, "A", "a1", MONDAY + 5, "anna", ["yes", "yes"])
    asked(log, "A", "a2", MONDAY + 6, "anna", ["no"])
    asked(log, "A", "b1", MONDAY + 7, "ben", ["yes"])
    for request_id, row in (("a1", 0), ("a2", 0), ("b1", 0)):
        told(log, request_id, MONDAY + 60, "yes", row)
    told(log, "a1", MONDAY + 60, "no", 1)
    arm = counted(log).days[0].a
    assert (arm.subjects, arm.requests, arm.rows, arm.outcomes, arm.measured) == (2, 3, 4, 4, 2)
    numbers = [1 / 3, 1]
    assert arm.mean == pytest.approx(statistics.mean(numbers))
    assert arm.squares == pytest.approx(statistics.variance(numbers))


def test_sums_of_a_day_hold_all_days_before_it(log):
    """A subject of Monday with an outcome of Tuesday is there on both days, and measured on the second."""
    asked(log, "A", "a", MONDAY + 5)
    told(log, "a", MONDAY + DAY + 5)
    asked(log, "B", "b", MONDAY + DAY + 9, "ben")
    days = counted(log).days
    assert [(day.day, day.number) for day in days[:2]] == [("2024-10-04", 1), ("2024-10-05", 2)] and len(days) == 4
    assert [(day.a.subjects, day.a.measured, day.b.subjects) for day in days] == [
        (1, 0, 0),
        (1, 1, 1),
        (1, 1, 1),
        (1, 1, 1),
    ]


def test_a_later_outcome_does_not_change_an_earlier_day(log):
    """What was known on Monday stays so: an outcome counts from the day on which it came."""
    for number in range(3):
        asked(log, "A", f"r{number}", MONDAY + number, f"s{number}")
    told(log, "r0", MONDAY + 9)
    before = counted(log, until=MONDAY + DAY).days
    told(log, "r1", MONDAY + DAY + 1, "no")
    told(log, "r0", MONDAY + DAY + 2, row=1)
    asked(log, "B", "later", MONDAY + DAY + 3, "s2")
    assert counted(log).days[0] == before[0]


def test_a_subject_of_both_variants_counts_until_it_has_crossed(log):
    """It is in neither variant from the day on which the second one answered it, and counted as left out."""
    asked(log, "A", "a", MONDAY + 5)
    told(log, "a", MONDAY + 6)
    asked(log, "B", "b", MONDAY + DAY + 5)
    told(log, "b", MONDAY + DAY + 6)
    sums = counted(log)
    assert [(day.a.subjects, day.a.measured, day.b.subjects) for day in sums.days[:2]] == [(1, 1, 0), (0, 0, 0)]
    assert sums.left_out.crossed == 1


def test_only_the_experiment_of_the_plan_is_counted(log):
    """Not delivery's own requests, those without a subject, those outside, and those before the phase."""
    asked(log, "A", "t", MONDAY, role="test")
    asked(log, "", "n", MONDAY, subject=None)
    asked(log, "", "o", MONDAY)
    asked(log, "A", "e", MONDAY - 1, "early")
    asked(log, "A", "u", MONDAY + 4 * DAY, "after")
    log.insert_block(
        [frame_of([("x", MONDAY + 1, "shop", "other", "served", 1, 1.0, b"[[1]]", b"[]")])], Source("bikes", "1")
    )
    asked(log, "A", "in", MONDAY + 1)
    sums = counted(log)
    assert sums.days[-1].a.subjects == sums.days[-1].a.requests == 1
    left = sums.left_out
    assert (left.tests, left.no_subject, left.outside) == (1, 1, 1)


def test_outcomes_that_are_not_counted_have_a_reason(sqlite):
    """Too late, of a row that was not asked, and of no request of the phase; an outcome of a class never is a number."""
    asked(sqlite, "A", "late", MONDAY + 5, "ben")
    told(sqlite, "late", MONDAY + DAY + 6)
    asked(sqlite, "A", "a", MONDAY + 5)
    told(sqlite, "a", MONDAY + 6, row=3)
    told(sqlite, "nobody", MONDAY + 6)
    asked(sqlite, "A", "odd", MONDAY + 5, "cora")
    told(sqlite, "odd", MONDAY + 7, 3.5)
    left = counted(sqlite, window=float(DAY)).left_out
    assert (left.late, left.unusable, left.unmatched) == (1, 2, 1)


def test_a_request_that_was_sent_twice_has_its_outcome_once(sqlite):
    """A caller that tries again sends the same id."""
    asked(sqlite, "A", "a", MONDAY + 5, "anna")
    asked(sqlite, "B", "a", MONDAY + 6, "ben")
    told(sqlite, "a", MONDAY + 9)
    sums = counted(sqlite)
    assert (sums.days[0].a.measured, sums.days[0].b.measured, sums.left_out.repeated) == (1, 0, 1)


def test_an_error_is_the_size_of_the_difference(sqlite):
    """Of a regression; less is better. A number beyond all measure is left out."""
    asked(sqlite, "A", "a", MONDAY, "anna", values=[3.0, 1.0])
    told(sqlite, "a", MONDAY + 1, 5.0)
    told(sqlite, "a", MONDAY + 1, 0, row=1)
    asked(sqlite, "A", "b", MONDAY, "ben", values=[1.0])
    told(sqlite, "b", MONDAY + 1, 1e200)
    sums = counted(sqlite, outcome="error")
    assert (sums.days[0].a.measured, sums.days[0].a.mean, sums.left_out.unusable) == (1, 1.5, 1)


def test_a_value_is_counted_as_it_was_sent(sqlite):
    """An outcome without a value says nothing here, and a value without an outcome nothing where classes are counted."""
    for number, (outcome, value) in enumerate([(None, 12.5), ("yes", 7.5), ("no", None)]):
        asked(sqlite, "A", f"r{number}", MONDAY, f"s{number}")
        told(sqlite, f"r{number}", MONDAY + 1, outcome, value=value)
    by_value, by_class = counted(sqlite, outcome="value").days[0].a, counted(sqlite).days[0].a
    assert (by_value.measured, by_value.mean) == (2, 10.0)
    assert (by_class.measured, by_class.mean) == (2, 0.5)


def test_a_clock_that_moved_backwards_breaks_nothing(sqlite):
    """An outcome that seems to be older than its request counts from the request's day on; requests may come in any order."""
    asked(sqlite, "A", "a", MONDAY + 2 * DAY, "anna")
    asked(sqlite, "A", "b", MONDAY + DAY, "ben")
    told(sqlite, "a", MONDAY + 10)
    told(sqlite, "b", MONDAY - 10)
    days = counted(sqlite).days
    assert [(day.a.subjects, day.a.measured) for day in days] == [(1, 0 + 1), (2, 2), (2, 2)]
    assert [day.number for day in days] == [2, 3, 4]


def test_failures_are_those_of_the_versions(log):
    """Requests without an answer, of both versions, since the day on which the phase began; a caller's mistake is none."""
    day = MONDAY // DAY
    log.add_refusals({("8", day, 500): 3, ("8", day + 1, 503): 1, ("8", day, 422): 9, ("8", day - 1, 500): 9})
    log.write([("UPDATE refusals SET model = ?", ["cars"])])
    assert counted(log).failures == {"7": 0, "8": 4}


def test_a_stop_is_found(log):
    """That of this model's experiment of this name, with its reason."""
    stops.keep(log, "vans", "new-data", stops.Stop(MONDAY + 1.0, "another model's"))
    assert counted(log).stop is None
    stops.keep(log, "cars", "new-data", stops.Stop(MONDAY + 7.0, "too slow"))
    assert counted(log).stop.reason == "too slow"


def test_a_value_has_a_time_of_its_own(sqlite):
    """A value that comes long after the outcome is late, and the outcome is not."""
    asked(sqlite, "A", "a", MONDAY, "anna")
    sqlite.insert([], [("a", 0, '"yes"', MONDAY + 9, "shop"), ("a", 0, "null", MONDAY + 2 * DAY, "shop", 5.0)])
    late = [counted(sqlite, outcome=outcome, window=float(DAY)).left_out.late for outcome in ("correct", "value")]
    assert late == [0, 1]


def test_times_are_those_of_each_variant(sqlite):
    """Median and 95th percentile, within 5 %."""
    for number in range(100):
        asked(sqlite, "A", f"a{number}", MONDAY + number, f"s{number}", latency=2.0 if number < 94 else 40.0)
    speed = counted(sqlite).speeds["A"]
    assert speed.median == pytest.approx(0.002, rel=0.05) and speed.p95 == pytest.approx(0.04, rel=0.05)


def test_no_row_gives_no_day(log):
    """An experiment that has just begun."""
    assert counted(log).days == []


def test_in_the_shadow_both_answers_to_a_row_are_a_pair(log):
    """Whichever of them is first in the log; the difference is B - A of each subject, a request without one being its own."""
    asked(log, "A", "r1", MONDAY + 5, "anna", ["yes", "no"])
    asked(log, "B", "r1", MONDAY + 6, "anna", ["yes", "yes"], role="shadow")
    asked(log, "B", "r2", MONDAY + 7, None, ["no"], role="shadow")
    asked(log, "A", "r2", MONDAY + 8, None, ["yes"])
    asked(log, "A", "r3", MONDAY + 9, "ben", ["yes"])
    for request_id, row in (("r1", 0), ("r1", 1), ("r2", 0), ("r3", 0)):
        told(log, request_id, MONDAY + 60, "yes", row)
    sums, pairs = count(log, plan(mode="shadow"))
    found, (day, *_) = list(pairs), sums.days
    assert (sums.shadow.rows, sums.shadow.same, sums.shadow.unanswered) == (3, 1, 1)
    assert (day.difference.measured, day.difference.mean) == (2, (0.5 - 1) / 2)
    assert (day.a.mean, day.b.mean) == (0.75, 0.5)
    assert (sums.paired, sums.pairs, len(found)) == (3, 3, 3)
    first = json.loads(msgspec.json.encode(next(pair for pair in found if json.loads(bytes(pair.a))["label"] == "no")))
    assert first["outcome"] == "yes" and first["b"]["label"] == "yes"


def test_in_the_shadow_outcomes_of_what_b_was_not_asked_are_counted_apart(sqlite, monkeypatch):
    """They are of this experiment, unlike outcomes of no request in the log; those of A's answers outside of it are neither."""
    from serving.experiment.count import log, shadow

    monkeypatch.setattr(shadow, "WAITING", 1200)  # two halves
    monkeypatch.setattr(log, "ASKED", 2)
    for number in range(6):
        asked(sqlite, "A", f"r{number}", MONDAY + number, f"s{number}")
        told(sqlite, f"r{number}", MONDAY + 60)
    asked(sqlite, "B", "r5", MONDAY + 5, "s5", role="shadow")
    asked(sqlite, "", "outside", MONDAY + 9)
    told(sqlite, "outside", MONDAY + 60)
    told(sqlite, "of nobody", MONDAY + 60)
    sums = counted(sqlite, mode="shadow")
    assert (sums.left_out.alone, sums.left_out.unmatched, sums.left_out.outside) == (5, 1, 1)
    assert (sums.shadow.rows, sums.shadow.unanswered, sums.days[0].difference.measured) == (1, 5, 1)


def test_in_the_shadow_rounding_is_no_difference(sqlite):
    """The same model in another format would be better or worse in the ninth digit, and quite surely."""
    for number, more in enumerate((1e-9, 2e-9, 1e-9)):
        asked(sqlite, "A", f"r{number}", MONDAY, f"s{number}", values=[5.0])
        asked(sqlite, "B", f"r{number}", MONDAY, f"s{number}", values=[5.0 + more], role="shadow")
        told(sqlite, f"r{number}", MONDAY + 60, 7.0)
    found = counted(sqlite, mode="shadow", outcome="error").days[0].difference
    assert (found.measured, found.mean, found.squares) == (3, 0.0, 0.0)


@pytest.mark.parametrize("mode", ["ab", "shadow"])
def test_answers_of_other_versions_are_outside(sqlite, mode, monkeypatch):
    """Whatever experiment they name."""
    monkeypatch.setitem(SOURCES, "older", Source("cars", "6", "new-data", "A"))
    asked(sqlite, "older", "r1", MONDAY, "anna")
    asked(sqlite, "A", "r2", MONDAY, "ben")
    sums = counted(sqlite, mode=mode)
    assert sums.days[0].a.requests == 1 and sums.left_out.outside == 1


def test_in_the_shadow_numbers_are_compared_by_their_size(sqlite):
    """The same to the last digits or not, and how far apart."""
    asked(sqlite, "A", "r", MONDAY, values=[1.0, 2.0])
    asked(sqlite, "B", "r", MONDAY + 1, values=[1.0, 5.0], role="shadow")
    shadow = counted(sqlite, mode="shadow", outcome="error").shadow
    assert (shadow.rows, shadow.same, shadow.difference) == (2, 1, 3.0)


def test_the_sample_of_pairs_is_bounded_and_does_not_depend_on_the_order():
    """Those with the smallest hashes are kept."""
    orders = range(50), reversed(range(50))
    kept = []
    for order in orders:
        sample = Sample(most=10)
        for number in order:
            sample.add(f"r{number}", 0, number, '"yes"', b"{}", b"{}")
        kept.append([pair.subject for pair in sample.pairs()])
    assert kept[0] == kept[1] and len(kept[0]) == 10 and sample.seen == 50


def test_halves_that_wait_take_bounded_memory(monkeypatch):
    """The oldest goes."""
    from serving.experiment.count import shadow

    monkeypatch.setattr(shadow, "WAITING", 1500)
    waiting = Waiting()
    for number in range(4):
        waiting.keep(shadow.Half(str(number), 0.0, None, 1, b"[]"))
    assert waiting.take("0") is None and waiting.take("3") is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"{", "cannot be read"),
        (msgspec.json.encode(plan(mode="shadow", outcome="value")), "nobody met the challenger's answers"),
    ],
)
def test_a_plan_that_cannot_be_counted_is_refused_in_words(given, said):
    """What is no plan, and what mode shadow cannot tell."""
    with pytest.raises(ValueError, match=said):
        plan_of(given)


def test_the_command_prints_sums_and_then_pairs(sqlite, tmp_path):
    """A JSON object per line; without a plan one line of words."""
    asked(sqlite, "A", "r", MONDAY, "anna")
    asked(sqlite, "B", "r", MONDAY + 1, "anna", role="shadow")
    told(sqlite, "r", MONDAY + 2)
    command = [sys.executable, "-m", "serving.experiment.count"]
    environment = os.environ | {"SLIPWAY_DATABASE_URL": f"sqlite:///{tmp_path}/log.db"}
    given = msgspec.json.encode(plan(mode="shadow"))
    ran = subprocess.run(command, input=given, cwd=ROOT, env=environment, capture_output=True, check=True)
    first, pair = ran.stdout.splitlines()
    assert msgspec.json.decode(first, type=Sums).pairs == 1 and json.loads(pair)["outcome"] == "yes"
    ran = subprocess.run(command, input=b"", cwd=ROOT, env=environment, capture_output=True)
    assert ran.returncode == 1 and ran.stderr.startswith(b"error: the plan") and ran.stderr.count(b"\n") == 1
