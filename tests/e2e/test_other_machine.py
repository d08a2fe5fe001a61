"""Each job of a workflow runs on a new machine: containers and images are gone, only MLflow and the image registry remain."""

import json
import shutil
import uuid

import pytest
import requests

NAME = "breast-cancer"


class Jobs:
    """A fork whose commands run like jobs: for containers, with images in a registry."""

    def __init__(self, fork, engine, registry):
        self.fork, self.engine = fork, engine
        self.environment = {
            "IMAGE_REPOSITORY": f"{registry}/slipway-test/machine-{uuid.uuid4().hex[:8]}",
            "GITHUB_ACTIONS": "true",
        }

    def ok(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        return self.fork.ok(*arguments, **self.environment)

    def another_machine(self) -> None:
        """Stop what is running, and remove the deployments and the engine's images."""
        self.ok("-m", "scripts.stop")
        for folder in (".slipway", "build"):
            shutil.rmtree(self.fork.root / folder, ignore_errors=True)
        for image in self.engine.images.list(self.environment["IMAGE_REPOSITORY"]):
            self.engine.images.remove(image.id, force=True)
        self.ok("-m", "scripts.mlflow.start_mlflow")

    def served(self) -> str:
        """The version in production's response."""
        rows = json.loads(self.ok("-m", "scripts.status", "--json"))["environments"]
        url = next(row["url"] for row in rows if row["environment"] == "production")
        return requests.get(f"{url}/model/info", timeout=5).json()["version"]

    def aliases(self) -> dict[str, str]:
        """Alias and version."""
        return dict(self.fork.mlflow().get_registered_model(NAME).aliases)


@pytest.fixture(scope="module")
def jobs(fork, engine, registry):
    """Version 2 has replaced version 1, each in a separate job."""
    fork.edit("pipeline.toml", 'target = "process" ', 'target = "docker" ')
    fork.edit("pipeline.toml", 'policy = "better" ', 'policy = "not_worse" ')
    fork.edit("pipeline.toml", "\nmargin = 0.01 ", "\nmargin = 0.5 ")
    made = Jobs(fork, engine, registry)
    made.ok("-m", "scripts.ship")
    fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.6 ")
    made.ok("-m", "scripts.ship")
    yield made
    made.ok("-m", "scripts.stop")
    for image in engine.images.list(made.environment["IMAGE_REPOSITORY"]):
        engine.images.remove(image.id, force=True)


def test_image_is_verified_from_the_registry_alone(jobs):
    """On a new machine, a version's image is pulled and agrees with MLflow."""
    jobs.another_machine()
    said = jobs.ok("-m", "scripts.ci.verify_image", "--version", "2")
    assert f"version 2 is {jobs.environment['IMAGE_REPOSITORY']}@sha256:" in said


def test_deploy_and_promote_on_a_new_machine(jobs):
    """A job that deploys to production, and one to staging with its rehearsal, need nothing of earlier jobs."""
    jobs.another_machine()
    jobs.ok("-m", "scripts.deploy", "--environment", "staging", "--version", "2")
    assert "undone: a broken release does no harm" in jobs.ok("-m", "scripts.rehearse")
    jobs.another_machine()
    jobs.ok("-m", "scripts.deploy", "--environment", "production", "--version", "2")
    jobs.ok("-m", "scripts.promote")
    assert jobs.served() == jobs.aliases()["production"] == "2" and jobs.aliases()["previous"] == "1"


def test_rollback_on_a_new_machine(jobs):
    """The rollback job restores version 1 by its own image, moves both aliases and records that 2 was rolled back."""
    jobs.another_machine()
    said = jobs.ok("-m", "scripts.rollback")
    assert "pulling " in said and "building " not in said
    aliases = jobs.aliases()
    assert jobs.served() == aliases["production"] == "1" and aliases["previous"] == "2"
    assert "rolled_back" in jobs.fork.mlflow().get_model_version(NAME, "2").tags


def test_reconcile_on_a_new_machine(jobs):
    """A job finds nothing to do while the alias names the last deployment, and deploys what a person promotes."""
    jobs.another_machine()
    client = jobs.fork.mlflow()
    on = jobs.aliases()["production"]
    other = {"1": "2", "2": "1"}[on]
    assert "nothing to do" in jobs.ok("-m", "scripts.reconcile")
    client.set_registered_model_alias(NAME, "production", other)
    jobs.ok("-m", "scripts.reconcile")
    aliases = jobs.aliases()
    assert jobs.served() == aliases["production"] == aliases["staging"] == other and aliases["previous"] == on
