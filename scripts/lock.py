"""Compile the dependency groups of pyproject.toml into requirements/*.txt: exact versions with hashes, no index address.

make lock                       # newest versions that pyproject.toml allows
"""

import argparse
import subprocess
import sys

from pipeline.artifacts import ROOT
from pipeline.errors import SlipwayError, edge

GROUPS = (
    "dev",
    "pipeline",
    "serving",
    "serving-sklearn",
    "server",
    "relay",
    "installer",
)  # dev holds the others but the installer and the server's driver: it decides the versions


@edge
def main(argv: list[str] | None = None) -> None:
    """Write one locked file for each group; the smaller ones take the versions of the largest."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    for group in GROUPS:
        compile_group(group, [] if group in ("dev", "installer") else ["--constraint", "requirements/dev.txt"])
        print(f"requirements/{group}.txt")


def compile_group(group: str, extra: list[str]) -> None:
    """Lock one group for every platform and Python from 3.11."""
    command = ["uv", "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate"]
    command += [
        "--custom-compile-command",
        "make lock",
        "--group",
        group,
        "--output-file",
        f"requirements/{group}.txt",
    ]
    done = subprocess.run([sys.executable, "-m", *command, *extra], cwd=ROOT)
    if done.returncode:
        raise SlipwayError(f"the group {group} of pyproject.toml could not be locked", "the lines above say why")


if __name__ == "__main__":
    sys.exit(main())
