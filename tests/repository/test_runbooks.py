"""The runbooks: each has what somebody at night needs, and no command that does not exist. tests/scripts/test_runbook_commands.py runs them."""

import re
import subprocess
import sys

import pytest

from pipeline.monitor.actions import alerts
from tests.repository.runbook_commands import RUNBOOKS, all_commands
from tests.repository.test_links import ROOT, verbs

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROGRAMS = ("make", ".venv/bin/python", "docker", "kubectl", "grep", "sed", "tail", "curl")
NAMES = {page.stem for page in RUNBOOKS}


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_has_its_parts(page):
    """Symptoms, a first look, a table to decide by, and commands, in that order."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)$", text, re.M)
    parts = ["Symptoms", "First look", "Decide", "Commands"]
    assert [heading for heading in found if heading in parts] == parts
    assert len(re.findall(r"^\|", text.split("## Decide")[1].split("\n## ")[0], re.M)) >= 6


def test_what_an_issue_names_exists():
    """The runbook of each kind of incident is a page."""
    assert {kind.runbook for kind in alerts.KINDS.values()} | {"retraining-exhausted"} <= NAMES


@pytest.mark.parametrize("command", all_commands())
def test_each_command_exists(command):
    """A command is a verb of the Makefile with variables that it reads, or a module of ours with options that it has."""
    program = re.sub(r"^(?:[A-Z_]+=(?:'[^']*'|\S+) )+", "", command)
    assert program.split()[0] in PROGRAMS
    if given := re.match(r"make ([a-z-]+)(.*)", program):
        assert given[1] in verbs()
        recipe = re.search(rf"^{given[1]}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)[1]
        assert all(name in recipe for name in re.findall(r"([A-Z]+)=", given[2])), recipe
    for module, options in re.findall(r"python -m ([\w.]+)([^>|]*)", command):
        said = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert said.returncode == 0 and all(option in said.stdout for option in re.findall(r"--[a-z-]+", options))
