"""The prediction log is counted by day and version, in sums that outlive the rows."""

import json
import os
import subprocess
import sys

import msgspec
import psycopg
import pytest

from serving.counts import table
from serving.counts.log import count_log
from serving.counts.records import DELAYS, LARGEST, Bins, Column, Day
from serving.log.blocks import Prediction, Source, frame_of
from serving.log.identity import identity
from serving.log.store import StoreError
from tests.serving.counts.logged import DAY, MONDAY, asked, plan, store, told
from tests.serving.log.old_log import write_old
from tests.serving.postgres import postgres
from tests.serving.service import ROOT

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A PostgreSQL server."""
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    _, _, url = request.getfixturevalue("server")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return url


def counted(log, what=None):
    """The days after counting, by date and version."""
    count_log(log, what or plan())
    return {(day.day, day.version): day for day in table.read(log, "cars")}


def only(days):
    """The one day with rows."""
    (day,) = [day for (_, version), day in days.items() if version]
    return day


def test_rows_are_counted_into_the_bins_of_the_reference(url):
    """Numbers between edges, texts by value, empty cells apart; beyond what training saw is counted, too."""
    log = store(url)
    rows = [[0.5, True, "red"], [1.0, 0, "blue"], [12, False, "green"], [None, True, ""]]
    log.insert([asked("a", MONDAY + 5, rows, [0.2, 0.6, 0.7, 0.9])])
    day = only(counted(log))
    assert (day.day, day.version, day.requests, day.rows.rows) == ("2024-10-04", "1", 1, 4)
    assert day.rows.features["age"] == Column(
        counts=[1, 1, 1], missing=1, outside=1, total=-1.25 - 1 + 4.5, squares=1.25**2 + 1 + 4.5**2
    )
    assert day.rows.features["used"].counts == [2, 2]
    assert day.rows.features["colour"] == Column(counts=[1, 2], missing=1, unseen=1)
    assert day.rows.prediction["yes"].counts == [1, 3] and day.rows.labels == {"no": 1, "yes": 3}
    assert day.rows.expected_correct == pytest.approx(0.8 + 0.6 + 0.7 + 0.9)
    assert day.rows.callers == {"shop": 4}


def test_what_decided_each_row_is_counted_for_a_model_with_rules(url):
    """The model, or a rule by its name; for a model without rules nothing is counted."""
    log, what = store(url), plan()
    first = asked("a", MONDAY + 5, [[1, True, "red"]] * 3, [0.2, 1.0, 1.0])
    answers = json.loads(first[-1])
    answers[1]["rule"] = answers[2]["rule"] = "block_stolen_card"
    log.insert([(*first[:-1], json.dumps(answers).encode()), asked("b", MONDAY + 6, [[2, True, "red"]], [0.3])])
    assert only(counted(log, what)).rows.deciders is None
    ruled = msgspec.structs.replace(
        what.versions["1"], deciders=Bins(values=["the model", "allow", "block_stolen_card"])
    )
    log.insert([asked("c", MONDAY + 7, [[2, True, "red"]], [0.3])])
    assert only(counted(log, msgspec.structs.replace(what, versions={"1": ruled}))).rows.deciders == Column(
        counts=[3, 0, 2, 0]
    )


def test_requests_of_delivery_are_counted_apart(url):
    """A request with the role test is in the number of tests, and in no other figure."""
    log = store(url)
    log.insert(
        [asked("a", MONDAY, [[1, True, "red"]], [0.9]), asked("b", MONDAY, [[1, True, "red"]], [0.9], role="test")]
    )
    log.insert([], [told("b", MONDAY + 9, "no")])
    day = only(counted(log))
    assert (day.requests, day.tests, day.rows.requests, day.outcomes.rows) == (2, 1, 1, 0)


def test_days_end_at_midnight_in_utc(url):
    """A block that was begun before midnight and ended after it belongs to two days."""
    log = store(url)
    log.insert(
        [
            asked("a", MONDAY + DAY - 1, [[1, True, "red"]], [0.9]),
            asked("b", MONDAY + DAY, [[1, True, "red"]] * 2, [0.9] * 2),
        ]
    )
    days = counted(log)
    assert [day.rows.rows for day in days.values()] == [1, 2]


def test_outcomes_are_joined_by_request_and_row(url):
    """In time, late, repeated, unknown and of no request: each is counted as what it is."""
    log = store(url)
    log.insert(
        [
            asked("a", MONDAY, [[1, True, "red"], [6, True, "blue"]], [0.9, 0.8]),
            asked("b", MONDAY + 1, [[1, True, "red"]], [0.3]),
        ]
    )
    log.insert(
        [], [told("a", MONDAY + 3600, "yes"), told("a", MONDAY + 60, "no", row=1), told("b", MONDAY + 8 * DAY, "no")]
    )
    log.insert([], [told("a", MONDAY + 7200, "yes")])  # once more
    log.insert([], [told("nobody", MONDAY + 5, "yes"), told("a", MONDAY + 5, "yes", row=2)])
    days = counted(log)
    day = days["2024-10-04", "1"]
    found = day.outcomes
    assert (found.rows, found.late, found.repeated, found.unknown, found.wrong) == (2, 1, 1, 1, 1)
    assert found.confusion == [[0, 1], [0, 1]]
    assert found.target.counts == [1, 1, 0]
    assert sum(found.scores) == 2 and sum(found.positives) == 1 and found.positives[90] == 1
    assert found.delay[DELAYS.index(60)] == 1 and found.delay[DELAYS.index(3 * 3600)] == 1
    assert {label: (part.rows, part.wrong) for label, part in found.slices.items()} == {
        "age < 5": (1, 0),
        "5 ≤ age": (1, 1),
        "used = true": (2, 1),
        "colour = red": (1, 0),
    }
    assert days["2024-10-04", ""].orphaned == 1


def test_outcome_from_before_its_request_is_joined(url):
    """The clocks of two machines differ: such an outcome counts, and its delay is none."""
    log = store(url)
    log.insert([asked("a", MONDAY + 100, [[1, True, "red"]], [0.9])], [told("a", MONDAY + 90, "yes")])
    found = only(counted(log)).outcomes
    assert (found.rows, found.delay[0]) == (1, 1)


@pytest.mark.parametrize("outcome", ["maybe", 3, True, [1]])
def test_outcome_of_an_unknown_class_is_counted_as_unknown(url, outcome):
    """What is no class of the model is in no metric."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])], [told("a", MONDAY + 9, outcome)])
    found = only(counted(log)).outcomes
    assert (found.rows, found.unknown) == (0, 1)


