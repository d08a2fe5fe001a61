"""Copy the repository as "Use this template" does, and run there what a fork runs first:

    make try-fork

The copy holds what is committed, in one commit without history, and makes an environment of its own. It takes other
ports where the default ones are taken. It is removed at the end.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from delivery.drill.ports import replace_taken_ports
from pipeline.artifacts import ROOT
from pipeline.errors import SlipwayError, edge

FIRST_HOUR = (
    ["ship"],
    ["status"],
    ["ship"],  # with nothing new: production is kept
    ["rehearse"],
    ["rollback", "ENVIRONMENT=staging", "VERSION=1"],
    ["stop"],
)
AUTHOR = ["-c", "user.name=fork", "-c", "user.email=fork@example.com"]


@edge
def main(argv: list[str] | None = None) -> None:
    """Run each verb in the copy; raises SlipwayError with the one that failed."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fork-") as folder:
        fork = Path(folder) / "our model"
        copy(ROOT, fork)
        try:
            for verb in FIRST_HOUR:
                run(fork, verb)
        finally:
            subprocess.run(["make", "--silent", "stop"], cwd=fork, capture_output=True)
    print("a fork works")


def copy(source: Path, fork: Path) -> None:
    """Make a repository of one commit from what is committed in another."""
    fork.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=source, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], input=archive, cwd=fork, check=True)
    replace_taken_ports(fork)
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        [*AUTHOR, "commit", "--quiet", "--message", "Initial commit"],
    ):
        subprocess.run(["git", *command], cwd=fork, check=True)


def run(fork: Path, verb: list[str]) -> None:
    """Run one verb in the fork; what it prints is shown as it comes."""
    print(f"--- make {' '.join(verb)}", flush=True)
    if subprocess.run(["make", "--no-print-directory", *verb], cwd=fork).returncode:
        raise SlipwayError(f"`make {' '.join(verb)}` failed in a copy of this repository", "its words are above")


if __name__ == "__main__":
    sys.exit(main())
