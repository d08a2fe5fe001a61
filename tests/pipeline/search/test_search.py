"""A search finds the parameters that score best over the folds of the training side, and the same ones again."""

import json
import sys
import time

import pytest
from sklearn.linear_model import Ridge

from pipeline import artifacts
from pipeline.data.dataset import take_apart
from pipeline.errors import DataError, ProjectError, SettingsError, StageError
from pipeline.search import journal, space, study, workers
from pipeline.settings import Range, Settings
from tests.pipeline.search import conftest


def project(**names) -> None:
    """Give project/model.py these names."""
    for name, value in names.items():
        setattr(sys.modules["project.model"], name, value)


def plain(search) -> tuple:
    """What must be the same whenever a search is repeated: all but the seconds."""
    return search.winner, search.parameters, [(one.number, one.parameters, one.scores) for one in search.trials]


def test_a_search_that_is_off_finds_nothing(dataset):
    """Without [search] nothing is tried and no file is written."""
    assert study.find(dataset(method="off")) is None
    assert not (artifacts.BUILD / study.NAME).exists()


@pytest.mark.parametrize("method", ["random", "optimise"])
def test_the_best_trial_wins_and_is_found_again(dataset, tmp_path, monkeypatch, method):
    """The winner has the least mean over the folds; another run without a journal finds the very same."""
    found = study.find(dataset(method=method, trials=12))
    scored = {one.number: one.mean for one in found.trials}
    assert min(scored, key=scored.get) == found.winner and len(scored) == found.finished == found.planned == 13
    assert found.parameters == next(one.parameters for one in found.trials if one.number == found.winner)
    assert scored[found.winner] < scored[0]  # better than [train.parameters] as they stand
    monkeypatch.setattr(artifacts, "STATE", tmp_path / "another")
    assert plain(study.find(dataset(method=method, trials=12))) == plain(found)


def test_a_grid_tries_every_combination_once(dataset):
    """A list and a range with a step give all their combinations, in order."""
    found = study.find(dataset(method="grid", space={"alpha": [0.1, 1.0], "tol": {"low": 1, "high": 5, "step": 2}}))
    assert [tuple(one.parameters.values()) for one in found.trials] == [(a, t) for a in (0.1, 1.0) for t in (1, 3, 5)]


def test_a_search_that_was_killed_goes_on_to_the_same_end(dataset, tmp_path, monkeypatch):
    """Killed in the middle of a batch, a search takes over what it finished, and finds what it would have found."""
    asked = {"method": "optimise", "trials": 10}
    whole = study.find(dataset(**asked))
    monkeypatch.setattr(artifacts, "STATE", tmp_path / "killed")
    fits = []

    def dying(parameters, seed):
        fits.append(parameters)
        if len(fits) > 11:
            raise KeyboardInterrupt
        return Ridge(**parameters)

    project(build=dying)
    with pytest.raises(KeyboardInterrupt):
        study.find(dataset(**asked))
    file = next((tmp_path / "killed" / "search").glob("*.jsonl"))
    finished = len(journal.Journal(file.stem).found)
    with file.open("ab") as torn:
        torn.write(b'{"number": 9, "par')
    fits.clear()
    project(build=lambda parameters, seed: fits.append(parameters) or Ridge(**parameters))
    assert plain(study.find(dataset(**asked))) == plain(whole)
    assert 3 <= finished < 11
    assert len(fits) == 2 + 2 * (11 - finished)  # both ends of the space are tried at the start
    assert len(journal.Journal(file.stem).found) == 11


def test_other_data_or_settings_begin_another_search(dataset):
    """The journal's name depends on data, space and seed, not on how long the search may take and how many fits run at once."""
    same = journal.key(dataset())
    assert journal.key(dataset(minutes=1, parallel=2)) == same
    assert journal.key(dataset(folds=3)) != same
    assert journal.key(take_apart(conftest.frame(81), conftest.settings())) != same


def test_no_row_of_the_hold_out_is_seen(dataset):
    """Neither fit nor scoring ever gets a row of the hold-out."""
    data, seen = dataset(), set()

    class Spy(Ridge):
        def fit(self, X, y):
            seen.update(X["b"])
            return super().fit(X, y)

        def predict(self, X):
            seen.update(X["b"])
            return super().predict(X)

    project(build=lambda parameters, seed: Spy(**parameters))
    study.find(data)
    assert seen == set(data.features["b"][~data.holdout])