def test_rows_of_a_challenger_are_counted_in_total_only(url):
    """What the challenger of an experiment answered is in no sum of its version, and its outcomes are orphans of nobody."""
    log = store(url)
    ours, theirs = (Source("cars", number, "colours", variant) for number, variant in (("1", "A"), ("2", "B")))
    log.insert_block([frame_of([Prediction(*asked("a", MONDAY, [[1, True, "red"]], [0.9]))])], ours)
    rows = [Prediction(*asked("b", MONDAY, [[1, True, "red"]] * 2, [0.9] * 2))]
    shadow = [Prediction(*asked("a", MONDAY, [[1, True, "red"]], [0.1], role="shadow"))]
    log.insert_block([frame_of(rows)], theirs)
    log.insert_block([frame_of(shadow)], theirs)
    log.insert([], [told("a", MONDAY + 9, "yes"), told("b", MONDAY + 9, "yes", row=1)])
    days = {day.version: day for day in counted(log, plan("1", "2")).values()}
    assert (days["1"].rows.rows, days["1"].outcomes.rows, days["1"].challenged) == (1, 1, 0)
    assert (days["2"].requests, days["2"].asked, days["2"].rows.rows, days["2"].challenged) == (0, 0, 0, 2)
    assert days["2"].outcomes.rows == 0 and not days[""].orphaned


