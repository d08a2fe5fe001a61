"""When things last happened, from MLflow's runs; and inactive schedules."""

import time

import pytest
from mlflow import MlflowClient
from mlflow.entities import RunStatus

from pipeline.registry import history

DAY = history.DAY


@pytest.fixture
def client(tmp_path):
    """A client for MLflow on a temporary database."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return MlflowClient(uri, uri)


def train(client, days_ago, status="FINISHED", **tags):
    """A run in the model's experiment, some days ago; returns its id."""
    found = client.get_experiment_by_name("model")
    experiment = found.experiment_id if found else client.create_experiment("model")
    began = int((time.time() - days_ago * DAY) * 1000)
    run = client.create_run(experiment, start_time=began, tags=tags).info.run_id
    client.set_terminated(run, RunStatus.to_string(RunStatus.from_string(status)))
    return run


def test_newest_finished_run_counts(client):
    """Failed trainings do not count; retrainings are those of the schedule; comparisons are those with a drift."""
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


def test_foreign_tags_are_not_drift():
    """A person may write any tag in MLflow's pages."""
    assert history.drift_of(history.Happened(0, "r", {"drift_psi": "much"})) is None


@pytest.mark.parametrize(
    ("days", "words"), [(0, "today"), (0.9, "today"), (1.1, "1 day ago"), (59, "59 days ago"), (-1, "today")]
)
def test_ages_are_in_days(days, words):
    """Also when the server's clock is ahead of ours."""
    assert history.in_words(1e9 - days * DAY, now=1e9) == words


def test_inactive_schedule_is_reported():
    """When it is older than 60 days, or never ran, the message says how to enable it again."""
    assert "No scheduled retraining has run yet. A Monday without new data trains nothing" in history.warning(None)
    assert history.warning(history.Happened(1e9 - 59 * DAY, "r", {}), now=1e9) is None
    assert "61 days ago" in history.warning(history.Happened(1e9 - 61 * DAY, "r", {}), now=1e9)
    assert "Enable workflow" in history.SWITCHED_OFF
