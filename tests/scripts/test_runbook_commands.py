"""The commands of the runbooks run, in a project with two versions."""

import shlex
import subprocess

import pytest

from tests import preload
from tests.conftest import clean_environment
from tests.repository.runbook_commands import all_commands

ELSEWHERE = ("docker", "kubectl")  # need an engine or a cluster; their commands inside are those of this machine
LONG = ("make ship",)  # has tests of its own

# `make` as the runbooks call it, but without an environment of its own; a machine's `python` has none of our packages.
SHELL = """
set -euo pipefail
make() {{ command make --silent --old-file=.venv/pipeline.ready PY={python} "$@"; }}
python() {{ echo "python: not that of .venv" >&2; return 1; }}
"""


@pytest.fixture(scope="module")
def shell(two):
    """Run a command line in the project, as a person types it."""
    begin = SHELL.format(python=shlex.quote(preload.python()))
    (two.root / "key").write_text("X-API-Key: none\n", encoding="utf-8")
    (two.root / "build").mkdir(exist_ok=True)
    (two.root / "build" / "rows.jsonl").touch()
    url = two.json(".slipway/production.json")["url"]

    def run(command: str) -> subprocess.CompletedProcess:
        line = begin + command.replace("http://127.0.0.1:8000", url).replace(".venv/bin/python", preload.python())
        environment = clean_environment()
        return subprocess.run(
            ["bash", "-c", line], cwd=two.root, env=environment, capture_output=True, text=True, timeout=120
        )

    return run


@pytest.mark.parametrize("command", [one for one in all_commands() if not one.startswith(ELSEWHERE) and not any(long in one for long in LONG)])  # fmt: skip
def test_a_runbook_s_command_runs(shell, command):
    """Each ends well where production serves version 2, or what an earlier command has made of it."""
    done = shell(command)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