def test_a_value_alone_is_no_outcome(url):
    """What an experiment measures by may be known long before the outcome: it is in no metric, and not unknown either."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])], [(*told("a", MONDAY + 9, None), 12.5)])
    found = only(counted(log)).outcomes
    assert (found.rows, found.unknown, found.late, found.repeated) == (0, 0, 0, 0)


def test_a_repeated_request_id_is_counted(url):
    """Of two requests with one id the first has the outcomes, and the second is counted as repeated."""
    log = store(url)
    log.insert([asked("a", MONDAY + at, [[1, True, "red"]], [0.9]) for at in (0, 60)], [told("a", MONDAY + 90, "yes")])
    day = only(counted(log))
    assert (day.rows.requests, day.rows.repeated, day.outcomes.rows) == (2, 1, 1)


def test_regression_counts_errors_and_surprises(tmp_path):
    """The loss is the absolute error; a surprise is one beyond the limit of its prediction's bin."""
    log = store(f"sqlite:///{tmp_path}/log.db")
    rows = [[1, True, "red"]] * 3
    given = json.dumps([{"value": value} for value in (2.0, 6.0, 3.0)]).encode()
    log.insert([("a", MONDAY, "shop", None, "served", 3, 0.1, json.dumps(rows).encode(), given)])
    log.insert([], [told("a", MONDAY + 1, value, row=row) for row, value in enumerate((2.5, 8.0, 4.5))])
    day = only(counted(log, plan(task="regression")))
    assert day.outcomes.loss.counts == [0, 2, 1] and day.outcomes.surprises == 1
    assert day.outcomes.loss_sum == pytest.approx(0.5 + 2 + 1.5) and day.rows.labels == {}


def test_counting_again_changes_nothing(url):
    """A second run counts no day again, and two runs at once leave the same."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])], [told("a", MONDAY + 9, "yes")])
    first = counted(log)
    written = []
    log.write, write = lambda statements: written.extend(statements) or write(written), log.write
    assert counted(log) == first
    assert [statement for statement, _ in written if statement.startswith("INSERT")] == []


def test_database_that_goes_away_leaves_whole_days(server):
    """What was counted before stays, no day is half there, and the next run does the rest."""
    start, stop, url = server
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    log = store(url, model="vans")
    for day in range(3):
        log.insert([asked("a", MONDAY + day * DAY, [[1, True, "red"]], [0.9])])
    what, write, written = msgspec.structs.replace(plan(), model="vans"), log.write, []

    def once(statements):
        write(statements)
        written.extend(statement for statement, _ in statements if statement.startswith("INSERT"))
        if len(written) == 1:
            stop()

    log.write = once
    with pytest.raises(StoreError):
        count_log(log, what)
    start()
    log = store(url, model="vans")
    assert [day.day for day in table.read(log, "vans")] == ["2024-10-04"]
    count_log(log, what)
    assert [day.rows.rows for day in table.read(log, "vans")] == [1, 1, 1]


def test_late_rows_and_outcomes_are_added(url):
    """A day is counted again when something came since: a record that waited for its database, or an outcome."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])])
    assert only(counted(log)).outcomes.rows == 0
    log.insert([asked("b", MONDAY + 7, [[1, True, "red"]], [0.9])], [told("a", MONDAY + DAY, "yes")])
    day = only(counted(log))
    assert (day.rows.rows, day.outcomes.rows) == (2, 1)


def test_counts_outlive_the_rows(url):
    """Retention deletes rows; what was counted of them stays, and nothing in it names a request, a subject or a value."""
    log = store(url)
    rows = [[3.25, True, "secret colour"]]
    log.insert([asked("request-1", MONDAY, rows, [0.9])])
    log.insert([asked("b", MONDAY + 30 * DAY, rows, [0.9])])
    before = counted(log)
    log.delete_older(MONDAY + DAY)
    assert counted(log) == before and len(before) == 2
    text = b"".join(msgspec.json.encode(day) for day in before.values())
    assert not [word for word in (b"request-1", b"subject-hash", b"secret colour", b"3.25") if word in text]


def test_a_forgotten_subject_is_in_no_count(url):
    """After a subject's rows were deleted, the day is counted again without them."""
    log = store(url)
    rows = [[1, True, "red"]]
    log.insert(
        [asked("a", MONDAY, rows, [0.9]), asked("b", MONDAY + DAY, rows * 2, [0.9] * 2, subject=identity("anna"))]
    )
    log.insert([asked("c", MONDAY + DAY, rows, [0.9])])
    assert [day.rows.rows for day in counted(log).values()] == [1, 3]
    log.delete_subject("anna")
    assert [day.rows.rows for day in counted(log).values()] == [1, 1]


