"""The workflows' own files deliver, run job by job on machines that share only a real registry.

The tests are in the order of one fork's events; each can be run alone, and then the earlier events happen first.
"""

import json
import shutil
import sqlite3
import subprocess
import uuid
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import requests

from tests.conftest import Fork
from tests.e2e.machine import REPOSITORY, Result, Run
from tests.e2e.runner import Runner

NAME = "breast-cancer"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
HEAD = "a" * 40
FIRST, BETTER, WORSE = "C = 0.05 ", "C = 0.5 ", "C = 0.0005 "


@dataclass(frozen=True)
class Carried:
    """The MLflow in the registry after a run: the digest of its state, the aliases, and the tags by version."""

    state: str | None
    aliases: dict[str, str]
    versions: dict[str, dict[str, str]]


class Story:
    """A fork and its events: each happens once, after the earlier ones."""

    def __init__(self, fork, registry, engine, folder):
        self.fork, self.registry, self.engine = fork, registry, engine
        self.path = f"octo/template-{uuid.uuid4().hex[:8]}"
        self.runner = Runner(fork.root, folder, {"IMAGE_REPOSITORY": f"{registry}/{self.path.title()}"}, engine)

    def commit(self, old: str = "", new: str = "") -> None:
        """Commit a change of the settings."""
        fork = self.fork
        if old:
            fork.edit("pipeline.toml", old, new)
        git(fork.root, "commit", "-q", "-a", "--allow-empty", "-m", f"now {new}")

    def after(self, *arguments, **more) -> tuple[Run, Carried]:
        """Run a workflow, and read the resulting MLflow."""
        run = self.runner.run(*arguments, **more)
        print(run.log())
        return run, self.carried()

    def push(self) -> tuple[Run, Carried]:
        """Push to main."""
        return self.after("deliver.yml", "push")

    def carried(self) -> Carried:
        """The MLflow in the registry, read without the lease."""
        machine = self.runner.machine(Run("workflow_dispatch", {}, {}), "look")
        assert machine.command("make restore-mlflow READ_ONLY=yes", self.runner.variables)
        with closing(sqlite3.connect(machine.clone / ".mlflow/mlflow.db")) as database:
            aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
            numbers = [row[0] for row in database.execute("SELECT version FROM model_versions")]
            tags = list(database.execute("SELECT version, key, value FROM model_version_tags"))
        versions = {str(one): {key: value for number, key, value in tags if number == one} for one in numbers}
        shutil.rmtree(machine.folder)
        return Carried(self.state(), {alias: str(version) for alias, version in aliases.items()}, versions)

    def state(self) -> str | None:
        """The digest of MLflow's state in the registry."""
        answer = self.manifest("mlflow/manifests/state")
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def manifest(self, rest: str) -> requests.Response:
        """The manifest under a name in this fork's repository."""
        address = f"http://{self.registry}/v2/{self.path}/{rest}"
        return requests.get(
            address, headers={"Accept": f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"}
        )

    @cached_property
    def first(self) -> tuple[Run, Carried]:
        """The first push, to an empty registry."""
        return self.push()

    @cached_property
    def unchanged(self) -> tuple[Run, Carried]:
        """A push without changes to data or model."""
        assert self.first
        self.commit()
        return self.push()

    @cached_property
    def worse(self) -> tuple[Run, Carried]:
        """A push of a model that hardly learns."""
        assert self.unchanged
        self.commit(FIRST, WORSE)
        return self.push()

    @cached_property
    def better(self) -> tuple[Run, Carried]:
        """A push of a better model."""
        assert self.worse
        self.commit(WORSE, BETTER)
        return self.push()

    @cached_property
    def back(self) -> tuple[Run, Carried]:
        """The workflow `rollback`."""
        assert self.better
        return self.after("rollback.yml", "workflow_dispatch", inputs={"version": ""})

    @cached_property
    def again(self) -> tuple[Run, Carried]:
        """A push after the rollback, with the same model."""
        assert self.back
        self.commit()
        return self.push()

    @cached_property
    def proposed(self) -> tuple[Run, Carried]:
        """A pull request from a branch of the repository, with another model."""
        assert self.again
        git(self.fork.root, "checkout", "-q", "-b", "other-model")
        self.commit(BETTER, "C = 0.6 ")
        one = {"number": 12, "head": {"sha": HEAD, "repo": {"full_name": REPOSITORY}}, "user": {"login": "octo"}}
        try:
            return self.after("ci.yml", "pull_request", {"pull_request": one})
        finally:
            git(self.fork.root, "checkout", "-q", "-")

    @cached_property
    def promoted(self) -> tuple[Run, Carried]:
        """The alias production moved to version 2 by a person, and the scheduled run of `promote`."""
        assert self.proposed
        machine = self.runner.machine(Run("workflow_dispatch", {}, {}), "person")
        try:
            for command in ("make restore-mlflow", "make mlflow"):
                assert machine.command(command, self.runner.variables)
            Fork(machine.clone).mlflow().set_registered_model_alias(NAME, "production", "2")
            assert machine.command("make save-mlflow", self.runner.variables)
        finally:
            machine.end(self.engine, self.path)
        return self.after("promote.yml", "schedule")


def git(root, *arguments):
    """Run git in a repository with a test identity."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def story(fork, registry, engine, tmp_path_factory):
    """A new fork with quick training and the default choice of environments."""
    for old, new in (
        ('target = "process" ', 'target = "auto" '),
        ("resamples = 2000 ", "resamples = 200 "),
        ("C = 0.5 ", FIRST),
    ):
        fork.edit("pipeline.toml", old, new)
    told = Story(fork, registry, engine, tmp_path_factory.mktemp("jobs"))
    told.commit()
    return told


def test_first_push_takes_the_model_to_production(story):
    """With an empty registry and no configuration every job is green, and version 1 is in production."""
    run, mlflow = story.first
    assert set(run.results().values()) == {"success"}, run.log()
    assert mlflow.aliases["production"] == mlflow.aliases["staging"] == "1"
    assert run.jobs["train"].outputs == {"verdict": "accept", "version": "1"}
    image = mlflow.versions["1"]["image"]
    assert image.startswith(f"{story.registry}/{story.path}@sha256:")
    assert story.manifest(f"manifests/{image.partition('@')[2]}").ok


def test_both_environments_are_tested_in_their_jobs(story):
    """Integration tests sent real predictions to staging and production, and a broken release was undone in staging."""
    jobs = story.first[0].jobs
    for environment in ("staging", "production"):
        assert " passed" in jobs[environment].log and "skipped" not in jobs[environment].log
    assert "undone: a broken release does no harm" in jobs["staging"].log
    assert "make rehearse" not in jobs["production"].ran


def test_summaries_have_plan_verdict_and_releases(story):
    """The run's page shows the plan with its reasons, the verdict, and the final releases."""
    jobs = story.first[0].jobs
    assert "deployed as a container on the runner" in jobs["plan"].summary
    assert "embedded, because MLFLOW_TRACKING_URI is not set" in jobs["plan"].summary
    assert "Accepted" in jobs["train"].summary
    assert "| production | version 1 |" in jobs["production"].summary


def started(run: Run) -> set[str]:
    """The jobs that were not skipped."""
    return {name for name, result in run.results().items() if result != "skipped"}


def test_unchanged_push_changes_nothing(story):
    """The same model again is kept: green, no image is built, nothing is deployed, version 1 stays."""
    run, mlflow = story.unchanged
    assert run.jobs["train"].outputs == {"verdict": "keep", "version": ""}
    assert started(run) == {"plan", "checks", "train", "notify"} and "failure" not in run.results().values()
    assert mlflow.aliases == story.first[1].aliases and mlflow.versions == story.first[1].versions


def test_worse_model_is_red_and_production_is_unchanged(story):
    """The train job is red, after summary and report; nothing is registered and no later job runs except notify."""
    run, mlflow = story.worse
    assert run.jobs["train"].result == "failure" and run.jobs["train"].outputs["verdict"] == "refuse"
    assert run.jobs["train"].ran[-2:] == ["make gate", "make save-mlflow"]
    assert "Refused" in run.jobs["train"].summary and (run.artifacts["report"] / "report.html").exists()
    assert started(run) == {"plan", "checks", "train", "notify"}
    assert mlflow.aliases == story.first[1].aliases and mlflow.versions == story.first[1].versions


def test_better_model_replaces_the_first(story):
    """Version 2 goes through staging into production; a rollback would restore version 1."""
    run, mlflow = story.better
    assert set(run.results().values()) == {"success"}, run.log()
    assert {key: mlflow.aliases[key] for key in ("production", "previous")} == {"production": "2", "previous": "1"}
    assert mlflow.versions["2"]["image"] != mlflow.versions["1"]["image"]
    assert f"starting version 2 for production from {mlflow.versions['2']['image']}" in run.jobs["production"].log


def test_rollback_workflow_restores_the_first_version(story):
    """It deploys version 1's own image, on a machine that never had version 2, and the alias agrees."""
    run, mlflow = story.back
    assert run.results() == {"rollback": "success"}, run.log()
    assert mlflow.aliases["production"] == "1" and "rolled_back" in mlflow.versions["2"]
    log = run.jobs["rollback"].log
    assert f"starting version 1 for production from {mlflow.versions['1']['image']}" in log and " passed" in log
    assert "| production | version 1 |" in run.jobs["rollback"].summary


def test_push_after_a_rollback_does_not_redeploy_the_model(story):
    """The model that was rolled back is not deployed until something changes."""
    run, mlflow = story.again
    assert run.jobs["train"].outputs == {"verdict": "keep", "version": ""}, run.log()
    assert started(run) == {"plan", "checks", "train", "notify"} and mlflow.aliases["production"] == "1"


def test_pull_request_is_compared_and_changes_nothing(story):
    """The comment names the version in production and the effect of a merge; the MLflow in the registry is unchanged."""
    run, mlflow = story.proposed
    assert set(run.results().values()) == {"success"}, run.log()
    (comment,) = run.comments
    assert (comment["number"], comment["header"]) == ("12", "slipway")
    assert (
        "Accepted" in comment["text"]
        and "in the place of version 1" in comment["text"]
        and HEAD[:12] in comment["text"]
    )
    assert mlflow == story.again[1]


class Api(BaseHTTPRequestHandler):
    """A GitHub API that knows pull request 12 from a fork."""

    def do_GET(self):
        """Return its description."""
        repository = {"full_name": "stranger/template"}
        there = {"number": 12, "state": "open", "head": {"sha": HEAD, "repo": repository}}
        content = json.dumps(there if self.path == f"/repos/{REPOSITORY}/pulls/12" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Log nothing."""


@pytest.fixture
def report(story, tmp_path):
    """Run `report` after a fork's run of ci, whose report a test may change."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    shutil.copytree(story.proposed[0].artifacts["pull-request"], tmp_path / "incoming")
    about = {"id": 77, "event": "pull_request", "conclusion": "success", "head_sha": HEAD, "pull_requests": []}
    about |= {"head_repository": {"full_name": "stranger/template"}, "actor": {"login": "stranger"}}
    runner = Runner(
        story.fork.root,
        tmp_path,
        story.runner.variables,
        story.engine,
        GITHUB_API_URL=f"http://127.0.0.1:{server.server_port}",
    )

    def run(change=lambda folder: None, **other) -> Run:
        change(tmp_path / "incoming")
        artifacts = {"pull-request": tmp_path / "incoming"}
        return runner.run("report.yml", "workflow_run", {"workflow_run": about | other}, artifacts=artifacts)

    yield run
    server.shutdown()
    server.server_close()


def test_pull_request_from_a_fork_gets_its_comment(report):
    """The report of a fork's run is commented if GitHub confirms that the run was of that pull request."""
    run = report()
    assert run.results() == {"comment": "success"}, run.log()
    assert run.comments[0]["number"] == "12" and "actions/runs/77" in run.comments[0]["text"]


def test_own_pull_request_gets_no_second_comment(report):
    """ci has commented already."""
    assert report(head_repository={"full_name": REPOSITORY}).results() == {"comment": "skipped"}


def changed(**values):
    """A change to the fork's report."""

    def change(folder):
        path = folder / "pull_request.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(number=13),
        changed(head="b" * 40),
        changed(markdown="<img src=x>"),
        lambda folder: (folder / "comment.md").write_text("another"),
    ],
    ids=["another pull request", "another commit", "markup of its own", "another file"],
)
def test_hostile_report_gets_no_comment(report, change):
    """Anything but a valid report on the pull request that GitHub names is refused: red, and nothing is posted."""
    run = report(change)
    assert run.results() == {"comment": "failure"} and run.comments == []
    assert "error: " in run.log() and "Traceback" not in run.log()