def test_folds_of_a_time_split_go_forwards(dataset):
    """Each fit is on rows older than those that judge it, and the hold-out, the newest rows, is not among them."""
    frame = conftest.frame(80).assign(when=range(80))
    given = conftest.settings().model_dump()
    given["data"] |= {"time": "when"}
    given["split"] |= {"by": "time"}
    given["search"]["space"] = {"alpha": [1.0, 2.0]}
    data, fits = take_apart(frame, Settings.model_validate(given)), []
    when = dict(zip(data.features["b"], data.times, strict=True))

    class Spy(Ridge):
        def fit(self, X, y):
            fits.append(max(when[value] for value in X["b"]))
            return super().fit(X, y)

        def predict(self, X):
            judged = [when[value] for value in X["b"]]
            assert fits[-1] < min(judged) <= max(judged) < data.cut
            return super().predict(X)

    project(build=lambda parameters, seed: Spy(**parameters))
    assert study.find(data).failed == 0 and len(fits) == 3 * 2


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(dataset):
    """A failure has its reason, counts as failed, and never wins."""

    def build(parameters, seed):
        return Ridge(**parameters) if parameters["alpha"] < 5 else Ridge(alpha="wrong")

    project(build=build)
    found = study.find(dataset(method="grid", space={"alpha": [9.0, 1.0, 2.0]}))
    assert found.failed == 2 and found.parameters["alpha"] in (1.0, 2.0)  # 9, and 50 as it stands
    assert "wrong" in next(one.reason for one in found.trials if one.parameters["alpha"] == 9.0)


def test_where_every_trial_fails_the_first_reason_is_told(dataset):
    """There is no candidate then; ten failures and no score are enough to know."""
    project(build=lambda parameters, seed: Ridge(alpha=f"wrong: {parameters['alpha']}"))
    with pytest.raises(ProjectError, match=r"the search found no parameters: the first trial failed: .*wrong"):
        study.find(dataset(trials=500))


def test_the_time_limit_ends_a_search_with_what_there_is(dataset):
    """Trials that are finished count; the search says how many were planned."""

    def slow(parameters, seed):
        time.sleep(0.02)
        return Ridge(**parameters)

    project(build=slow)
    found = study.find(dataset(trials=400, minutes=0.01))
    assert 0 < found.finished < found.planned == 401
    assert "then the time limit came: 401 were planned" in study.in_a_line(found)


def test_a_time_limit_before_the_first_trial_is_an_error(dataset):
    """Nothing finished is no result; the message says what to raise."""
    with pytest.raises(ProjectError, match="before the first trial was finished") as caught:
        study.find(dataset(minutes=1e-9))
    assert "[search] minutes" in caught.value.then


@pytest.mark.parametrize(
    ("build", "name", "words"),
    [
        (lambda given, seed: Ridge(**given), "alhpa", "alhpa is no parameter that build() in project/model.py takes"),
        (lambda given, seed: Ridge(given.get("alpha", 1.0)), "alhpa", "never reads alhpa"),
        (lambda given, seed: Ridge(given["alpha"]), "alhpa", "did you mean alpha?"),
    ],
)
def test_a_parameter_that_build_does_not_take_is_refused_before_any_fit(dataset, build, name, words):
    """Whether build() refuses it or silently leaves it aside."""
    project(build=build)
    with pytest.raises(SettingsError) as caught:
        study.find(dataset(space={name: [1.0, 2.0]}))
    assert words in caught.value.what


@pytest.mark.parametrize(
    "copied", [dict, lambda given: given | {}, lambda given: {**given}, lambda given: given.copy()]
)
def test_build_may_take_its_parameters_in_any_way(dataset, copied):
    """A copy of the parameters is a use of all of them."""
    project(build=lambda given, seed: Ridge(copied(given)["alpha"]))
    assert study.find(dataset(trials=2))


def test_a_value_that_build_refuses_is_named(dataset):
    """Each end and each choice is tried before anything is fitted."""
    project(build=lambda given, seed: Ridge(given["alpha"] / 1.0))
    with pytest.raises(ProjectError, match=r"alpha = 'none' from \[search.space\] failed"):
        study.find(dataset(space={"alpha": [1.0, "none"]}))


def test_more_folds_than_rows_are_refused(dataset):
    """The folds are made before anything is fitted."""
    with pytest.raises(DataError, match="too few for 20 folds"):
        study.find(take_apart(conftest.frame(20), conftest.settings(folds=20)))


def test_the_record_is_written_for_later_stages(dataset):
    """build/search.json has every trial."""
    found = study.find(dataset())
    assert study.of_run({"search": "random", "parameters": found.parameters}) == found
    assert study.of_run({"search": "off", "parameters": {}}) is None and study.of_run({"parameters": {}}) is None
    with pytest.raises(StageError, match=r"search.json is not of build/run.json"):
        study.of_run({"search": "random", "parameters": {"alpha": 1}})
    assert len(json.loads((artifacts.BUILD / study.NAME).read_text())["trials"]) == 7


def test_processes_find_what_one_process_finds(dataset, monkeypatch, tmp_path):
    """How many fits run at once does not change the outcome."""
    asked = {"method": "optimise", "trials": 6}
    alone = study.find(dataset(**asked))
    monkeypatch.setattr(artifacts, "STATE", tmp_path / "another")
    monkeypatch.setattr(workers, "_begin", conftest.begin)
    assert plain(study.find(dataset(**asked, parallel=2))) == plain(alone)


def test_a_value_at_the_end_of_its_range_is_told():
    """In the scale of the range; a list has no ends."""
    ranges = {"C": Range(low=0.01, high=100.0, log=True), "depth": Range(low=2, high=8), "solver": ["a", "b"]}
    assert space.at_ends(ranges, {"C": 99.0, "depth": 2, "solver": "a"}) == ["C", "depth"]
    assert space.at_ends(ranges, {"C": 1.0, "depth": 7, "solver": "b"}) == []
