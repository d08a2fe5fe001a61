"""The trials of a search in MLflow."""

from pipeline.evaluation.record import Search, SearchTrial
from pipeline.search import nested_runs
from pipeline.settings import load_settings


def test_each_trial_is_a_run_within_the_candidates(scratch, mlflow_client):
    """Parameters, the score of each fold, mean and deviation; the winner is marked, a failure is a failed run with its reason."""
    trials = [
        SearchTrial(number=1, parameters={"C": 0.5}, scores=[0.2, 0.4], mean=0.3, deviation=0.1, seconds=1.5),
        SearchTrial(number=2, parameters={"C": -1.0}, reason="C must be positive"),
    ]
    search = Search(
        method="grid", metric="log_loss", higher_is_better=False, folds=2, planned=2, finished=2, failed=1, winner=1,
        parameters={"C": 0.5}, trials=trials,
    )  # fmt: skip
    experiment = mlflow_client.create_experiment("scratch")
    parent = mlflow_client.create_run(experiment).info.run_id
    nested_runs.log(load_settings(), {"run_id": parent, "experiment_id": experiment}, search)
    assert "trial 1 is the best of 2" in mlflow_client.get_run(parent).data.tags["search"]
    found = mlflow_client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    first, second = sorted(found, key=lambda run: run.info.run_name)
    assert first.data.params == {"train.C": "0.5"} and first.data.tags["winner"] == "yes"
    assert {"log_loss": 0.3, "log_loss_sd": 0.1, "seconds": 1.5}.items() <= first.data.metrics.items()
    assert [one.value for one in mlflow_client.get_metric_history(first.info.run_id, "fold_log_loss")] == [0.2, 0.4]
    assert (second.info.status, second.data.tags["failed"]) == ("FAILED", "C must be positive")
    assert "winner" not in second.data.tags
