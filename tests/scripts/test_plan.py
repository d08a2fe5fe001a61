"""The delivery plan from a repository's settings, as in a workflow's first job: real files, and a Python without packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from delivery import checkup
from pipeline.ci import repository_settings
from pipeline.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {"repository": {"private": False, "visibility": "public"}}
PRIVATE = {"repository": {"private": True, "visibility": "private"}}
WHATS = ["MLflow", "images", "cluster", "production", "attestation", "notification"]


def plan(folder: Path, event: dict | None = None, **environment: str) -> tuple[dict[str, str], str, str]:
    """Run the plan as a workflow's first job; returns its outputs, its printed text, and the job summary."""
    (folder / "event.json").write_text(json.dumps(event or PUBLIC), encoding="utf-8")
    files = {name: folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = run(environment | {"GITHUB_EVENT_PATH": str(folder / "event.json")} | {k: str(v) for k, v in files.items()})
    assert done.returncode == 0, done.stderr
    return outputs(files["GITHUB_OUTPUT"]), done.stdout, files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")


def run(environment: dict[str, str]) -> subprocess.CompletedProcess:
    """`python -m scripts.ci.plan` without site-packages: -S omits installed packages."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "scripts.ci.plan"], cwd=ROOT, env={"PATH": os.environ["PATH"], **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def outputs(file: Path) -> dict[str, str]:
    """The outputs in a GITHUB_OUTPUT file, parsed like a runner: KEY<<MARK, lines, MARK."""
    found, lines = {}, iter(file.read_text(encoding="utf-8").splitlines())
    for line in lines:
        key, mark = line.split("<<")
        found[key] = "\n".join(iter(lines.__next__, mark))
    return found


def test_fork_without_settings_delivers_to_the_runner(tmp_path):
    """Production is a container on the runner, images of a public repository are attested, and there is no cluster."""
    said, printed, summary = plan(tmp_path)
    assert said == {"production": "true", "cluster": "false", "attest": "true", "registry": "docker.io"}
    assert "production    deployed as a container on the runner" in printed
    assert [line.split("|")[1].strip() for line in summary.splitlines() if line.startswith("| ")][2:] == WHATS


@pytest.mark.parametrize("given", [{"KUBECONFIG_CONTENT_SET": "true"}, {"MLFLOW_TRACKING_URI": "https://ml.example.com"}])  # fmt: skip
def test_team_s_production_must_be_requested(tmp_path, given):
    """With a cluster or a team's MLflow, production needs SLIPWAY_DEPLOY_PRODUCTION=true, and the text says so."""
    said, printed, _ = plan(tmp_path, **given)
    assert said["production"] == "false"
    assert "reviewers" in printed and "SLIPWAY_DEPLOY_PRODUCTION to true" in printed
    assert plan(tmp_path, **given, SLIPWAY_DEPLOY_PRODUCTION="true")[0]["production"] == "true"
    assert plan(tmp_path, **given, SLIPWAY_DEPLOY_PRODUCTION="false")[0]["production"] == "false"


@pytest.mark.parametrize(
    "repository, host",
    [("ghcr.io/Octo/Model", "ghcr.io"), ("127.0.0.1:5050/a", "127.0.0.1:5050"), ("localhost/a", "localhost"), ("team/model", "docker.io")],
)  # fmt: skip
def test_registry_for_the_login_is_named(tmp_path, repository, host):
    """The host of IMAGE_REPOSITORY, or Docker Hub's if it has none."""
    assert plan(tmp_path, IMAGE_REPOSITORY=repository)[0]["registry"] == host


@pytest.mark.parametrize(
    "repository, instead",
    [
        ("ghcr.io/octo/repo_", "ghcr.io/octo/repo"),
        ("ghcr.io/octo/-odd-", "ghcr.io/octo/odd"),
        ("ghcr.io/Octo/My.-Repo", "ghcr.io/octo/my-repo"),
        ("ghcr.io/octo/repo:v1", "ghcr.io/team/model"),
    ],
)
def test_invalid_repository_is_refused_by_the_plan(repository, instead):
    """The plan checks IMAGE_REPOSITORY like the build, before training, and suggests a valid one."""
    done = run({"IMAGE_REPOSITORY": repository})
    assert done.returncode == 1 and "is not the name of an image repository" in done.stderr
    assert f"such as {instead}:" in done.stderr and "Traceback" not in done.stderr
    assert run({"IMAGE_REPOSITORY": "ghcr.io/MyOrg/My.Repo_Name"}).returncode == 0


def test_kubeconfig_means_a_cluster():
    """The word `true` for a given kubeconfig, or the kubeconfig itself, is a cluster; `false` and an empty value are none."""
    given = [{"KUBECONFIG_CONTENT_SET": "true"}, {"SLIPWAY_KUBECONFIG": "apiVersion: v1"}]
    assert all(repository_settings.cluster(environment)[0] for environment in given)
    absent = [{"KUBECONFIG_CONTENT_SET": "false"}, {"SLIPWAY_KUBECONFIG": " \n"}, {}]
    assert not any(repository_settings.cluster(environment)[0] for environment in absent)


@pytest.mark.parametrize(
    "environment, event, attested",
    [
        ({}, PUBLIC, True),
        ({}, PRIVATE, False),
        ({}, {"repository": {"private": False, "visibility": "internal"}}, False),
        ({}, {"repository": {"private": True}}, False),
        ({}, {}, False),
        ({"SLIPWAY_ATTEST": "true"}, PRIVATE, True),
        ({"SLIPWAY_ATTEST": "false"}, PUBLIC, False),
        ({"GITHUB_SERVER_URL": "https://git.example.com"}, PUBLIC, False),
        ({"GITHUB_SERVER_URL": "https://team.ghe.com"}, PUBLIC, True),
    ],
)
def test_images_are_attested_where_github_keeps_attestations(environment, event, attested):
    """Those of public repositories on github.com or ghe.com; others only if SLIPWAY_ATTEST says so; `false` disables it."""
    assert repository_settings.attestation(environment, event)[0] is attested


@pytest.mark.parametrize("name", repository_settings.SWITCHES)
@pytest.mark.parametrize("value", ["yes", "True", "1"])
def test_switch_must_be_true_or_false(name, value):
    """Any other value is refused with the name of its setting."""
    with pytest.raises(SettingsError, match=f"{name}={value} is neither true nor false"):
        repository_settings.delivery({name: value}, PUBLIC)


def test_invalid_value_fails_the_plan(tmp_path):
    """Exit status 1, two lines, no traceback, and no output for later jobs."""
    done = run({"SLIPWAY_DEPLOY_PRODUCTION": "yes", "GITHUB_OUTPUT": str(tmp_path / "out")})
    assert done.returncode == 1 and done.stderr.startswith("error: SLIPWAY_DEPLOY_PRODUCTION=yes")
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["mlflow.example.com", "sqlite:///mlflow.db", "https://", "https://[::1"])
def test_mlflow_url_must_be_http(address):
    """MLFLOW_TRACKING_URI must be an http URL."""
    with pytest.raises(SettingsError, match="not an http address"):
        repository_settings.mlflow({"MLFLOW_TRACKING_URI": address})


