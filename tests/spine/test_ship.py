"""The story of a fork, really shipped: first model, no change, a worse one, a better one, and a rollback."""

import re
import subprocess
from pathlib import Path

import pytest
import requests


@pytest.fixture(scope="module")
def first(fork):
    """The first `make ship`, of a model that a later one can improve on."""
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.01 ")
    return fork.ok("-m", "scripts.ship")


def production(fork) -> dict:
    """Production's own description of its model."""
    return requests.get(f"{fork.status()['production']['url']}/model/info", timeout=5).json()


def test_first_ship_puts_version_1_into_production(fork, first):
    """On a new machine the first model is accepted and serves as version 1."""
    assert "accept" in first
    assert production(fork)["version"] == "1"
    assert {row["alias"] for row in fork.status().values()} == {"1"}
    assert all(row["agree"] for row in fork.status().values())


def test_printed_curl_command_works(first):
    """The line after "try it:" runs in a shell as printed and gets a prediction."""
    line = re.search(r"^try it: +(curl .*)$", first, re.M).group(1)
    answer = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=20)
    assert '"label"' in answer.stdout and '"model_version"' in answer.stdout


def test_printed_urls_work(first):
    """Documentation and MLflow UI respond at the printed URLs, and the report is a file."""
    for name in ("docs", "MLflow"):
        address = re.search(rf"^{name}: +(\S+)", first, re.M).group(1)
        assert requests.get(address, timeout=10).status_code == 200
    report = re.search(r"^report: +(.+)$", first, re.M).group(1)
    assert "accept" in Path(report).read_text(encoding="utf-8").lower()


def test_unchanged_ship_keeps_production(fork, first):
    """With nothing changed the verdict is keep, the exit green, and the same process continues."""
    before = fork.json(".slipway/production.json")
    said = fork.ok("-m", "scripts.ship")
    assert fork.json("build/evaluation.json")["verdict"] == "keep", said
    assert fork.json(".slipway/production.json") == before


def test_same_commit_and_data_give_the_same_bundle_bytes(fork, first):
    """Training twice gives byte-identical content, and so the same digest."""
    fork.ok("train.py")
    content = {name: (fork.root / "build/model" / name).read_bytes() for name in CONTENT}
    fork.ok("train.py")
    assert {name: (fork.root / "build/model" / name).read_bytes() for name in CONTENT} == content


CONTENT = ("model.onnx", "contract.json", "golden.json", "reference.json")


def test_worse_model_is_refused(fork, first):
    """A model that is significantly worse exits red after its report, and production is unchanged."""
    before = fork.json(".slipway/production.json")
    fork.edit("pipeline.toml", "C = 0.01 ", "C = 0.004 ")
    done = fork.run("-m", "scripts.ship")
    assert done.returncode == 1, done.stdout
    evaluation = fork.json("build/evaluation.json")
    assert evaluation["verdict"] == "refuse"
    assert evaluation["limits"] and all(limit["success"] for limit in evaluation["limits"]), "refused by comparison"
    assert "refuse" in (fork.root / "build/report.md").read_text(encoding="utf-8").lower()
    assert fork.json(".slipway/production.json") == before
    assert "worse" in done.stdout
    assert fork.run("-m", "scripts.gate").returncode == 1


def test_refused_model_cannot_be_registered(fork):
    """The message is the verdict's reason."""
    said = fork.refused("register_model.py")
    assert "refuse" in said and "make register CHALLENGER=yes" in said


def test_better_model_is_accepted_and_replaces_production(fork, first):
    """It becomes the next version, and the alias previous names the one before."""
    fork.edit("pipeline.toml", "C = 0.004 ", "C = 0.5 ")
    said = fork.ok("-m", "scripts.ship")
    assert fork.json("build/evaluation.json")["verdict"] == "accept", said
    assert production(fork)["version"] == "2"
    assert fork.status()["production"]["agree"]


def test_registering_twice_makes_one_version(fork):
    """The same build registered again is the same version, and its bundle has the same bytes."""
    before = fork.json("build/bundle/manifest.json")
    assert "version 2" in fork.ok("register_model.py")
    assert fork.json("build/bundle/manifest.json") == before


def test_rollback_restores_model_and_alias(fork):
    """`make rollback` serves the previous version, moves the alias to it, and says so."""
    fork.ok("-m", "scripts.rollback")
    assert production(fork)["version"] == "1"
    row = fork.status()["production"]
    assert (row["version"], row["alias"], row["agree"]) == ("1", "1", True)


def test_rollback_lasts(fork):
    """The next ship of the model that was rolled back leaves production as it is, and says how to bring that model back.

    As after a push: the commit is another, the model is not.
    """
    author = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "another"], cwd=fork.root, check=True)
    said = fork.ok("-m", "scripts.ship")
    assert "version 2, which was rolled back" in said and "make rollback VERSION=2" in said
    assert production(fork)["version"] == "1"


def test_rollback_to_a_given_version(fork):
    """`make rollback VERSION=n` serves version n."""
    fork.ok("-m", "scripts.rollback", "--version", "2")
    assert production(fork)["version"] == "2"
    assert fork.status()["production"]["agree"]