def test_a_request_in_the_place_of_a_forgotten_one_is_counted(url):
    """SQLite gives its block the number of the deleted one, and the day has as many requests as before."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9], subject=identity("anna"))])
    counted(log)
    log.delete_subject("anna")
    log.insert([asked("b", MONDAY + 5, [[1, True, "red"]] * 2, [0.9] * 2)])
    assert only(counted(log)).rows.rows == 2


def test_version_without_a_plan_is_counted_in_total(url):
    """Rows of a version whose bundle is gone are a number; those of another model are not even that."""
    store(url, "2").insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])])
    store(url, "1", "trucks").insert([asked("b", MONDAY, [[1, True, "red"]], [0.9])])
    log = store(url)
    log.insert([], [told("b", MONDAY + 1, "yes")])
    day = only(counted(log))
    assert (day.version, day.requests, day.rows) == ("2", 1, None)
    assert not any(one.orphaned for one in table.read(log, "cars"))
    assert table.overview(log).models == {"cars": 1, "trucks": 1}


@pytest.mark.parametrize("features", [b"[[1, true]]", b'[["x", true, "red"]]', b"[[1, true, 5]]", b"nonsense", b"[]"])
def test_rows_that_do_not_fit_the_contract_are_counted_as_unreadable(tmp_path, features):
    """One odd record spoils no other one."""
    log = store(f"sqlite:///{tmp_path}/log.db")
    odd = (
        *asked("odd", MONDAY, [[1, True, "red"]], [0.9])[:7],
        features,
        b'[{"probabilities": {"no": 0.1, "yes": 0.9}}]',
    )
    log.insert(
        [asked("a", MONDAY, [[1, True, "red"]], [0.9]), odd],
        [told("odd", MONDAY + 1, "yes"), told("a", MONDAY + 1, "yes")],
    )
    day = only(counted(log))
    assert (day.rows.rows, day.rows.unreadable, day.outcomes.rows) == (1, 1, 1)


def test_a_hundred_thousand_values_take_no_room(tmp_path):
    """A column of text is counted by the values of its reference and all others, however many there are."""
    log = store(f"sqlite:///{tmp_path}/log.db")
    for part in range(10):
        rows = [[1, True, f"colour {part}-{number}"] for number in range(10_000)]
        log.insert([asked(f"r{part}", MONDAY, rows, [0.9] * len(rows))])
    column = only(counted(log)).rows.features["colour"]
    assert (column.counts, column.unseen) == ([0, 100_000], 100_000)


def test_refused_requests_are_in_the_day(url):
    """The statuses of refused requests come with the day's counts, also of a day on which nothing else was asked."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])])
    log.add_refusals({("1", 20_000, 422): 3, ("1", 20_001, 429): 1})
    days = counted(log)
    assert days["2024-10-04", "1"].refused == {"422": 3} and days["2024-10-05", "1"].refused == {"429": 1}


def command(given: bytes, database: str):
    """The counter as a command."""
    environment = {**os.environ, "SLIPWAY_DATABASE_URL": database, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "serving.counts"], input=given, env=environment, capture_output=True)


def test_command_prints_the_log_and_its_days(tmp_path):
    """A JSON object per line: what is in the log, then each day."""
    url = f"sqlite:///{tmp_path}/log.db"
    store(url).insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])])
    done = command(msgspec.json.encode(plan()), url)
    log, day = map(json.loads, done.stdout.splitlines())
    assert (log["models"], log["first"], day["day"], day["rows"]["rows"]) == ({"cars": 1}, MONDAY, "2024-10-04", 1)


@pytest.mark.parametrize(
    ("given", "database", "said"),
    [
        (
            b"{}",
            "sqlite:////tmp/nowhere.db",
            "the plan of what to count cannot be read: Object missing required field `model`",
        ),
        (b"\xff", "sqlite:////tmp/nowhere.db", "the plan of what to count cannot be read"),
        (None, "", "SLIPWAY_DATABASE_URL is not set"),
        (None, "mysql://u:hunter2@x/y", "is neither sqlite:///PATH nor postgresql"),
        (None, "sqlite:////tmp/nowhere/mistyped.db", "/tmp/nowhere/mistyped.db: No such file or directory"),
        (None, "postgresql://u:hunter2@127.0.0.1:9/x", "refused"),
        (None, "sqlite:////proc/nowhere/log.db", "No such file or directory"),
    ],
)
def test_command_says_what_is_wrong_in_one_line(given, database, said):
    """No traceback, no password, nothing on standard output, status 1."""
    done = command(msgspec.json.encode(plan()) if given is None else given, database)
    words = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b"") and words.startswith("error: ") and words.count("\n") == 1
    assert said in words and "hunter2" not in words


