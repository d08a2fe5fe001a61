"""The workflows deliver: their own files, run job by job on machines that share nothing but a real registry.

The tests stand in the order of what happens to one fork; each can be run alone, and then what comes before happens first.
"""

import shutil
import sqlite3
import uuid
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import pytest
import requests

from tests.e2e.machine import Run
from tests.e2e.runner import Runner

NAME = "breast-cancer"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
FIRST, BETTER, WORSE = "C = 0.05 ", "C = 0.5 ", "C = 0.0005 "


@dataclass(frozen=True)
class Carried:
    """The MLflow in the registry after a run: the digest of its state, the aliases, and the tags by version."""

    state: str | None
    aliases: dict[str, str]
    versions: dict[str, dict[str, str]]


class Story:
    """A fork, and what happens to it: each event once, after those that come before it."""

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
        """Run a workflow, and look at the MLflow that it leaves."""
        run = self.runner.run(*arguments, **more)
        print(run.log())
        return run, self.carried()

    def push(self) -> tuple[Run, Carried]:
        """Push to main."""
        return self.after("deliver.yml", "push")

    def carried(self) -> Carried:
        """The MLflow in the registry, read by a machine that holds nothing."""
        machine = self.runner.machine(Run("workflow_dispatch", {}, {}), "look")
        environment = {"IMAGE_REPOSITORY": self.runner.variables["IMAGE_REPOSITORY"]}
        assert machine.command("make restore-mlflow READ_ONLY=yes", environment)
        with closing(sqlite3.connect(machine.clone / ".mlflow/mlflow.db")) as database:
            aliases = dict(database.execute("SELECT alias, version FROM registered_model_aliases"))
            numbers = [row[0] for row in database.execute("SELECT version FROM model_versions")]
            tags = list(database.execute("SELECT version, key, value FROM model_version_tags"))
        versions = {str(one): {key: value for number, key, value in tags if number == one} for one in numbers}
        shutil.rmtree(machine.folder)
        return Carried(self.state(), {alias: str(version) for alias, version in aliases.items()}, versions)

    def state(self) -> str | None:
        """The digest of the state of MLflow in the registry."""
        answer = self.manifest("mlflow/manifests/state")
        return answer.headers["Docker-Content-Digest"] if answer.ok else None

    def manifest(self, rest: str) -> requests.Response:
        """What the registry has under a name of this fork's repository."""
        address = f"http://{self.registry}/v2/{self.path}/{rest}"
        return requests.get(
            address, headers={"Accept": f"{MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"}
        )

    @cached_property
    def first(self) -> tuple[Run, Carried]:
        """The first push, to an empty registry."""
        return self.push()


def git(root, *arguments):
    """Run git in a repository as somebody."""
    import subprocess

    who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def story(fork, registry, engine, tmp_path_factory):
    """A fork that has just been made, with quick training, and whose environments are chosen as in any fork."""
    for old, new in (
        ('target = "process" ', 'target = "auto" '),
        ("resamples = 2000 ", "resamples = 200 "),
        ("C = 0.5 ", FIRST),
    ):
        fork.edit("pipeline.toml", old, new)
    told = Story(fork, registry, engine, tmp_path_factory.mktemp("jobs"))
    told.commit()
    return told


def test_the_first_push_takes_the_model_to_production(story):
    """With nothing in the registry and nothing configured every job is green, and version 1 is in production."""
    run, mlflow = story.first
    assert set(run.results().values()) == {"success"}, run.log()
    assert mlflow.aliases["production"] == mlflow.aliases["staging"] == "1"
    assert run.jobs["train"].outputs == {"verdict": "accept", "version": "1"}
    image = mlflow.versions["1"]["image"]
    assert image.startswith(f"{story.registry}/{story.path}@sha256:")
    assert story.manifest(f"manifests/{image.partition('@')[2]}").ok


def test_both_environments_answered_in_their_jobs(story):
    """Integration tests asked staging and production for real predictions, and a broken release was undone in staging."""
    jobs = story.first[0].jobs
    for environment in ("staging", "production"):
        assert " passed" in jobs[environment].log and "skipped" not in jobs[environment].log
    assert "undone: a broken release does no harm" in jobs["staging"].log
    assert "make rehearse" not in jobs["production"].ran


def test_the_summaries_say_plan_verdict_and_what_serves(story):
    """Whoever looks at the run reads what it would do and why, the verdict, and what serves in the end."""
    jobs = story.first[0].jobs
    assert "deployed as a container on the runner" in jobs["plan"].summary
    assert "embedded, because MLFLOW_TRACKING_URI is not set" in jobs["plan"].summary
    assert "Accepted" in jobs["train"].summary
    assert "| production | version 1 |" in jobs["production"].summary
