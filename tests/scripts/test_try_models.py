"""make try-models: what it prints, writes and tells MLflow."""

import json

MODELS = """
def forest(parameters, seed):
    from sklearn.ensemble import RandomForestClassifier
    columns = make_column_transformer((SimpleImputer(), ["age", "income"]))
    return make_pipeline(columns, RandomForestClassifier(5, random_state=seed))
def broken(parameters, seed):
    return LogisticRegression(C="none")
MODELS = {"forest": forest, "broken": broken}
"""


def test_models_are_compared_and_logged_and_nothing_else_happens(scratch, mlflow_client):
    """JSON alone on standard output; a page; a run with a run for each model in it; no model is registered."""
    scratch.edit("project/model.py", "def build", f"{MODELS}\ndef build")
    scratch.edit("pipeline.toml", "[gate]", "[search]\nfolds = 2\n[gate]")
    status, out, err = scratch.run("try_models", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert scratch.built() == ["models.html", "models.json"]
    assert [one["name"] for one in found["models"]][-1] == "broken" and found["folds"] == 2
    runs = mlflow_client.search_runs([mlflow_client.get_experiment_by_name("scratch-models").experiment_id])
    (parent,) = [one for one in runs if "mlflow.parentRunId" not in one.data.tags]
    nested = {one.info.run_name: one for one in runs if one is not parent}
    assert {one.data.tags["mlflow.parentRunId"] for one in nested.values()} == {parent.info.run_id}
    assert set(nested) == {"forest", "broken", "build()", "dummy"}
    forest = next(one for one in found["models"] if one["name"] == "forest")
    run = nested["forest"]
    assert run.data.metrics["log_loss"] == forest["candidate"] and run.data.params == {"train.C": "1.0"}
    assert [one.value for one in mlflow_client.get_metric_history(run.info.run_id, "fold_log_loss")] == forest["scores"]
    assert nested["broken"].info.status == "FAILED" and "LogisticRegression" in nested["broken"].data.tags["failed"]
    assert not mlflow_client.search_registered_models()


def test_the_table_names_the_best_and_fits_a_terminal(scratch, mlflow_client):
    """Without --json a table of at most 80 columns, and a sentence."""
    scratch.edit("project/model.py", "def build", f"{MODELS}\ndef build")
    scratch.edit("pipeline.toml", "[gate]", "[search]\nfolds = 2\n[gate]")
    status, out, _ = scratch.run("try_models")
    assert status == 0 and "has the best log loss" in out and "✕" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_metric_that_is_none_is_refused_before_any_fit(scratch, mlflow_client):
    """As `make train` refuses it."""
    scratch.edit("pipeline.toml", 'metric = "log_loss"', 'metric = "rmse"')
    status, _, err = scratch.run("try_models")
    assert status == 1 and "rmse" in err and not scratch.built()
