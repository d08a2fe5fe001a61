"""What the documents say of the workflows is what there is, both ways."""

import re

import pytest

from tests.repository.test_links import TEXTS
from tests.repository.workflow_files import NAMES, ROOT, called, commands, jobs, text

WORKFLOWS, RED = TEXTS["docs/workflows.md"], TEXTS["docs/when-a-check-is-red.md"]
# What GitHub makes itself.
GIVEN = {"GITHUB_TOKEN"}


def first_cells(page: str, heading: str) -> set[str]:
    """The code words in the first column of the first table after a heading."""
    rows = page.split(heading, 1)[1].split("\n## ")[0]
    return {word for row in re.findall(r"^\| (`[^|]+) \|", rows, re.M) for word in re.findall(r"`([^`]+)`", row)}


def test_every_setting_is_documented_and_used():
    """The table of settings in docs/workflows.md names each secret and variable that a workflow reads, and no other."""
    used = {name for file in NAMES for name in re.findall(r"\b(?:secrets|vars)\.(\w+)", text(file))} - GIVEN
    assert len(used) >= 8
    assert first_cells(WORKFLOWS, "## Settings") == used


def test_settings_are_of_the_kind_that_is_documented():
    """A setting called a variable is read from `vars`, one called a secret from `secrets`."""
    everything = "\n".join(map(text, NAMES))
    table = WORKFLOWS.split("## Settings")[1].split("\n## ")[0]
    for name, kind in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.M):
        assert ("variable" in kind) == bool(re.search(rf"vars\.{name}\b", everything)), name
        assert ("secret" in kind) == bool(re.search(rf"secrets\.{name}\b", everything)), name


def test_every_workflow_is_documented():
    """docs/workflows.md has a line for each workflow, and none for one that is not there."""
    assert first_cells(WORKFLOWS, "# The workflows") == {name.removesuffix(".yml") for name in NAMES}


def test_every_job_of_a_delivery_is_documented_with_its_verbs():
    """The table of a push names each job of deliver in order, with verbs that it really runs."""
    table = WORKFLOWS.split("## A push to the default branch")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.M))
    assert list(rows) == list(jobs("deliver.yml"))
    for name, cell in rows.items():
        run = all_commands(name)
        assert set(re.findall(r"`make ([a-z-]+)`", cell)) <= {one.split()[1] for one in run}, name


def all_commands(job_id: str) -> list[str]:
    """What a job of deliver runs, in the workflow that it calls too."""
    callee = called(jobs("deliver.yml")[job_id])
    if not callee:
        return commands("deliver.yml", job_id)
    return [command for inner in jobs(callee) for command in commands(callee, inner)]


def test_every_job_has_its_line_for_a_red_day():
    """docs/when-a-check-is-red.md names each job of every workflow by the name that GitHub shows, and no other."""
    shown = {job_id for name in NAMES for job_id, job in jobs(name).items() if not called(job)} - {
        "deploy",
        "reconcile",
    }
    assert first_cells(RED, "# When a check is red") == shown | {"staging", "production"}


@pytest.mark.parametrize("page", ["docs/when-a-check-is-red.md", "docs/workflows.md"])
def test_the_commands_named_are_those_of_the_jobs(page):
    """Every verb that these pages tell to run is run by a workflow, or is named for people."""
    run = {command.split()[1] for name in NAMES for job_id in jobs(name) for command in commands(name, job_id)}
    for_people = {"doctor", "ship", "fix"}
    assert set(re.findall(r"`make ([a-z0-9-]+)", TEXTS[page])) <= run | for_people


def test_owners_are_named_by_nobody_but_the_team():
    """CODEOWNERS has no owner of ours: the file works as it is, and says what to add."""
    lines = (ROOT / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    assert lines and all(line.startswith("#") for line in lines)
