"""The report on a pull request, made in a fork with real data, a real MLflow and a model in production."""

import pandas as pd
import pytest

NAME = "breast-cancer"


@pytest.fixture(scope="module")
def first(fork):
    """The report on the first model."""
    for stage in ("-m scripts.validate_data", "-m scripts.validate_model", "train.py", "evaluate.py"):
        fork.ok(*stage.split())
    fork.ok("-m", "scripts.ci.pr_report")
    return fork.json("build/pull_request.json")


@pytest.fixture(scope="module")
def second(fork, first):
    """The report on a change of parameter and data, with the first model in production."""
    fork.ok("register_model.py")
    fork.mlflow().set_registered_model_alias(NAME, "production", "1")
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.9 ")
    file = fork.root / "data" / "breast_cancer.csv"
    frame = pd.read_csv(file)
    new = frame.head(60).assign(
        id=[f"new-{row}" for row in range(60)], mean_texture=lambda rows: rows.mean_texture + 20
    )
    pd.concat([frame, new]).to_csv(file, index=False)
    fork.ok("-m", "scripts.validate_data")
    fork.ok("train.py", SLIPWAY_REASON="retrain: every Monday")
    fork.ok("evaluate.py")
    return fork.ok("-m", "scripts.ci.pr_report"), fork.json("build/pull_request.json")


def test_first_model_has_no_comparison(first):
    """It is accepted, would be version 1, and its data is not compared."""
    assert first["evaluation"]["verdict"] == "accept" and first["evaluation"]["next_version"] == 1
    assert first["data"]["change"] is None and first["failed_stage"] is None


def test_change_is_compared_with_production(second):
    """The report has the next version, the added rows, and the column with drift."""
    said, found = second
    change = found["data"]["change"]
    assert found["evaluation"]["next_version"] == 2 and found["evaluation"]["production"]["version"] == "1"
    assert (change["rows_before"], change["rows"], change["same"]) == (569, 629, False)
    assert change["drift"][0]["column"] == "mean_texture" and change["drift"][0]["psi"] > 0.05
    assert "on merge: " in said


def test_reason_and_drift_are_tags_of_the_run(fork, second):
    """MLflow has the reason of a training and the drift of its data; without a reason it was local."""
    client = fork.mlflow()
    tags = client.get_run(fork.json("build/run.json")["run_id"]).data.tags
    assert tags["reason"] == "retrain: every Monday"
    assert (tags["drift_from"], tags["drift_column"]) == ("1", "mean_texture")
    assert float(tags["drift_psi"]) == second[1]["data"]["change"]["drift"][0]["psi"]
    assert client.get_run(client.get_model_version(NAME, "1").run_id).data.tags["reason"] == "local"


def test_summary_shows_the_retraining(fork, second):
    """It has verdict, comparison and ages together, and no warning after a recent retraining."""
    text = fork.ok("-m", "scripts.ci.summary")
    assert "### Candidate beside production" in text and "| scheduled retraining | today, " in text
    assert "largest PSI" in text and "switches schedules off" not in text


def test_same_data_has_no_changes_and_no_drift(fork, second):
    """Evaluated on production's own data, no row was added or removed, and no column has drift."""
    frame = pd.read_csv(fork.root / "data" / "breast_cancer.csv")
    frame.head(569).to_csv(fork.root / "data" / "breast_cancer.csv", index=False)
    for stage in ("-m scripts.validate_data", "train.py", "evaluate.py"):
        fork.ok(*stage.split())
    data = fork.json("build/evaluation.json")["data"]
    assert (data["same"], data["rows_added"], data["rows_removed"]) == (True, 0, 0)
    assert {one["psi"] for one in data["drift"]} == {0}


def test_failed_stage_is_reported(fork, second):
    """After a failed validation the report says so, and its own exit is green."""
    fork.edit("data/breast_cancer.csv", "malignant", "unclear")
    fork.refused("-m", "scripts.validate_data")
    said = fork.ok("-m", "scripts.ci.pr_report")
    found = fork.json("build/pull_request.json")
    assert "`make validate` failed" in said and "red at the same place" in said
    assert found["failed_stage"] == "validate" and found["failures"] and found["evaluation"] is None