def test_rollback_to_an_unknown_version_is_refused(fork):
    """The message lists the versions in MLflow."""
    said = fork.refused("-m", "scripts.rollback", "--version", "77")
    assert "no version 77" in said and "2, 1" in said
    assert production(fork)["version"] == "2"


def test_every_deployment_has_a_record(fork):
    """NAME-deployments has who deployed which version where, and what it replaced, in order."""
    client = fork.mlflow()
    experiment = client.get_experiment_by_name("breast-cancer-deployments")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    tags = [run.data.tags for run in runs if run.data.tags["environment"] == "production"]
    assert [(tag["action"], tag["before"], tag["version"]) for tag in tags] == [
        ("deploy", "none", "1"),
        ("deploy", "1", "2"),
        ("rollback", "2", "1"),
        ("rollback", "1", "2"),
    ]
    assert all(tag["result"] == "deployed" and tag["actor"] and tag["digest"] for tag in tags)


def test_every_version_has_a_model_card_with_its_approver(fork):
    """The description has verdict, purpose and metrics with intervals, and a line for each promotion to production."""
    client = fork.mlflow()
    first, second = (client.get_model_version("breast-cancer", number).description for number in "12")
    assert first.startswith("Accepted: ") and "the first model" in first.splitlines()[0]
    assert "compared with version 1" in second.splitlines()[0] and "teaching data" in second
    assert "| **log loss** |" in second and "medical device" in second
    for card in (first, second):
        lines = [line for line in card.splitlines() if "put into production by" in line]
        assert ["make promote" in lines[0], "rollback" in lines[1], len(lines)] == [True, True, 2]
    records = client.search_runs([client.get_experiment_by_name("breast-cancer-deployments").experiment_id])
    assert all("version 2" in record.data.tags["mlflow.note.content"] for record in records[:2])
    assert any(record.info.run_id in second for record in records)
    assert "alias `production`" in client.get_registered_model("breast-cancer").description


def test_run_in_mlflow_has_lineage_plots_and_model_without_pickle(fork):
    """The run has commit, data and lock hash, data set, figures, signature and input example; none of its files is a pickle."""
    client = fork.mlflow()
    facts = fork.json("build/run.json")
    run = client.get_run(facts["run_id"])
    assert {run.data.tags[key] for key in ("commit", "data_hash", "lock_hash")} == {
        facts["commit"], facts["data_hash"], facts["lock_hash"],
    }  # fmt: skip
    assert run.inputs.dataset_inputs[0].dataset.digest == facts["data_hash"][:36]
    assert run.data.params["train.C"] == "0.5" and run.data.params["seed"] == "42"
    assert set(run.data.metrics) >= {
        "accuracy",
        "precision",
        "recall",
        "f1",
        "roc_auc",
        "pr_auc",
        "log_loss",
        "brier",
    }
    plots = {file.path for file in client.list_artifacts(facts["run_id"], "plots")}
    assert {f"plots/{name}.png" for name in ("confusion_matrix", "roc", "calibration", "feature_importance")} <= plots
    files = [path.name for path in (fork.root / ".mlflow/artifacts").rglob("*") if path.is_file()]
    assert "model.skops" in files and "input_example.json" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]


def test_stopped_production_is_started_again(fork):
    """After `make stop` (or a restart of the machine) the next ship that keeps production also starts it."""
    fork.ok("-m", "scripts.stop")
    fork.ok("-m", "scripts.ship")
    assert fork.json("build/evaluation.json")["verdict"] == "keep"
    assert production(fork)["version"] == "2"


def test_losses_within_the_margin_do_not_add_up(fork):
    """A third model within the margin of production is kept, because it is not within that of version 2, the best so far.

    The second comparison can be disabled, and a missing best version is a note.
    """
    fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
    fork.edit("pipeline.toml", "margin = 0.01 ", "margin = 0.02 ")
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.2 ")
    for stage in ("train.py", "evaluate.py", "register_model.py"):
        fork.ok(stage)
    client = fork.mlflow()
    version = client.get_model_version_by_alias("breast-cancer", "candidate")
    assert (version.version, version.tags["best_version"]) == ("3", "2")
    client.set_registered_model_alias("breast-cancer", "production", "3")

    fork.edit("pipeline.toml", "C = 0.2 ", "C = 0.1 ")
    fork.ok("train.py")
    said = fork.ok("evaluate.py")
    evaluation = fork.json("build/evaluation.json")
    assert (evaluation["verdict"], (evaluation["best"] or {}).get("version")) == ("keep", "2"), said
    assert "not surely within 0.02 (the margin) of the best version so far" in said

    fork.edit("pipeline.toml", 'reference = "best" ', 'reference = "production" ')
    fork.ok("evaluate.py")
    assert fork.json("build/evaluation.json")["verdict"] == "accept"

    fork.edit("pipeline.toml", 'reference = "production" ', 'reference = "best" ')
    client.delete_model_version("breast-cancer", "2")
    note = "Version 2, the best so far, could not be compared as well: breast-cancer has no version 2."
    assert note in fork.ok("evaluate.py")
    evaluation = fork.json("build/evaluation.json")
    assert (evaluation["verdict"], evaluation["best_version"]) == ("accept", "3")
    assert note in (fork.root / "build/report.md").read_text(encoding="utf-8")
