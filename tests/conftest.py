"""Fixtures for tests that use the template as a fork does: in a copy of its own, through its commands."""

import compileall
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from json import loads
from pathlib import Path

import pytest

from dev import recipes
from pipeline.processes import port_taken
from tests import preload, tools

ROOT = Path(__file__).resolve().parent.parent
# The order of the folders: what takes long begins first, so that no process still works on it when the others have ended.
SLOWEST_FIRST = ("e2e", "spine", "scripts", "delivery", "dev", "monitoring", "serving", "pipeline", "repository")
LEFT_OUT = (
    ".git",
    ".venv",
    "build",
    ".mlflow",
    ".slipway",
    "backups",
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
    ".coverage*",  # comes and goes while other tests measure themselves
)


def pytest_configure(config: pytest.Config) -> None:
    """Have what is started hundreds of times compiled once, here and in every process that a test starts."""
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not hasattr(config, "workerinput"):  # forks are copied with what is compiled here
        for folder in ("pipeline", "delivery", "serving", "scripts"):
            compileall.compile_dir(ROOT / folder, quiet=2)
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # `make` in a test is not one that `make test` calls
        os.environ.pop(name, None)


@pytest.hookimpl(optionalhook=True)  # `make integration` starts pytest without plugins
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: some test always waits for what it has started."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take long first."""
    items.sort(key=lambda item: _place(item.path.relative_to(ROOT).parts))


def _place(parts: tuple[str, ...]) -> int:
    return SLOWEST_FIRST.index(parts[1]) if parts[1] in SLOWEST_FIRST else len(SLOWEST_FIRST)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by the tools of its fixtures, and as quick where it ships nothing."""
    quick, others = _quick()
    if item.nodeid.startswith(quick) and not item.nodeid.startswith(others):
        item.add_marker(pytest.mark.quick)
    for fixture in tools.OF_FIXTURES.keys() & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.needs(tools.OF_FIXTURES[fixture]))


@cache
def _quick() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `make unit` runs, and what of it ships all the same, by the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    quick, others = (
        re.search(pattern, text, re.M)[1].split() for pattern in (r"^UNIT := \$\(wildcard (.+?)\)", r"^SHIP := (.+)$")
    )
    return tuple(quick), tuple(f"tests/serving/{name}.py" for name in others)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test where a tool that it needs is missing, before any of its fixtures is made."""
    tools.require(*tools.needed(item))


@dataclass(frozen=True)
class Fork:
    """A copy of the template in a folder of its own, with ports of its own."""

    root: Path

    def run(self, *arguments: str, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess:
        """Run one of its commands, as its Makefile would, in a process that need not make the heavy imports again."""
        return subprocess.run(
            [preload.python(), *arguments],
            cwd=self.root,
            env=clean_environment() | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start one of its commands and go on; whoever kills the process kills the command."""
        return subprocess.Popen(
            [preload.python(), *arguments],
            cwd=self.root,
            env=clean_environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ok(self, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a command that must end red with a message and no traceback; return the message."""
        done = self.run(*arguments, **environment)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        assert "Traceback" not in said, said
        assert "error: " in said, said
        return said

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that must be there."""
        path = self.root / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        """Write one of its files."""
        (self.root / file).write_text(text, encoding="utf-8")

    def json(self, file: str) -> dict:
        """One of its JSON files."""
        return loads((self.root / file).read_text(encoding="utf-8"))

    def mlflow(self):
        """A client of its MLflow, whatever server another test made the default of this process."""
        from mlflow import MlflowClient

        uri = self.json(".mlflow/server.json")["uri"]
        return MlflowClient(uri, uri)

    def status(self) -> dict[str, dict]:
        """What `make status` says, by environment."""
        rows = loads(self.ok("-m", "scripts.status", "--json"))["environments"]
        return {row["environment"]: row for row in rows}


def clean_environment() -> dict[str, str]:
    """Our environment without what would lead a fork to somebody else's server or containers, or its make to our arguments."""
    ours = ("SLIPWAY_", "MLFLOW_TRACKING", "GITHUB_", "IMAGE_REPOSITORY", "MAKE", "MFLAGS")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return kept | {"SLIPWAY_NETWORK": tools.NETWORK}


def as_shipped(root: Path) -> None:
    """Put the shipped example in the place of the team's own files, so that these tests say the same in every fork."""
    from sklearn.datasets import load_breast_cancer

    for folder in ("project", "data"):
        shutil.rmtree(root / folder, ignore_errors=True)
    shutil.copytree(ROOT / "tests" / "example", root, dirs_exist_ok=True)
    (root / "data").mkdir()
    cells = load_breast_cancer(as_frame=True)
    frame = cells.data.rename(columns=lambda name: name.replace(" ", "_"))
    frame.insert(0, "id", [f"wdbc-{row:04d}" for row in range(1, len(frame) + 1)])
    frame["diagnosis"] = cells.target_names[cells.target]
    frame.to_csv(root / "data" / "breast_cancer.csv", index=False)


@cache
def _ports_of_forks() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = list(range(10_000, 20_000))[worker % 16 :: 16]
    return iter(random.sample(ports, len(ports)))


def port_of_a_fork() -> int:
    """A port that no other fork has, in this worker or another, and that free_port() gives to nobody: a fork listens on it only later."""
    return next(port for port in _ports_of_forks() if not port_taken(port))


@contextmanager
def forked(folder: Path, recipe: str = "") -> Iterator[Fork]:
    """Copy what belongs to the template, under a name with a space and letters beyond ASCII; stop its processes at the end.

    With the name of a recipe of examples/, its files are in the place of the shipped example's.
    """
    preload.python()  # now, not within what a test measures
    root = folder / "größere Gabel"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
    as_shipped(root)
    if recipe:
        recipes.lay(recipe, root)
    fork = Fork(root)
    for key, port in (
        ("staging_port = 8001", "staging_port"),
        ("production_port = 8000", "production_port"),
        ("port = 5000", "port"),
    ):
        fork.edit("pipeline.toml", key, f"{port} = {port_of_a_fork()}")
    fork.edit("pipeline.toml", 'target = "auto" ', 'target = "process" ')  # the same on every machine
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "fork"]):
        subprocess.run([*git, *command], cwd=root, check=True, capture_output=True)
    try:
        yield fork
    finally:
        fork.run("-m", "scripts.stop")


@contextmanager
def copied(stopped: Path, folder: Path) -> Iterator[Fork]:
    """Copy a fork whose processes were stopped, with its MLflow, and start them on ports of its own; stop them at the end."""
    preload.python()  # now, not within what a test measures
    root = folder / "größere Gabel"
    shutil.copytree(stopped, root)
    fork = Fork(root)
    settings = (root / "pipeline.toml").read_text(encoding="utf-8")
    fork.write(
        "pipeline.toml", re.sub(r"(?m)^((\w+_)?port) = \d+", lambda found: f"{found[1]} = {port_of_a_fork()}", settings)
    )
    try:
        fork.ok("-m", "scripts.mlflow.start_mlflow")
        yield fork
    finally:
        fork.run("-m", "scripts.stop")


@pytest.fixture(scope="module")
def fork(tmp_path_factory) -> Iterator[Fork]:
    """A fresh fork for all tests of a module."""
    with forked(tmp_path_factory.mktemp("fork")) as made:
        yield made


@pytest.fixture
def new_fork(tmp_path_factory) -> Iterator[Callable[[], Fork]]:
    """Make forks that live for one test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(forked(tmp_path_factory.mktemp("fork")))
