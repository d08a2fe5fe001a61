"""The template works for other tasks when only the team's own files change: project/, data/ and pipeline.toml."""

import json
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from sklearn.datasets import load_diabetes, load_wine

YOURS = {"pipeline.toml", "project/data.py", "project/model.py", "project/checks.py", "data/own.csv"}

DATA = '''"""Our data."""
from pathlib import Path
import pandas as pd
def load():
    return pd.read_csv(Path(__file__).parent.parent / "data" / "own.csv")
'''

CHECKS = '''"""Our checks."""
def expectations():
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as gxe
    return ExpectationSuite("own", [gxe.ExpectColumnValuesToBeUnique(column="id", severity="critical")])
INVARIANCES = []
DIRECTIONS = []
'''

WINE = '''"""Our model."""
from sklearn.ensemble import RandomForestClassifier
def build(parameters, seed):
    return RandomForestClassifier(**parameters, random_state=seed)
'''

DIABETES = '''"""Our model."""
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
def build(parameters, seed):
    return make_pipeline(StandardScaler(), Ridge(**parameters))
'''

MIXED = '''"""Our model."""
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
def build(parameters, seed):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(columns, LogisticRegression(**parameters, max_iter=500))
'''


def settings(name: str, task: str, parameters: str, gate: str, extra: str = "") -> str:
    """A team's own pipeline.toml."""
    return f'''
name = "{name}"
[data]
task = "{task}"
id = "id"
target = "target"
{extra}
[split]
holdout = 0.25
salt = "slipway"
[train]
seed = 1
[train.parameters]
{parameters}
[gate]
{gate}
'''


def own(fork, frame: pd.DataFrame, model: str, toml: str) -> None:
    """Put the team's own files into a fork, keeping its ports."""
    ports = tomllib.loads((fork.root / "pipeline.toml").read_text(encoding="utf-8"))
    frame.to_csv(fork.root / "data/own.csv", index_label="id")
    fork.write("project/data.py", DATA)
    fork.write("project/checks.py", CHECKS)
    fork.write("project/model.py", model)
    tables = "".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in ports[table].items())
        for table in ("deploy", "mlflow")
    )
    fork.write("pipeline.toml", toml + tables)


def ship(fork) -> dict:
    """Ship, and return production's answer to its contract's example."""
    fork.ok("-m", "scripts.ship")
    changed = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=fork.root, capture_output=True, text=True
    ).stdout
    assert {line[3:] for line in changed.splitlines()} <= YOURS
    record = fork.json(".slipway/production.json")
    contract = json.loads((Path(record["bundle"]) / "contract.json").read_text(encoding="utf-8"))
    body = {"features": [field["example"] for field in contract["inputs"]]}
    answer = requests.post(f"{record['url']}/predict", json=body, timeout=5)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_wine_with_three_classes(new_fork):
    """A random forest on the wine data ships, and production answers with three named classes."""
    wine = load_wine(as_frame=True)
    frame = wine.data.assign(target=wine.target_names[wine.target])
    fork = new_fork()
    own(fork, frame, WINE, settings("wine", "multiclass", "n_estimators = 50", 'metric = "log_loss"\nmargin = 0.02'))  # fmt: skip
    answer = ship(fork)
    assert set(answer["probabilities"]) == {"class_0", "class_1", "class_2"}
    assert answer["label"] in answer["probabilities"]
    metrics = fork.json("build/evaluation.json")["candidate"]["metrics"]
    assert metrics["accuracy"] > 0.9 and {"balanced_accuracy", "f1_macro", "roc_auc_ovr"} <= set(metrics)


def test_diabetes_regression(new_fork):
    """A ridge regression on the diabetes data ships, and production answers with a value."""
    frame = load_diabetes(as_frame=True).frame
    fork = new_fork()
    own(fork, frame, DIABETES, settings("diabetes", "regression", "alpha = 1.0", 'metric = "mae"\nmargin = 1.0\nslices = ["bmi"]\n[gate.limits]\nr2 = 0.2'))  # fmt: skip
    answer = ship(fork)
    assert 25 <= answer["value"] <= 346
    assert {"mae", "rmse", "r2"} <= set(fork.json("build/evaluation.json")["candidate"]["metrics"])


