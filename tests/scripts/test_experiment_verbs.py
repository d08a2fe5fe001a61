"""An experiment from its start to its end on target `process`, in a fork whose production serves version 2 beside version 1."""

import json
import signal
import time

import pytest
import requests

from pipeline.registry import experiments, versions
from serving.log import stops
from serving.log.store import Store

NAME = "breast-cancer"
START = ("-m", "scripts.experiment_start", "--challenger", "1")


@pytest.fixture
def mlflow(two):
    """Its MLflow, in which production serves version 2 alone before the test, whatever the one before has left."""
    client = two.mlflow()
    if experiments.running(client, NAME):
        two.ok("-m", "scripts.experiment_stop")
    if info(two)["version"] != "2":
        two.ok("-m", "scripts.rollback", "--version", "2")
    return client


def info(fork, environment: str = "production") -> dict:
    """What an environment says of its model."""
    url = fork.json(f".slipway/{environment}.json")["url"]
    return requests.get(f"{url}/model/info", timeout=5).json()


def answer(fork, subject: str | None) -> tuple[str, str]:
    """Which version answers a request for a subject, and which variant that is, "" outside of the experiment."""
    record = fork.json(".slipway/production.json")
    contract = json.loads((fork.root / record["bundle"] / "contract.json").read_text(encoding="utf-8"))
    body = {"features": [field["example"] for field in contract["inputs"]]} | ({"subject": subject} if subject else {})
    given = requests.post(f"{record['url']}/predict", json=body, timeout=5)
    return given.json()["model_version"], given.headers.get("X-Experiment", "")


def test_an_experiment_from_start_to_end(two, mlflow):
    """It starts by way of staging, divides the subjects, grows, keeps other versions out, and ends where it began."""
    said = two.ok(*START, "--share", "0.5", "--name", "spring")
    assert "experiment spring (running): version 1 answers 50 % of the subjects beside version 2" in said
    assert info(two)["version"] == "2" and info(two, "staging")["experiment"]["name"] == "spring"
    seen = {answer(two, f"customer-{number}") for number in range(30)}
    assert seen == {("2", "spring=A"), ("1", "spring=B")} and answer(two, None) == ("2", "")
    status = json.loads(two.ok("-m", "scripts.status", "--json"))
    assert status["experiment"]["name"] == "spring" and all(row["agree"] for row in status["environments"])

    # Another version stays out, a second experiment too, and the champion keeps it when it is deployed again.
    mlflow.set_model_version_tag(NAME, "1", "compared_with", "2")
    assert "cannot go to production while experiment spring (running)" in two.refused(
        "-m", "scripts.deploy", "--environment", "production", "--version", "1"
    )
    assert "one is all" in two.refused(*START, "--share", "0.5", "--name", "summer")
    two.ok("-m", "scripts.deploy", "--environment", "production", "--version", "2")
    assert info(two)["experiment"]["name"] == "spring"

    # Up only.
    assert "is not more" in two.refused("-m", "scripts.experiment_share", "--share", "0.5")
    assert "100 %" in two.ok("-m", "scripts.experiment_share", "--share", "1")
    assert {answer(two, f"customer-{number}") for number in range(5)} == {("1", "spring=B")}
    assert len(experiments.running(mlflow, NAME).phases) == 2

    two.ok("-m", "scripts.experiment_stop", "--reason", "seen enough")
    assert answer(two, "customer-1") == ("2", "") and "experiment" not in info(two, "staging")
    (record,) = experiments.records(mlflow, NAME)
    assert (record.state, record.reason, record.winner) == ("ended", "seen enough", "")
    assert [versions.by_number(mlflow, NAME, number).experiment for number in "12"] == ["", ""]
    assert "there was an experiment spring" in two.refused(*START, "--share", "0.5", "--name", "spring")


def test_the_winner_is_promoted(two, mlflow):
    """Version 1 goes to production by way of staging; aliases and records say so, and version 2 is the one before."""
    two.ok(*START, "--share", "0.5", "--name", "autumn")
    assert "production serves version 1" in two.ok("-m", "scripts.experiment_stop", "--winner", "B")
    assert answer(two, "customer-1") == ("1", "") and info(two, "staging")["version"] == "1"
    assert versions.by_alias(mlflow, NAME, "production").number == "1"
    assert versions.by_alias(mlflow, NAME, "previous").number == "2"
    assert experiments.records(mlflow, NAME)[0].winner == "B"


def test_a_rollback_ends_it(two, mlflow):
    """It is always allowed, also of one that has stopped itself, and the record says why the experiment is over."""
    two.ok(*START, "--share", "0.5", "--name", "winter")
    log = Store(f"sqlite:///{two.root}/.slipway/predictions-production.db")
    for name in ("winter", "ice"):
        stops.keep(log, NAME, name, stops.Stop(time.time(), "too slow"))
    log.close()

    # What has stopped itself is not raised, nor begun a second time under its name.
    assert "winter has stopped itself: too slow" in two.refused("-m", "scripts.experiment_share", "--share", "0.9")
    assert "winter has stopped itself, and production's model answers everybody" in two.ok("-m", "scripts.status")
    assert "experiment winter has ended" in two.ok("-m", "scripts.rollback", "--version", "1")
    assert answer(two, "customer-1") == ("1", "")
    assert experiments.records(mlflow, NAME)[0].reason == "production was rolled back to version 1"
    two.ok("-m", "scripts.rollback", "--version", "2")
    assert "ice has stopped itself: too slow" in two.refused(*START, "--share", "0.5", "--name", "ice")


@pytest.mark.parametrize("stage", ["staging", "production"])
def test_a_start_that_is_killed_is_finished_or_undone(two, mlflow, stage):
    """The next command compares the record with what production serves: it runs, or it has ended."""
    name = f"killed-in-{stage}"
    process = two.start(*START, "--share", "0.5", "--name", name)
    deadline = time.monotonic() + 120
    while two.json(f".slipway/{stage}.json").get("experiment", "").split(" ")[0] != name:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    two.run("-m", "scripts.status")
    carries = two.json(".slipway/production.json").get("experiment", "").startswith(name)
    (record,) = [one for one in experiments.records(mlflow, NAME) if one.name == name]
    assert record.state == ("running" if carries else "ended") and carries == (stage == "production")
    if not carries:  # staging is left with it, until somebody has it put right
        assert f"it carries experiment {name} 0.5, which does not run" in two.ok("-m", "scripts.status")
        two.ok("-m", "scripts.reconcile")
        assert "experiment" not in info(two, "staging")


def test_a_damaged_challenger_is_named(two, mlflow):
    """A release with two bundles says which of them is damaged, and nothing has begun."""
    (model,) = (two.root / ".mlflow").rglob("bundle-1/model.onnx")
    sound = model.read_bytes()
    try:
        model.write_bytes(sound[:-1])
        said = two.refused(*START, "--share", "0.5", "--name", "damaged")
    finally:
        model.write_bytes(sound)
    assert "version 1 in MLflow: bundle file model.onnx is damaged" in said
    assert "damaged" not in {record.name for record in experiments.records(mlflow, NAME)}