@pytest.mark.parametrize("outcome", [1e200, 1.7e308, -1.7e308])
def test_an_absurd_outcome_spoils_no_sum(tmp_path, outcome):
    """The service takes any finite number; what is far beyond the target's values is limited, and the next reading works."""
    log = store(f"sqlite:///{tmp_path}/log.db")
    answer = json.dumps([{"value": -1e308}]).encode()
    log.insert([("a", MONDAY, "shop", None, "served", 1, 0.1, b'[[1, true, "red"]]', answer)])
    log.insert([], [told("a", MONDAY + 1, outcome)])
    found = only(counted(log, plan(task="regression"))).outcomes
    assert (found.rows, found.surprises) == (1, 1) and found.loss_sum == 2.0 * LARGEST  # the target's scale is 2


@pytest.mark.parametrize(("outcome", "value"), [("1" + "0" * 400, b"1"), ("1", b"null")])
def test_what_is_no_finite_number_is_in_no_sum(tmp_path, outcome, value):
    """An integer that no float holds is an unknown outcome; an answer without a value is unreadable."""
    log = store(f"sqlite:///{tmp_path}/log.db")
    log.insert([("a", MONDAY, "shop", None, "served", 1, 0.1, b'[[1, true, "red"]]', b'[{"value": %b}]' % value)])
    log.insert([], [("a", 0, outcome, MONDAY + 1, "shop")])
    day = only(counted(log, plan(task="regression")))
    assert (day.outcomes.rows, day.outcomes.unknown + day.rows.unreadable) == (0, 1)


def test_records_of_older_services_are_counted(url):
    """Also where nothing has moved them yet, because no newer service serves."""
    store(url)
    write_old(url, [("a", MONDAY + 1.0, None, "1")])
    assert only(counted(store(url))).requests == 1


def test_orphans_are_right_after_a_run_that_was_killed(url, monkeypatch):
    """What found its request is kept with the day, so the next run need not count it again."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])], [told("a", MONDAY + 9, "yes")])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("serving.counts.log.note_orphans", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        count_log(log, plan())
    assert counted(log)["2024-10-04", ""].orphaned == 0


def test_retention_makes_no_orphans(url):
    """Of the oldest day requests go with their outcomes, some before others: what was counted of it stays."""
    log = store(url)
    for name, at in (("a", 5), ("b", 500), ("c", DAY)):
        log.insert([asked(name, MONDAY + at, [[1, True, "red"]], [0.9])], [told(name, MONDAY + at + 9, "yes")])
    before = counted(log)
    log.delete_older(MONDAY + 100)
    assert counted(log) == before


def test_a_damaged_count_is_named(url):
    """The message says which row of which table, and what to do."""
    log = store(url)
    log.insert([asked("a", MONDAY, [[1, True, "red"]], [0.9])])
    counted(log)
    log.write([("UPDATE daily_counts SET counts = ? WHERE model_version = '1'", [b"nonsense"])])
    with pytest.raises(
        StoreError, match=r"day 20000 of version '1' in the table daily_counts is damaged.*delete that row"
    ):
        counted(log)


def test_days_are_written_in_order(tmp_path, monkeypatch):
    """Two monitors at once lock the rows of PostgreSQL in the same order, so that neither waits for the other for ever."""
    log, written = store(f"sqlite:///{tmp_path}/log.db"), []
    monkeypatch.setattr(log, "write", written.extend)
    keys = [(2, "1"), (1, "2"), (1, "1")]
    table.write(log, plan(), {key: (table.Found(1, ""), Day(day="", version="")) for key in keys})
    assert [(day, version) for _, (day, _, version, *_) in written] == sorted(keys)


def test_bad_clock_is_said_in_one_line(tmp_path, monkeypatch):
    """As is what is wrong with the database."""
    monkeypatch.setenv("SLIPWAY_LOG_CLOCK", "noon")
    url = f"sqlite:///{tmp_path}/log.db"
    store(url).close()
    done = command(msgspec.json.encode(plan()), url)
    words = done.stderr.decode()
    assert done.returncode == 1 and words.startswith("error: SLIPWAY_LOG_CLOCK is 'noon'") and words.count("\n") == 1
