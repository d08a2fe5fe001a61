"""The job summary shows what exists, and never makes a job fail."""

import pytest
from mlflow import MlflowClient

from pipeline import artifacts
from pipeline.registry import deployments, experiments, mlflow_server
from pipeline.registry.deployment_record import DEPLOYED, Deployment
from pipeline.registry.embedded import snapshot
from pipeline.settings import load_settings
from scripts.ci import summary

NAME = "breast-cancer"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The example's settings, on a new machine."""
    monkeypatch.setattr(artifacts, "BUILD", tmp_path / "build")
    monkeypatch.setattr(mlflow_server, "HOME", tmp_path / ".mlflow")
    for name in ("MLFLOW_TRACKING_URI", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_EVENT_PATH"):
        monkeypatch.delenv(name, raising=False)
    return load_settings("tests/example/pipeline.toml")


@pytest.fixture
def client(tmp_path):
    """A client for MLflow on a temporary database, with two versions of the model."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = MlflowClient(uri, uri)
    made.create_registered_model(NAME)
    for _ in range(2):
        made.create_model_version(NAME, source="/nowhere", run_id=None)
    return made


def deployed(client, environment, version, image=""):
    """Record a deployment as `make deploy` does, and move the alias."""
    about = Deployment(environment, version, "d" * 64, "deploy", "docker", image=image or None, result=DEPLOYED)
    deployments.append(client, NAME, about)
    client.set_registered_model_alias(NAME, environment, version)


def test_empty_summary_is_one_sentence(settings):
    """Without build and MLflow; no server is started for it."""
    assert "Nothing has been trained or deployed here yet." in summary.markdown(settings)
    assert not mlflow_server.HOME.exists()


def test_environments_have_version_and_image_digest(client):
    """From the records of deployments."""
    image = "registry.example/octo/template@sha256:" + "e" * 64
    deployed(client, "staging", "2", image)
    deployed(client, "production", "1")
    text = summary.environments(client, NAME)
    assert "| staging | version 2 |" in text and f"`{image}`" in text
    assert "| production | version 1 |" in text and "alias" not in text


def test_running_experiment_is_shown(client):
    """Versions alone would not say that a challenger answers some of the requests."""
    begun = experiments.ExperimentRecord("greener", "ab", "1", "d1", "2", "d2", phases=(experiments.Phase(1.0, 0.5),))
    experiments.change(client, experiments.begin(client, NAME, begun), state=experiments.RUNNING)
    assert "version 2 answers 50 % of the subjects beside version 1" in summary.environments(client, NAME)


def test_disagreeing_alias_is_shown(client):
    """If the alias was moved by hand, both versions are shown."""
    assert "| production | nothing |" in summary.environments(client, NAME)
    deployed(client, "production", "1")
    client.set_registered_model_alias(NAME, "production", "2")
    assert "version 1, its alias is on version 2" in summary.environments(client, NAME)


def test_ages_and_largest_drift_are_shown(client):
    """With the reason of the last training and the column with the most drift, as text."""
    experiment = client.create_experiment(NAME)
    tags = {"reason": "push <b>", "drift_psi": "0.31", "drift_column": "[x](http://evil.example)", "drift_from": "1"}
    run = client.create_run(experiment, tags=tags).info.run_id
    client.set_terminated(run)
    text = summary.history(client, NAME)
    assert "| training | today, " in text and "`push <b>`" in text and "largest PSI 0.310" in text
    assert "](http" not in text and "://" not in text
    assert "No scheduled retraining has run yet" in text


def test_unreachable_mlflow_is_one_sentence(settings, monkeypatch):
    """For a team's server that is down, and the exit is green."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "MLflow could not be asked: MLflow at http" in summary.markdown(settings)


def test_unknown_production_is_not_shown_as_empty(settings):
    """A state that could not be fetched has its own message."""
    mlflow_server.HOME.mkdir()
    (mlflow_server.HOME / snapshot.UNKNOWN).write_text("refused\n", encoding="utf-8")
    text = summary.markdown(settings)
    assert "not known here" in text and "Environments" not in text


def test_failed_stage_is_in_the_summary(settings):
    """Even if all files are damaged, the summary names the stage."""
    artifacts.write_text(artifacts.BUILD / "data.json", "{")
    assert "`make validate` failed or did not run" in summary.markdown(settings)


def test_summary_is_written_only_to_its_file_in_a_workflow(settings, tmp_path, monkeypatch, capsys):
    """On standard output, text of the data could be taken for a workflow command."""
    monkeypatch.setattr(summary, "load_settings", lambda: settings)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert summary.main([]) == 0
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("# breast-cancer")
    assert capsys.readouterr().out == ""
    monkeypatch.delenv("GITHUB_ACTIONS")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert summary.main([]) == 0
    assert capsys.readouterr().out.startswith("# breast-cancer")


def test_summary_stays_below_the_size_limit():
    """Measured in bytes, not characters."""
    assert len(summary.shortened("€" * 500_000).encode()) < 200
    assert summary.shortened("fine") == "fine"
