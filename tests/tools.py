"""Tools that a machine may lack. A test that needs one is marked `needs`, and skipped by the tool's name where it is missing.

A fixture that has a tool says so in OF_FIXTURES: every test that uses it is marked, too. So `-m needs` selects all of them.
"""

import os
import shutil
import subprocess
import uuid
from functools import cache
from pathlib import Path

import pytest
import requests

REGISTRY = os.environ.get(
    "SLIPWAY_TEST_REGISTRY", "127.0.0.1:5050"
)  # host:port of one that takes images without log-in
NETWORK = f"slipway-test-{uuid.uuid4().hex[:8]}"  # of this process alone: others may test on the same Docker engine
OF_FIXTURES = {
    "engine": "engine",
    "registry": "registry",
    "cluster": "kubectl",
    "runtimes": "node",
    "window": "browser",
    "own_registry": "docker-registry",
}


def program(name: str, *further: Path) -> str | None:
    """Where a program is, on PATH or in one of these folders; None where it is not."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, further)]))


def postgres_folders() -> list[Path]:
    """Where Debian keeps PostgreSQL's own programs, away from PATH; its client `psql` is there."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin")) if program("psql") else []


def alertmanager() -> str | None:
    """Where Alertmanager is, by its own name or by Debian's."""
    return program("alertmanager") or program("prometheus-alertmanager")


def _runs(*command: str) -> bool:
    return program(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def _engine_answers() -> bool:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=60)
        client.ping()
        client.close()
    except DockerException:
        return False
    return True


def _registry_answers() -> bool:
    try:
        return requests.get(f"http://{REGISTRY}/v2/", timeout=3).ok
    except requests.RequestException:
        return False


THERE = {
    "alertmanager": alertmanager,
    "browser": lambda: (program("chromium") or program("google-chrome")) and program("chromedriver"),
    "buildx": lambda: _runs("docker", "buildx", "version"),
    "compose": lambda: _runs("docker", "compose", "version"),
    "curl": lambda: program("curl"),
    "docker": lambda: program("docker"),
    "docker-registry": lambda: program("docker-registry"),
    "engine": _engine_answers,
    "evidently": lambda: (Path(__file__).resolve().parent.parent / ".venv" / "evidently.ready").exists(),
    "java": lambda: program("java"),
    "kubectl": lambda: program("kubectl"),
    "node": lambda: program("node") and program("npm"),
    "postgres": lambda: program("initdb", *postgres_folders()) and program("pg_ctl", *postgres_folders()),
    "prometheus": lambda: program("prometheus"),
    "promtool": lambda: program("promtool"),
    "registry": _registry_answers,
    "setpriv": lambda: program("setpriv"),
}
WORDS = {
    "browser": "a browser (chromium or google-chrome) and chromedriver are not both on this machine",
    "buildx": "Docker's buildx plugin is missing",
    "compose": "Docker's compose plugin is missing",
    "docker": "there is no `docker` command",
    "engine": "no Docker engine answers",
    "evidently": "Evidently is not installed: make .venv/evidently.ready",
    "kubectl": "kubectl is not on this machine: https://kubernetes.io/docs/tasks/tools",
    "node": "Node and npm are not both on this machine",
    "postgres": "PostgreSQL's server is not installed",
    "promtool": "promtool, which comes with Prometheus, is not installed",
    "registry": f"no image registry answers at {REGISTRY}; SLIPWAY_TEST_REGISTRY names one (host:port)",
}


@cache
def missing(tool: str) -> str | None:
    """Why a tool cannot be used here, in words; None when it can. Looked at once: a machine does not change meanwhile."""
    return None if THERE[tool]() else WORDS.get(tool, f"{tool} is not installed")


def require(*tools: str) -> None:
    """Skip the test that runs unless this machine has all of these tools."""
    for why in filter(None, map(missing, tools)):
        pytest.skip(why)


def needed(item: pytest.Item) -> list[str]:
    """The tools that a test needs, by its marks."""
    return [tool for mark in item.iter_markers("needs") for tool in mark.args]
