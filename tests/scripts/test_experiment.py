"""`make experiment`: the experiment that runs is counted where its log is, judged, shown and kept."""

import json
import time
from contextlib import closing

import numpy as np
import pytest

from delivery import watch
from pipeline.registry import experiments
from pipeline.registry.experiments import RUNNING, ExperimentRecord, Phase
from serving.log import stops
from serving.log.blocks import Prediction, Source, frame_of
from serving.log.stops import Stop
from serving.log.store import Store

DAY, SUBJECTS = 86_400, 150
FILES = ["experiment.html", "experiment.json", "experiment.md"]


@pytest.fixture
def log(scratch, monkeypatch):
    """Three days of an experiment in the log: B is right in 9 of 10 answers, A in 6."""
    url = f"sqlite:///{scratch.root}/log.db"
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    rng, start = np.random.default_rng(0), time.time() - 3 * DAY
    with closing(Store(url, "scratch", "1")) as found:
        for variant, version, right in (("A", "1", 0.6), ("B", "2", 0.9)):
            given = [f"{variant}{number}" for number in range(SUBJECTS)]
            answer = b'[{"label":"yes","class_id":1,"probabilities":{"no":0.1,"yes":0.9}}]'
            asked = [
                Prediction(subject, start + place * 900, "shop", subject, "served", 1, 0.2, b"[[1]]", answer)
                for place, subject in enumerate(given)
            ]
            found.insert_block([frame_of(asked)], Source("scratch", version, "greener", variant))
            told = np.where(rng.random(SUBJECTS) < right, "yes", "no")
            found.insert(
                [],
                [
                    (subject, 0, json.dumps(str(outcome)), start + place * 900 + 60, "shop")
                    for place, (subject, outcome) in enumerate(zip(given, told, strict=True))
                ],
            )
        yield found


@pytest.fixture
def record(mlflow_client) -> ExperimentRecord:
    """The experiment in MLflow, with both versions."""
    mlflow_client.create_registered_model("scratch")
    for _ in "12":
        mlflow_client.create_model_version("scratch", source="/nowhere", run_id=None)
    since = time.time() - 3 * DAY - 60
    begun = experiments.begin(
        mlflow_client, "scratch", ExperimentRecord("greener", "ab", "1", "d1", "2", "d2", phases=(Phase(since, 0.5),))
    )
    return experiments.change(mlflow_client, begun, state=RUNNING, started=since)


def test_without_an_experiment_it_says_how_to_start_one(scratch, mlflow_client):
    """Nothing is written, and the exit status is 0; `--json` prints null; an older page does not stay."""
    (scratch.root / "build").mkdir()
    (scratch.root / "build/experiment.html").write_text("of yesterday")
    status, said, _ = scratch.run("experiment")
    assert (status, scratch.built()) == (0, []) and "make experiment-start" in said
    assert scratch.run("experiment", "--json")[1] == "null\n"


def test_the_running_experiment_is_judged_and_kept(scratch, log, record, mlflow_client):
    """Page, JSON and Markdown are there, the terminal has the verdict, and the run in MLflow has all of it; twice is once."""
    for _ in range(2):
        status, said, error = scratch.run("experiment")
        assert (
            status == 0 and "greener (ab): Version 2 (B) is better" in said and "make experiment-stop WINNER=B" in said
        ), error
    assert scratch.built() == FILES
    judged = json.loads((scratch.root / "build/experiment.json").read_text())
    assert (judged["a"]["measured"], judged["b"]["measured"]) == (SUBJECTS, SUBJECTS) and judged["low"] > 0
    assert {one.path for one in mlflow_client.list_artifacts(record.run_id)} == {*FILES, "difference.png"}
    assert json.loads(scratch.run("experiment", "--json")[1])["verdict"] == "B better"


def test_summary_of_a_job_has_what_was_found(scratch, log, mlflow_client, monkeypatch, request):
    """The daily look is read there: the whole page, or that no experiment runs."""
    file = scratch.root / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    scratch.run("experiment")
    assert "no experiment runs" in file.read_text(encoding="utf-8")
    request.getfixturevalue("record")
    scratch.run("experiment")
    assert (scratch.root / "build/experiment.md").read_text(encoding="utf-8") in file.read_text(encoding="utf-8")


def test_one_that_has_ended_is_read_by_its_name(scratch, log, record, mlflow_client, monkeypatch):
    """It is counted up to its end once, and read from MLflow when its log is gone; another name is refused with those known."""
    experiments.end(mlflow_client, "scratch", record, winner="B", reason="it is better")
    assert "no experiment runs" in scratch.run("experiment")[1]
    assert "Version 2 (B) is better" in scratch.run("experiment", "--name", "greener")[1]
    monkeypatch.setattr(watch, "experiment_sums", lambda *given: pytest.fail("it was counted already"))
    assert "winner" not in (said := scratch.run("experiment", "--name", "greener")[1]) and "it is better" in said
    status, _, error = scratch.run("experiment", "--name", "bluer")
    assert status == 1 and "no experiment bluer" in error and "greener" in error


def test_without_the_log_the_record_is_shown(scratch, record, mlflow_client, monkeypatch):
    """It says that nothing was counted and why, writes the page, and keeps nothing in MLflow."""
    monkeypatch.delenv("SLIPWAY_DATABASE_URL", raising=False)
    status, said, _ = scratch.run("experiment")
    assert status == 0 and "Not counted" in said and "SLIPWAY_DATABASE_URL is not set" in said
    assert scratch.built() == FILES and not mlflow_client.list_artifacts(record.run_id)


def test_one_that_has_not_served_yet_is_shown(scratch, record, mlflow_client):
    """A start that was interrupted says how to go on."""
    experiments.change(mlflow_client, record, state="starting", started=0.0)
    assert "has not served yet" in scratch.run("experiment")[1]


def test_value_is_compared_where_the_settings_say_so(scratch, log, record):
    """[experiment] outcome = "value": outcomes without one are none."""
    scratch.write("pipeline.toml", (scratch.root / "pipeline.toml").read_text() + '[experiment]\noutcome = "value"\n')
    judged = json.loads(scratch.run("experiment", "--json")[1])
    assert (judged["outcome"], judged["a"]["measured"], judged["verdict"]) == ("value", 0, "running")


def test_one_that_stopped_itself_says_why(scratch, log, record):
    """The reason is in the summary, and a look is green all the same."""
    stops.keep(log, "scratch", "greener", Stop(time.time() - 60, "the challenger takes 9 ms"))
    status, said, _ = scratch.run("experiment")
    assert status == 0 and "Stopped itself" in said and "the challenger takes 9 ms" in said
    assert scratch.built() == FILES