def test_version_promoted_in_mlflow_is_deployed(story):
    """The scheduled run finds the moved alias, only compares in its first job, and deploys through staging in its second."""
    run, mlflow = story.promoted
    assert run.results() == {"compare": "success", "production": "success", "staging": "skipped"}, run.log()
    assert "starting version" not in run.jobs["compare"].log, "deployed where nobody could refuse it"
    log = run.jobs["production"].log
    assert (
        log.index("starting version 2 for staging")
        < log.index(" passed")
        < log.index("starting version 2 for production")
    )
    assert mlflow.aliases["production"] == "2" and "rolled_back" not in mlflow.versions["2"]


OURS = {"MLFLOW_TRACKING_URI": "https://mlflow.example"}
CLUSTER = {"SLIPWAY_KUBECONFIG": "of a cluster"}
ASKED = {"SLIPWAY_DEPLOY_PRODUCTION": "true"}


@pytest.mark.parametrize(
    ("variables", "secrets", "production"),
    [
        ({}, {}, "success"),
        (OURS, {}, "skipped"),
        ({}, OURS, "skipped"),
        ({}, CLUSTER, "skipped"),
        (ASKED, OURS | CLUSTER, "success"),
        ({"SLIPWAY_DEPLOY_PRODUCTION": "false"}, {}, "skipped"),
    ],
    ids=["nothing", "mlflow", "mlflow as a secret", "cluster", "asked for", "not wanted"],
)
def test_team_s_production_must_be_requested(story, tmp_path, variables, secrets, production):
    """With a team's own server or cluster, production is deployed only if a person has enabled it."""
    runner = Runner(story.fork.root, tmp_path, story.runner.variables | variables, story.engine)
    runner.secrets = secrets
    given = {name: Result() for name in ("image", "staging", "production", "notify")}
    run = runner.run(
        "deliver.yml", "push", given=given | {"train": Result(outputs={"verdict": "accept", "version": "7"})}
    )
    assert run.results()["plan"] == "success" and run.results()["production"] == production, run.log()
    assert "of a cluster" not in run.log()
