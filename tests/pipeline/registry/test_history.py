"""When things last happened is what MLflow's runs say, and sleeping schedules are noticed."""

import time

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunStatus

from pipeline.registry import history

DAY = history.DAY


@pytest.fixture
def client(tmp_path):
    """MLflow on a database of its own."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def train(client, days_ago, status="FINISHED", **tags):
    """A run of the model's experiment, some days ago; return its id."""
    found = client.get_experiment_by_name("model")
    experiment = found.experiment_id if found else client.create_experiment("model")
    began = int((time.time() - days_ago * DAY) * 1000)
    run = client.create_run(experiment, start_time=began, tags=tags).info.run_id
    client.set_terminated(run, RunStatus.to_string(RunStatus.from_string(status)))
    return run


def test_the_newest_finished_run_counts(client):
    """Trainings that failed are none; retrainings are those of the schedule; comparisons those with a drift."""
    assert history.last_training(client, "model") is None
    retrained = train(client, 90, reason="retrain: every Monday")
    train(client, 30, reason="retrain: on request")
    compared = train(client, 20, reason="push", drift_psi="0.12", drift_column="x", drift_from="3")
    trained = train(client, 10, reason="a push about retrain")
    train(client, 5, "FAILED", reason="retrain", drift_psi="9")
    assert history.last_training(client, "model").run_id == trained
    assert history.last_retraining(client, "model").run_id == retrained
    found = history.last_comparison(client, "model")
    assert found.run_id == compared and history.drift_of(found) == (0.12, "x", "3")


def test_tags_that_are_not_ours_are_no_drift():
    """A person may write any tag in MLflow's pages."""
    assert history.drift_of(history.Happened(0, "r", {"drift_psi": "much"})) is None


@pytest.mark.parametrize(
    ("days", "words"), [(0, "today"), (0.9, "today"), (1.1, "1 day ago"), (59, "59 days ago"), (-1, "today")]
)
def test_ages_are_told_to_the_day(days, words):
    """Also when the clock of the server is ahead of ours."""
    assert history.in_words(1e9 - days * DAY, now=1e9) == words


def test_a_schedule_that_sleeps_is_noticed():
    """Older than 60 days, or never, says how to wake it; younger says nothing."""
    assert "No scheduled retraining has run yet. GitHub switches schedules off" in history.warning(None)
    assert history.warning(history.Happened(1e9 - 59 * DAY, "r", {}), now=1e9) is None
    assert "61 days ago" in history.warning(history.Happened(1e9 - 61 * DAY, "r", {}), now=1e9)
    assert "Enable workflow" in history.SWITCHED_OFF