def test_text_and_missing_values_in_100_000_rows(new_fork):
    """A frame of 100,000 rows with text and empty cells ships; text is accepted, and so is null where the data had it."""
    rng = np.random.default_rng(0)
    rows = 100_000
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(10, 1, rows).round(2)),
            "member": rng.random(rows) < 0.5,
            "größe in cm": rng.normal(170, 10, rows).round(1),
            "city": np.where(rng.random(rows) < 0.05, None, rng.choice(["Zürich", "Paris", "Köln", 'a "b", c'], rows)),
        }
    )
    risk = (frame["age"] - 50) / 15 + frame["member"] + (frame["city"] == "Paris") + rng.normal(0, 1, rows)
    frame["target"] = np.where(risk > 0.7, "yes", "no")
    fork = new_fork()
    gate = 'metric = "log_loss"\nmargin = 0.005\nslices = ["city", "age"]'
    own(fork, frame, MIXED, settings("mixed", "binary", "C = 1.0", gate, 'positive = "yes"'))
    assert ship(fork)["label"] in ("yes", "no")
    url = fork.json(".slipway/production.json")["url"]
    row = {"age": 40, "income": None, "member": True, "größe in cm": 180, "city": None}
    assert requests.post(f"{url}/predict", json={"features": row}, timeout=5).status_code == 200
    again = requests.post(f"{url}/predict", json={"features": row | {"city": 7}}, timeout=5)
    assert again.status_code == 422 and "city" in again.text


def test_production_with_a_missing_column_is_not_compared(new_fork):
    """When the data has lost a column that production needs, the candidate is refused with the column's name."""
    wine = load_wine(as_frame=True)
    frame = wine.data.assign(target=wine.target_names[wine.target])[wine.target < 2]
    gate = 'metric = "log_loss"\nmargin = 0.02\n[gate.limits]\naccuracy = 0.5'
    toml = settings("wine", "binary", "n_estimators = 20", gate, 'positive = "class_1"')
    fork = new_fork()
    own(fork, frame, WINE, toml)
    ship(fork)
    own(fork, frame.drop(columns="proline"), WINE, toml)
    done = fork.run("-m", "scripts.ship")
    assert done.returncode == 1
    reason = fork.json("build/evaluation.json")["reasons"][0]
    assert "'proline'" in reason
    assert all(way in reason for way in ("make ship COLUMNS=changed", "make rollback", "ColumnTransformer"))
    changed_columns_are_judged_by_limits_on_the_word(fork)


def changed_columns_are_judged_by_limits_on_the_word(fork):
    """With the setting, the limits decide and every record says so; when the columns are as before, the setting has no effect."""
    fork.ok("-m", "scripts.ship", "--columns", "changed")
    evaluation = fork.json("build/evaluation.json")
    assert (evaluation["verdict"], evaluation["judged_by"]) == ("accept", "limits")
    assert "the limits alone decided" in (fork.root / "build/report.md").read_text(encoding="utf-8")
    client = fork.mlflow()
    version = client.get_model_version_by_alias("wine", "production")
    assert (version.version, version.tags["judged_by"], version.tags["compared_with"]) == ("2", "limits", "1")
    assert client.get_run(version.run_id).data.tags["judged_by"] == "limits"
    experiment = client.get_experiment_by_name("wine-deployments").experiment_id
    (record, *_) = client.search_runs([experiment], "tags.environment = 'production'")
    assert "judged by its limits alone" in record.data.tags["detail"]
    said = fork.ok("evaluate.py", "--columns", "changed")
    assert "COLUMNS=changed is ignored" in said and fork.json("build/evaluation.json")["judged_by"] == "comparison"


def test_production_is_compared_by_column_names(new_fork):
    """Another order of columns, and an additional one, do not change production's answers on the hold-out."""
    wine = load_wine(as_frame=True)
    frame = wine.data.assign(target=wine.target_names[wine.target])
    gate = 'metric = "log_loss"\nmargin = 0.02'
    toml = settings("wine", "multiclass", "n_estimators = 20", gate)
    fork = new_fork()
    own(fork, frame, WINE, toml)
    ship(fork)
    before = fork.json("build/evaluation.json")["candidate"]["metrics"]["log_loss"]
    own(fork, frame[list(reversed(frame.columns))].assign(more=[row % 7 for row in range(len(frame))]), WINE, toml)
    for command in (["-m", "scripts.validate_data"], ["train.py"], ["evaluate.py"]):
        fork.ok(*command)
    assert fork.json("build/evaluation.json")["comparison"]["production"] == pytest.approx(before, abs=1e-6)
