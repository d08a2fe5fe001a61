"""The callers of a drill: rows of the data, changed as asked."""

import dataclasses
import time
from argparse import ArgumentTypeError
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from delivery.drill import traffic
from delivery.drill.traffic import Change, Traffic, changed, column_and_number, known, least_related, positive
from pipeline.artifacts import ROOT
from pipeline.data.dataset import load_dataset
from pipeline.errors import SettingsError
from pipeline.processes import free_port
from pipeline.settings import load_settings
from scripts import traffic as verb

pytestmark = pytest.mark.quick
ROWS = np.arange(200)


@pytest.fixture
def verb_at_nothing(monkeypatch):
    """The verb's target serves at a port at which nothing listens."""
    url = f"http://127.0.0.1:{free_port()}"
    target = SimpleNamespace(serving=lambda *_: "something", reach=lambda *_: nullcontext(url), key=lambda *_: "")
    monkeypatch.setattr(verb.targets, "choose", lambda settings: target)


@pytest.fixture(scope="module")
def dataset():
    """The example's data."""
    return load_dataset(load_settings(ROOT / "pipeline.toml"))


def rows(dataset, change: Change):
    """The rows in a world with that change."""
    return changed(dataset, ROWS, change, np.random.default_rng(0))


def test_without_a_change_rows_are_those_of_the_data(dataset):
    """Features and outcomes are the data's own."""
    features, outcomes = rows(dataset, Change())
    assert features.equals(dataset.features.iloc[ROWS].reset_index(drop=True))
    assert outcomes == dataset.target[ROWS].tolist()


def test_a_column_is_moved_by_standard_deviations(dataset):
    """The others stay where they are."""
    before, _ = rows(dataset, Change())
    after, _ = rows(dataset, Change(shift={"mean_radius": 0.5}))
    moved = (after - before).mean()
    assert moved["mean_radius"] == pytest.approx(0.5 * dataset.features["mean_radius"].std(ddof=0))
    assert moved.drop("mean_radius").abs().max() == 0


def test_a_share_of_the_cells_is_emptied(dataset):
    """About as many as asked, in that column alone."""
    features, _ = rows(dataset, Change(missing={"mean_area": 0.3}))
    assert (
        0.2 < features["mean_area"].isna().mean() < 0.4
        and features.isna().sum().sum() == features["mean_area"].isna().sum()
    )


def test_another_relation_follows_the_column_that_said_least(dataset):
    """The outcome is then a function of that column alone, with every class in it."""
    _, outcomes = rows(dataset, Change(relation=True))
    column = dataset.features[least_related(dataset)].to_numpy()[ROWS]
    upper = column[np.array(outcomes) == dataset.classes[1]]
    lower = column[np.array(outcomes) == dataset.classes[0]]
    assert len(upper) and len(lower) and lower.max() <= upper.min()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change(shift={"mean_radios": 1}), "has no column 'mean_radios'"),
        (Change(missing={"nothing": 1}), "has no column 'nothing'"),
        (Change(missing={"mean_area": 1.5}), "1.5 is no share"),
    ],
)
def test_impossible_change_is_refused(dataset, change, said):
    """A column that is not there, or a share above all."""
    with pytest.raises(SettingsError, match=said):
        known(dataset, change)


@pytest.mark.parametrize(("rows_asked", "sizes"), [(25, [20, 5]), (20, [20]), (3, [3])])
def test_as_many_rows_are_asked_as_are_due(dataset, monkeypatch, rows_asked, sizes):
    """In requests of a few rows, the last of which has the rest."""
    asked, times = [], iter([0.0, 1.0])

    def ask(self, number, now):
        asked.append(number)
        self._end.set()

    monkeypatch.setattr(Traffic, "_ask", ask)
    monkeypatch.setattr(traffic, "TICK", 0)
    Traffic("", "", dataset, rows_asked * traffic.DAY, 1.0, lambda: next(times))._run()
    assert asked == sizes


