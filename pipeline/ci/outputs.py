"""What a GitHub workflow hears from a step: outputs, variables of later steps, and the job summary. Elsewhere nothing is written."""

import os
import uuid
from pathlib import Path


def is_workflow() -> bool:
    """Whether this runs in a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def output(**values: str) -> None:
    """Set outputs of this step."""
    _append("GITHUB_OUTPUT", _lines(values))


def variables(**values: str) -> None:
    """Set environment variables of the steps that follow in this job."""
    _append("GITHUB_ENV", _lines(values))


def summary(markdown: str) -> None:
    """Add Markdown to the summary of this job."""
    _append("GITHUB_STEP_SUMMARY", markdown.rstrip("\n") + "\n\n")


def _lines(values: dict[str, str]) -> str:
    # A value may hold any text: the mark that ends it is one that nobody can guess.
    mark = uuid.uuid4().hex
    return "".join(f"{key}<<{mark}\n{value}\n{mark}\n" for key, value in values.items())


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
