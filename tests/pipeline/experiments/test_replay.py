"""A replay: which rows are asked, what is said of them, and that a run which is killed and begun again gives what one run gives."""

import math
from contextlib import closing

import msgspec
import numpy as np
import pytest

from pipeline.errors import StageError
from pipeline.experiments.replay import page, result, run, scoring, state
from pipeline.experiments.replay.result import Replay
from serving.log.store import Store
from serving.model.contract import Contract
from tests.pipeline.experiments.replayed import challenger, fill, log_of, scored, settings, started
from tests.serving.counts.logged import DAY, MONDAY


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A binary classifier as version 4."""
    return challenger(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def url(tmp_path, monkeypatch, model):
    """A log with 60 rows of callers; replays keep what they have done in a folder of this test."""
    monkeypatch.setattr(state, "FOLDER", tmp_path / "replay")
    monkeypatch.setattr(run, "BUILD", tmp_path)
    monkeypatch.setattr(state, "STRETCH", 15)
    url = f"sqlite:///{tmp_path}/log.db"
    fill(url, model)
    return url


def without_time(found: Replay) -> Replay:
    """A result but for how long it took, and how much of it was asked in this run."""
    return msgspec.structs.replace(found, seconds=0.0, scored=0)


# --- what is asked ---


def test_every_row_of_callers_is_answered_by_the_other_model(url, model):
    """As the service itself would answer it, beside what production answered and what was reported."""
    rows = scored(url, model, {"3": model.contract})
    assert len(rows) == 60 and set(rows.version) == {"3"}
    assert int((~np.isnan(rows.outcome)).sum()) == 30 and len(np.unique(rows.subject)) == 20
    alone = scoring.ask(model, [model.contract.example_row])
    assert rows.b.shape == rows.a.shape == (60, alone.shape[1]) and np.allclose(rows.b.sum(axis=1), 1)


def test_other_roles_and_what_comes_again_count_once_or_never(url, model):
    """Delivery's own tests and a shadow's answers were no answers of production; a request that is sent again is one."""
    fill(url, model, requests=3, role="test", name="own")
    fill(url, model, requests=3, role="shadow", name="r")
    fill(url, model, requests=3, name="r")
    rows = scored(url, model, {"3": model.contract})
    assert len(rows) == 60 and rows.counts.left_out == {"repeated request": 3}


def test_features_are_found_by_name(url, model, tmp_path):
    """A model with the same features in another order answers the same; one whose rows lack a feature is left out."""
    names = list(model.contract.names)
    plain = msgspec.to_builtins(model.contract)
    turned = msgspec.convert(plain | {"inputs": plain["inputs"][::-1]}, Contract)
    assert scoring.order(model.contract, turned) == list(range(len(names)))[::-1]
    fewer = msgspec.convert(plain | {"inputs": plain["inputs"][1:]}, Contract)
    rows = scored(url, model, {"3": fewer})
    assert rows.counts.left_out == {"of a version without a feature that is needed": 60} and not len(rows)
    other = [{**column, "name": column["name"] + "-new"} for column in plain["inputs"]]
    with pytest.raises(StageError, match=f"version 4 needs features .* lack: {names[0]}"):
        run.refuse_other_question(model, msgspec.convert(plain | {"inputs": other}, Contract), "production")


def test_other_classes_are_another_question(model):
    """The replay says so and stops."""
    plain = msgspec.to_builtins(model.contract)
    other = msgspec.convert(plain | {"classes": ["x", "y"], "positive": "y"}, Contract)
    with pytest.raises(StageError, match="answers another question"):
        run.refuse_other_question(model, other, "production")


def test_rows_that_the_other_model_refuses_are_counted_by_feature(url, tmp_path):
    """The others are compared, and no value is repeated."""
    plain = msgspec.to_builtins(challenger(tmp_path / "as-it-was").contract)
    column = plain["inputs"][0]
    narrow = [{**column, "minimum": column["example"], "maximum": 1e9}, *plain["inputs"][1:]]
    model = challenger(tmp_path / "narrow", inputs=narrow)
    wide = msgspec.convert(plain, Contract)
    rows = scored(url, model, {"3": wide})
    refused = rows.counts.refused[f"{column['name']}: a value that it does not allow"]
    assert refused and refused + len(rows) == 60


def test_of_a_large_log_requests_are_drawn(url, model):
    """By a hash of their ids, so the same ones whenever it is done."""
    rows = scored(url, model, {"3": model.contract}, share=0.5)
    assert rows.counts.not_drawn + len(rows) == 60 and 10 < len(rows) < 50
    assert (scored(url, model, {"3": model.contract}, share=0.5).key == rows.key).all()


# --- interrupted ---


def test_a_run_that_was_killed_goes_on_and_finds_the_same(url, model):
    """Stretches that were asked are not asked again, and the result is that of one run."""
    whole = started(url, model)
    found = whole.finish(named=True)
    whole.forget()
    asked: list[str] = []

    def export(since, until, into):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(since)
        log_of(url).export(since, until, into)

    with pytest.raises(KeyboardInterrupt):
        started(url, model, log=log_of(url)._replace(export=export)).finish(named=True)
    again = started(url, model)
    assert without_time(again.finish(named=True)) == without_time(found)
    assert 0 < again.scored < 60
    again.forget()
    assert not list(state.FOLDER.iterdir())


def test_a_stretch_in_which_a_subject_was_forgotten_is_asked_again(url, model):
    """No row of theirs is left in the result, though an earlier run had kept it."""
    first = started(url, model)
    assert first.finish(named=True).rows == 60
    with closing(Store(url)) as log:
        assert log.delete_subject("subject-0") == 3
    again = started(url, model)
    assert again.finish(named=True).rows == 57 and 0 < again.scored < 57


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_damaged_stretch_or_plan_is_begun_anew(url, model, content):
    """Whatever a full disk left of it."""
    first = started(url, model)
    found = first.finish(named=True)
    for file in [*first.folder.glob("*.npz")][:2]:
        file.write_bytes(file.read_bytes()[:200] if content is None else content)
    assert without_time(started(url, model).finish(named=True)) == without_time(found)
    (first.folder / state.PLAN).write_bytes(b"{")
    assert started(url, model).finish(named=True).rows == 60


def test_what_was_left_long_ago_is_deleted(url, model, monkeypatch):
    """It is begun anew, because the last days are others by then; and forgetting a subject deletes it at once."""
    first = started(url, model)
    first.finish(named=True)
    monkeypatch.setattr(state.time, "time", lambda: first.plan.begun + 2 * state.ABANDONED)
    assert started(url, model).plan.begun > first.plan.begun
    assert state.forget() and not state.forget() and not state.FOLDER.exists()


def test_an_empty_log_says_so(tmp_path, model, monkeypatch):
    """And leaves nothing behind."""
    monkeypatch.setattr(state, "FOLDER", tmp_path / "replay")
    url = f"sqlite:///{tmp_path}/empty.db"
    Store(url).close()
    with pytest.raises(StageError, match="no request of the last 7 days"):
        started(url, model)
    assert not state.FOLDER.exists()


def test_stretches_hold_about_as_many_rows_each(monkeypatch):
    """Quiet hours are taken together, busy ones split, and every moment is in one stretch."""
    monkeypatch.setattr(state, "STRETCH", 100)
    edges = [0.0, 10.0, 20.0, 30.0, 40.0]
    marks = [run.Mark(1, rows, rows, 1) for rows in (10, 20, 350, 5)]
    found = state.stretches(edges, marks)
    assert found[0] == 0 and found[-1] == 40 and found == sorted(set(found)) and 20 in found
    assert len([edge for edge in found if 20 < edge < 30]) == 2
    assert state.stretches(edges, [run.Mark()] * 4) == [0, 40]


# --- what is said ---


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_result_and_its_page_say_how_the_answers_differ(url, tmp_path, kind):
    """For classes from which to which, for values and probabilities by how much; with outcomes which is better."""
    model = challenger(tmp_path / kind, kind)
    log = f"sqlite:///{tmp_path}/{kind}.db"
    fill(log, model)
    found = started(log, model).finish(named=True)
    assert found.rows == 60 and found.paired and (found.paired.outcomes, found.paired.subjects) == (30, 10)
    assert sum(map(sum, found.confusion)) == (60 if model.contract.classes else 0)
    assert found.largest > 0 and found.examples[0].apart == pytest.approx(found.largest)
    assert [one.rows for one in found.slices] == [20, 20, 20] and math.isfinite(found.shifts[0].quantiles[0])
    text = page.markdown(found)
    assert "version 4" in text and "row 0" in text and "subject-" not in text
    assert "<h2>Slices</h2>" in page.html(found) and page.terminal(found)[0].startswith("version 4 on 60 rows")


def test_where_pages_may_be_public_no_request_is_named(url, model):
    """The ids are the callers' own, and may be order numbers."""
    found = started(url, model).finish(named=False)
    assert found.examples and not any(one.request_id for one in found.examples)
    assert "r-" not in page.markdown(found).split("### Largest differences")[1]


def test_the_model_that_answered_answers_the_same(tmp_path, monkeypatch):
    """Nothing differs, and nobody is better."""
    monkeypatch.setattr(state, "FOLDER", tmp_path / "replay")
    monkeypatch.setattr(run, "BUILD", tmp_path)
    model = challenger(tmp_path / "same", bias=0.0)
    rows = [model.contract.example_row] * 4
    b = scoring.ask(model, rows)
    found = scoring.Rows(
        np.arange(4, dtype=np.uint64), np.zeros(4, dtype=np.uint64), np.full(4, "2026-01-01"), np.full(4, "3"), b + 1e-9, b,
        np.array([0.0, 1, 0, 1]), {}, [], scoring.Counts(),
    )  # fmt: skip
    compared = result.compare(settings(model.contract), found, model.contract.classes, True)
    assert compared.same() and compared.agreement() == 1 and compared.paired and compared.paired.difference == 0
    assert page.headline(compared).word == "Same answers"


def test_the_window_is_of_days_of_the_log(url, model):
    """Rows from before it are not asked."""
    fill(url, model, requests=5, name="old", at=MONDAY - 30 * DAY)
    assert started(url, model).finish(named=True).rows == 60
