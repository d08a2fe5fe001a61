"""Runs the docker command and its compose plugin on monitoring/compose.yaml, and turns failures into messages."""

import json
import os
import shutil
import subprocess

from delivery.targets import docker as target
from pipeline.artifacts import ROOT
from pipeline.errors import OneHostError

FOLDER = ROOT / "monitoring"
PASSWORDS = (
    "SLIPWAY_POSTGRES_PASSWORD",
    "SLIPWAY_GRAFANA_PASSWORD",
    "SLIPWAY_MLFLOW_ADMIN_PASSWORD",
    "SLIPWAY_MLFLOW_SECRET_KEY",  # MLflow's key for its forms (CSRF)
    "SLIPWAY_MLFLOW_WEBHOOK_KEY",
)
INSTALL = "https://docs.docker.com/engine/install/"


def docker(*arguments: str, timeout: float | None = None, **options) -> subprocess.CompletedProcess:
    """Run `docker`; output is captured unless `options` say otherwise, and standard input is closed."""
    silent = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    text = {"encoding": "utf-8", "errors": "replace"}
    options = {"capture_output": True} | silent | text | options
    return subprocess.run(["docker", *arguments], cwd=ROOT, timeout=timeout, **options)


def compose(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Run `docker compose` on our compose file, which finds the prediction log by the name that the target gives its volume."""
    given = options.get("env", os.environ)
    options["env"] = {"SLIPWAY_LOG_VOLUME": target.log_volume("production"), **given}
    return docker("compose", "--file", str(FOLDER / "compose.yaml"), *arguments, **options)


def done(process: subprocess.CompletedProcess, what: str, then: str) -> str:
    """The standard output of a successful process; raises OneHostError with its last line otherwise."""
    if process.returncode:
        raise OneHostError(f"{what}: {last_line(process.stderr)}", then)
    return process.stdout


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"


def require_engine() -> None:
    """Raise OneHostError unless a Docker engine responds and the compose plugin is installed."""
    if not shutil.which("docker"):
        raise OneHostError(
            "there is no `docker` command here", f"install Docker Engine with its compose plugin: {INSTALL}"
        )
    try:
        version = docker("version", "--format", "{{.Server.Version}}", timeout=30)
    except subprocess.TimeoutExpired:
        raise OneHostError(
            "the Docker engine does not answer", "see whether it is busy, or DOCKER_HOST is wrong"
        ) from None
    if "permission denied" in version.stderr:
        raise OneHostError(
            "this account may not use the Docker engine", "add it to the group docker, then log in again"
        )
    done(
        version, "no Docker engine answers", "start it (systemctl start docker, or Docker Desktop), then run this again"
    )
    if docker("compose", "version").returncode:
        raise OneHostError("Docker's compose plugin is missing", f"install docker-compose-plugin: {INSTALL}")


def described() -> dict:
    """The configuration as compose resolves it from the file, monitoring/.env and the environment.

    Raises OneHostError, also when `make up` was never run here.
    """
    if not (FOLDER / ".env").exists() and not all(name in os.environ for name in PASSWORDS):
        raise OneHostError("there is no MLflow of `make up` here: monitoring/.env is missing", "`make up` makes it")
    text = done(
        compose("config", "--format", "json"),
        "monitoring/compose.yaml cannot be read with what is set",
        "correct monitoring/.env or the environment; docs/one-host.md lists what may be set",
    )
    return json.loads(text)


def without_passwords() -> dict[str, str]:
    """An environment with which compose can list and stop containers even when monitoring/.env was lost."""
    return os.environ | dict.fromkeys(PASSWORDS, "-")


def containers() -> dict[str, dict]:
    """The engine's description of each of our containers, by service."""
    said = compose("--profile", "*", "ps", "--all", "--quiet", env=without_passwords())
    ids = done(said, "the engine does not list its containers", "see `docker compose ls`").split()
    found = json.loads(docker("inspect", *ids).stdout) if ids else []
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}


def published(container: dict) -> set[int]:
    """The ports of this host that a container publishes."""
    bindings = (container["NetworkSettings"]["Ports"] or {}).values()
    return {int(binding["HostPort"]) for group in bindings for binding in group or []}
