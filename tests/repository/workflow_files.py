"""The workflows of this repository as plain data, for the tests that read them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github/workflows"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))
ACTIONS = sorted(ROOT.glob(".github/actions/*/action.yml"))


class Loader(yaml.SafeLoader):
    """Leaves `on` and `off` as words: YAML 1.1 would make truth values of them."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def text(name: str) -> str:
    """A workflow as it is written."""
    return (FOLDER / name).read_text(encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """A workflow as data."""
    return yaml.load(text(name), Loader)


def triggers(name: str) -> dict[str, Any]:
    """The events that start a workflow, with their settings."""
    return load(name)["on"]


def jobs(name: str) -> dict[str, dict[str, Any]]:
    """The jobs of a workflow."""
    return load(name)["jobs"]


def steps(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step of a workflow, with its job's id."""
    for job_id, job in jobs(name).items():
        for step in job.get("steps", []):
            yield job_id, step


def called(job: dict[str, Any]) -> str | None:
    """The workflow of this repository that a job calls, or None."""
    return job["uses"].rpartition("/")[2] if "uses" in job else None


def commands(name: str, job_id: str) -> list[str]:
    """The commands that a job runs, in order."""
    return [step["run"] for step in jobs(name)[job_id].get("steps", []) if "run" in step]


def all_steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step of every workflow and local action, with where it stands."""
    for name in NAMES:
        yield from ((f"{name} {job_id}", step) for job_id, step in steps(name))
    for action in ACTIONS:
        content = yaml.load(action.read_text(encoding="utf-8"), Loader)
        yield from ((str(action.relative_to(ROOT)), step) for step in content["runs"]["steps"])