def test_callers_that_end_by_themselves_are_noticed(dataset, monkeypatch):
    """An error in their thread reaches whoever stops them."""
    monkeypatch.setattr(Traffic, "_run", lambda self: 1 / 0)
    callers = Traffic("", "", dataset, 1, 1.0, time.time)
    callers.start()
    with pytest.raises(ZeroDivisionError):
        callers.stop()


@pytest.mark.parametrize("body", [b"<html>", b'{"predictions": []}', b"[]"])
def test_an_answer_of_something_else_is_a_failure(dataset, monkeypatch, body):
    """What serves there is no model: it is counted, and the callers go on."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, body
    callers = Traffic("http://nowhere", "", dataset, 1, 1.0, time.time)
    monkeypatch.setattr(callers._session, "post", lambda *_, **__: answer)
    callers._ask(1, 0.0)
    assert (callers.counts.rows, callers.counts.failed) == (0, 1)


@pytest.mark.parametrize("answered", [True, False])
def test_the_first_request_that_goes_wrong_says_why(dataset, monkeypatch, answered):
    """With the words of the service, or those of the connection; they cannot draw on the terminal."""
    answer = requests.Response()
    answer.status_code, answer._content = 422, b"row 0: 'mean_area': null\x1b[1m"
    callers = Traffic("http://nowhere", "", dataset, 1, 1.0, time.time)

    def post(*_, **__):
        if not answered:
            raise requests.ConnectionError("row 0: null\x1b[1m")
        return answer

    monkeypatch.setattr(callers._session, "post", post)
    callers._ask(1, 0.0)
    said = str(callers.counts)
    assert "; the first: /predict/batch" in said and "null" in said and "\x1b" not in said
    assert not answered or "answered 422" in said


def test_outcomes_that_are_not_due_are_known(dataset, monkeypatch):
    """Who stops the callers hears of them."""
    answer = requests.Response()
    answer.status_code, answer._content = 200, b'{"request_id": "r"}'
    callers = Traffic("http://nowhere", "", dataset, 1, 1.0, time.time)
    monkeypatch.setattr(callers._session, "post", lambda *_, **__: answer)
    callers._ask(3, 0.0)
    assert callers.waiting == 3


def test_data_without_numbers_has_no_other_relation(dataset):
    """The outcomes could follow no column: the message says so."""
    texts = dataclasses.replace(dataset, kinds=dict.fromkeys(dataset.kinds, "text"))
    with pytest.raises(SettingsError, match="has no column of numbers"):
        known(texts, Change(relation=True))


@pytest.mark.parametrize("given", ["a", "a=", "=1", "a=nan", "a=inf"])
def test_what_is_no_column_and_number_is_refused(given):
    """A finite number belongs behind a name."""
    with pytest.raises(ArgumentTypeError, match="COLUMN=NUMBER"):
        column_and_number(given)


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "many"])
def test_amounts_are_positive(given):
    """Rows a day, seconds and delays."""
    with pytest.raises(ArgumentTypeError, match="a number above 0"):
        positive(given)


def test_column_and_number_are_read_from_one_word():
    """The last sign of equality divides them."""
    assert column_and_number("a=b=0.5") == ("a=b", 0.5)


def test_a_clock_that_is_none_is_said(verb_at_nothing, monkeypatch, capsys):
    """SLIPWAY_LOG_CLOCK is read by the callers' thread; the verb says what is wrong with it."""
    monkeypatch.setenv("SLIPWAY_LOG_CLOCK", "noon")
    assert verb.main(["--seconds", "9"]) == 1
    assert "SLIPWAY_LOG_CLOCK is 'noon'" in capsys.readouterr().err


def test_traffic_that_nobody_answers_is_an_error(verb_at_nothing, capsys):
    """The verb says how many requests failed, and its status is not 0."""
    assert verb.main(["--rows-a-day", "8640000", "--seconds", "0.5"]) == 1
    assert "no request was answered: 0 rows" in capsys.readouterr().err