def test_no_password_is_shown(tmp_path):
    """The user and password of MLflow, a webhook and a kubeconfig are in neither the log nor the summary."""
    given = {
        "MLFLOW_TRACKING_URI": "https://user:hunter2@ml.example.com:8443/x",
        "SLIPWAY_WEBHOOK": "https://hooks.example.com/hunter2",
        "SLIPWAY_KUBECONFIG": "token: hunter2",
    }
    said, printed, summary = plan(tmp_path, **given)
    assert "https://ml.example.com:8443/x" in printed
    assert "hunter2" not in printed + summary + str(said)


@pytest.mark.parametrize("text", ["{", "\udcff", None])
def test_unreadable_event_is_reported(tmp_path, text):
    """A missing or invalid event is an error with a message, and does not mean a private repository."""
    file = tmp_path / "event.json"
    if text is not None:
        file.write_bytes(text.encode(errors="surrogateescape"))
    done = run({"GITHUB_EVENT_PATH": str(file)})
    assert done.returncode == 1 and "is not a readable event" in done.stderr and "Traceback" not in done.stderr


def test_doctor_shows_the_plan(monkeypatch):
    """`make doctor` prints the plan's sentences, and an invalid value as a note."""
    for name in [name for name in os.environ if name.startswith(("SLIPWAY_", "GITHUB_", "MLFLOW_TRACKING", "IMAGE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLIPWAY_DEPLOY_PRODUCTION", "false")
    said = {finding.what.removeprefix("· "): finding.says for finding in checkup.workflows()}
    plan = repository_settings.delivery({"SLIPWAY_DEPLOY_PRODUCTION": "false"}, {})
    assert said | {what: says for what, (_, says) in plan.items()} == said
    monkeypatch.setenv("SLIPWAY_ATTEST", "yes")
    assert [(one.state, one.says.split(" is ")[0]) for one in checkup.workflows()] == [("note", "SLIPWAY_ATTEST=yes")]


def test_plan_outside_a_workflow_is_printed():
    """Without GitHub's files it prints the table and succeeds."""
    done = run({})
    assert done.returncode == 0 and [line.split()[0] for line in done.stdout.splitlines()] == WHATS


def test_other_branch_is_refused(tmp_path):
    """Only the default branch is delivered; for another one the message says what to do."""
    event = {"repository": {"default_branch": "main", "visibility": "public"}}
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    done = run({"GITHUB_EVENT_PATH": str(tmp_path / "event.json"), "GITHUB_REF": "refs/heads/topic"})
    assert done.returncode == 1
    assert "refs/heads/topic is not main" in done.stderr and "merge it" in done.stderr
    assert plan(tmp_path, event, GITHUB_REF="refs/heads/main")[0]["production"] == "true"
