"""Compile the dependency groups of pyproject.toml into requirements/*.txt: exact versions with hashes, no index address.

make lock                       # what pyproject.toml asks for beyond what is locked; every other version stays
make lock UPGRADE=scikit-learn  # besides, the newest version of one package that pyproject.toml allows
make lock UPGRADE=all           # the newest versions of all
"""

import argparse
import re
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", default="", help="`all`, or the name of a package; else versions stay as they are")
    newer = upgrade(parser.parse_args(argv).upgrade)
    for group in GROUPS:
        extra = [] if group in ("dev", "installer") else ["--constraint", "requirements/dev.txt"]
        compile_group(group, [*newer, *extra])
        print(f"requirements/{group}.txt")


def upgrade(what: str) -> list[str]:
    """The options by which versions move; raises SlipwayError for a package that is locked nowhere."""
    if what in ("", "all"):
        return ["--upgrade"] if what else []
    if normal(what) not in locked():
        raise SlipwayError(
            f"{what} is in none of requirements/*.txt, so it cannot be upgraded",
            "a new package goes into a group of pyproject.toml; `make lock` then adds it",
        )
    return ["--upgrade-package", what]


def locked() -> set[str]:
    """The names of all packages in the locked files."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.txt")]
    return {normal(name) for text in texts for name in re.findall(r"^([\w.-]+)==", text, re.M)}


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def compile_group(group: str, extra: list[str]) -> None:
    """Lock one group for every platform and Python from 3.11; a version that its file has is kept unless it must move."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", "--group", group]
    command += ["--output-file", f"requirements/{group}.txt"]
    done = subprocess.run([sys.executable, "-m", *command, *extra], cwd=ROOT)
    if done.returncode:
        raise SlipwayError(f"the group {group} of pyproject.toml could not be locked", "the lines above say why")


if __name__ == "__main__":
    sys.exit(main())
