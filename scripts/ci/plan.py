"""Say what this repository's settings make of a delivery, before anything is installed:

    make plan

Sets the outputs production, cluster and attest ("true" or "false") and registry (the host of the image registry), and writes
a table into the summary of the job. Exit status 1 when a setting has a value that it may not have, when IMAGE_REPOSITORY is no name of an image
repository, or when another branch than the default one would be delivered. Needs nothing but Python's standard library.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import container_registry
from pipeline.ci import outputs, repository_settings
from pipeline.errors import SettingsError, edge

OUTPUTS = {"production": "production", "cluster": "cluster", "attest": "attestation"}


@edge
def main(argv: list[str] | None = None) -> None:
    """Print the plan and hand its outputs to the jobs that follow."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    happened = event()
    refuse_branch(os.environ.get("GITHUB_REF", ""), happened)
    container_registry.repository("model")  # what a job could not build or push to is refused here, by the same rule
    plan = repository_settings.delivery(os.environ, happened)
    for what, (_, says) in plan.items():
        print(f"{what:<13} {says}")
    outputs.summary(table(plan))
    outputs.output(**{name: str(plan[what][0]).lower() for name, what in OUTPUTS.items()})
    outputs.output(registry=registry(os.environ.get("IMAGE_REPOSITORY", "")))


def registry(repository: str) -> str:
    """The host that a log-in to the registry of an image repository names; Docker Hub's where the repository names none."""
    first, slash, _ = repository.strip().lower().partition("/")
    return first if slash and (set(".:") & set(first) or first == "localhost") else "docker.io"


def refuse_branch(ref: str, happened: dict[str, Any]) -> None:
    """Raise SettingsError for a delivery of another branch than the repository's own: nobody has merged what is there."""
    repository = happened.get("repository")
    branch = repository.get("default_branch") if isinstance(repository, dict) else None
    if ref and branch and ref != f"refs/heads/{branch}":
        raise SettingsError(
            f"{ref} is not {branch}, the branch that is delivered", f"merge it, or run this workflow on {branch}"
        )


def event() -> dict[str, Any]:
    """What GitHub says of the event that started this, {} outside of a workflow; raises SettingsError when it is unreadable."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"GITHUB_EVENT_PATH={path} is not a readable event: {error}", "run the job again"
        ) from error
    return found if isinstance(found, dict) else {}


def table(plan: dict[str, repository_settings.Found]) -> str:
    """The plan as Markdown."""
    rows = [f"| {what} | {says.replace('|', chr(92) + '|')} |" for what, (_, says) in plan.items()]
    return "\n".join(["### What this delivery will do", "", "| | |", "| --- | --- |", *rows])


if __name__ == "__main__":
    sys.exit(main())
