"""Dependency groups of pyproject.toml and what is locked of them in requirements/: exact versions with hashes, no index address."""

import re
import subprocess
import sys
import tomllib

from pipeline.artifacts import ROOT
from pipeline.errors import SlipwayError

# The first of these that pyproject.toml has decides the versions: a fork may do without `dev`.
GROUPS = (
    "dev",
    "test",
    "pipeline",
    "torch",
    "serving",
    "serving-sklearn",
    "serving-xgboost",
    "serving-lightgbm",
    "serving-catboost",
    "server",
    "relay",
    "audit",
    "installer",
)
# These have an environment of their own, with versions of their own: Evidently does not import beside the pandas of the others,
# and of the packages with public data nothing but the data is read, so nothing that they need is locked.
APART: dict[str, list[str]] = {"evidently": [], "streams": ["--no-deps"]}
# These files name another, and hold what they add to it.
ADDS_TO = {"test": "pipeline", "dev": "test"}
# What only the builds of PyTorch for graphics cards need is a file of its own, and torch-cpu.txt, which is kept by hand, has the other build.
GPU = re.compile(r"^(nvidia-|cuda-|triton==)")


def lock_all(newer: list[str]) -> None:
    """Write one locked file for each group; the smaller ones take the versions of the largest. `newer` are the options by which versions move."""
    largest, *smaller = groups()
    compile_group(largest, newer)
    for group in smaller:
        compile_group(group, [*newer, "--constraint", f"requirements/{largest}.txt"])
    for group in apart():
        compile_group(group, [*newer, *APART[group]])
    for group in (group for group in (largest, *smaller) if group in ADDS_TO):
        shorten(group, ADDS_TO[group])
    if "torch" in smaller:
        part_torch()


def groups() -> list[str]:
    """The groups that are locked together, the largest first."""
    return [group for group in GROUPS if group in declared()]


def apart() -> list[str]:
    """The groups that are locked each by itself."""
    return [group for group in APART if group in declared()]


def declared() -> dict:
    """The dependency groups of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]


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
    return {name for path in (ROOT / "requirements").glob("*.txt") for name in versions(path.stem)}


def versions(group: str) -> dict[str, str]:
    """The packages in a group's own file by name, each with the version that comes first there."""
    text = (ROOT / "requirements" / f"{group}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M)
    return {normal(name): version for name, version in reversed(found)}


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
    print(f"requirements/{group}.txt")


def shorten(group: str, other: str) -> None:
    """Leave out what the other group's file says, and name that file instead."""
    path = ROOT / "requirements" / f"{group}.txt"
    theirs = blocks((ROOT / "requirements" / f"{other}.txt").read_text(encoding="utf-8"))
    head, *own = blocks(path.read_text(encoding="utf-8"))
    added = "".join(block for block in own if block not in theirs)
    path.write_text(f"{head}-r {other}.txt\n{added}", encoding="utf-8")


def part_torch() -> None:
    """Leave to torch.txt what the pipeline has not, and move what graphics cards need to torch-gpu.txt."""
    folder = ROOT / "requirements"
    theirs = blocks((folder / "pipeline.txt").read_text(encoding="utf-8"))
    head, *own = blocks((folder / "torch.txt").read_text(encoding="utf-8"))
    own = [block for block in own if block not in theirs]
    for name, some in (
        ("torch", [block for block in own if not GPU.match(block)]),
        ("torch-gpu", [block for block in own if GPU.match(block)]),
    ):
        (folder / f"{name}.txt").write_text(head + "".join(some), encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The comment on top of a locked file, and each package with its hashes."""
    return re.split(r"^(?=[\w.-]+==)", text, flags=re.M)
