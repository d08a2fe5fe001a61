"""`make fresh`: a retraining on the data that production was trained on ends early, in one line, and green."""

import pytest

from pipeline.data.dataset import load_dataset
from pipeline.registry import experiments
from pipeline.registry.embedded import sync
from pipeline.registry.experiments import RUNNING, ExperimentRecord, Phase
from pipeline.settings import load_settings
from tests.scripts.conftest import customers


@pytest.fixture
def fresh(scratch, monkeypatch, tmp_path, mlflow_client):
    """Run the verb; returns the output that the workflow reads, what was printed, and the summary."""
    monkeypatch.setattr(sync, "refuse_unknown", lambda: None)
    monkeypatch.setenv("SLIPWAY_REASON", "retrain: performance: accuracy 0.76")

    def run(*arguments):
        for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
            (tmp_path / name).unlink(missing_ok=True)
            monkeypatch.setenv(name, str(tmp_path / name))
        status, out, err = scratch.run("ci.fresh", *arguments)
        assert status == 0, err
        return (
            (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()[1],
            out,
            (tmp_path / "GITHUB_STEP_SUMMARY").read_text(),
        )

    run.client, run.scratch = mlflow_client, scratch
    return run


def in_production(client, **tags):
    """A version that has the alias."""
    client.create_registered_model("scratch")
    client.create_model_version("scratch", source="/nowhere", run_id=None, tags=tags)
    client.set_registered_model_alias("scratch", "production", "1")


def test_the_same_data_are_nothing_new(fresh):
    """One line that says so, with the reason of the retraining in the summary."""
    in_production(fresh.client, data_hash=load_dataset(load_settings()).hash)
    output, said, summary = fresh()
    assert output == "false" and said.startswith("nothing new: ") and said.count("\n") == 1
    assert "version 1 in production" in said and "**retrain: performance: accuracy 0.76**: nothing new" in summary


def test_one_new_row_is_something_new(fresh):
    """It is the rows that count."""
    in_production(fresh.client, data_hash=load_dataset(load_settings()).hash)
    fresh.scratch.data(customers(241))
    assert fresh()[:2] == ("true", "something new: the data are others than those of version 1 in production\n")


def test_an_experiment_is_waited_for(fresh):
    """Whatever the data: a new version could not go to production beside it."""
    in_production(fresh.client)
    fresh.client.create_model_version("scratch", source="/nowhere", run_id=None)
    record = ExperimentRecord("spring", "ab", "1", "", "2", "", state=RUNNING, phases=(Phase(1.0, 0.1),))
    begun = experiments.begin(fresh.client, "scratch", record)
    output, said, _ = fresh()
    assert output == "false" and said.startswith("no retraining: experiment spring (running)")
    experiments.end(fresh.client, "scratch", begun)
    assert fresh()[0] == "true"


def test_a_person_may_force_it(fresh):
    """Then the data are not even read."""
    in_production(fresh.client, data_hash=load_dataset(load_settings()).hash)
    (fresh.scratch.root / "data.csv").unlink()
    output, said, _ = fresh("--force")
    assert output == "true" and "because a person said so" in said


def test_without_production_everything_is_new(fresh):
    """Also where MLflow does not say on what production was trained."""
    assert fresh()[0] == "true"
    in_production(fresh.client)
    assert fresh()[0] == "true"
