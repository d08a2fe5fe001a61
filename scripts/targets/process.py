"""Target `process`: an environment is one service process on this machine, on the port that pipeline.toml gives it.

A release is started beside the old one on a free port and tested there; only then it takes the place. What served before
is restored when the new one does not become ready or fails its smoke test on the real port.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from pipeline import processes
from pipeline.artifacts import ROOT, STATE, read_json, write_json
from pipeline.errors import DeployError, SlipwayError
from pipeline.settings import Settings
from scripts.smoke_test import smoke_test

NAME = "process"
WHY = "a service on this machine, which needs nothing but Python"
SERVICE = "serving"


def unavailable(settings: Settings) -> str | None:
    """Nothing is needed but Python, so this target can always be used."""
    return None


def record_file(environment: str) -> Path:
    """Where this machine remembers what serves in an environment."""
    return STATE / f"{environment}.json"


def recorded(environment: str) -> dict[str, Any] | None:
    """What was put into the environment last, whether it still runs or not."""
    try:
        return json.loads(record_file(environment).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def serving(environment: str) -> dict[str, Any] | None:
    """What serves in the environment now: {version, url, bundle, digest, pid, created, since}; None when nothing does."""
    record = recorded(environment)
    return record if record and processes.find(record) else None


def release(environment: str, bundle: Path, settings: Settings) -> dict[str, Any]:
    """Put a bundle into the place of what serves; raises DeployError after restoring that when it fails."""
    port = settings.deploy.port(environment)
    before = serving(environment)
    _end(process for process in _services(environment) if not before or process.pid != before["pid"])
    _refuse_foreign(port, environment, before)
    version = read_json(bundle / "release.json")["version"]

    if before:  # with nothing to protect, its own port is as good a place to be tested as any
        _try(environment, bundle, version, settings)
    _end(_services(environment))
    try:
        return _serve(environment, bundle, port, settings)
    except BaseException as error:  # whatever it was, the keyboard included: production must not stay down
        _end(_services(environment))
        if before is None:
            raise
        _restore(environment, before, settings, error)
        if not isinstance(error, SlipwayError):
            raise
        raise DeployError(f"{error.what}; version {before['version']} was restored", error.then) from error


def stop(environment: str) -> bool:
    """End what serves in the environment; False when nothing did."""
    found = _services(environment)
    _end(found)
    record_file(environment).unlink(missing_ok=True)
    return bool(found)


def _restore(environment: str, before: dict[str, Any], settings: Settings, cause: BaseException) -> None:
    """Serve what served before; raises DeployError that names both causes when that fails too."""
    try:
        _serve(environment, Path(before["bundle"]), before["port"], settings)
    except SlipwayError as error:
        raise DeployError(
            f"{cause}; and version {before['version']} could not be restored, so that {environment} serves nothing: "
            f"{error.what}",
            f"mend that, then `make rollback ENVIRONMENT={environment} VERSION={before['version']}`",
        ) from cause


def _try(environment: str, bundle: Path, version: str, settings: Settings) -> None:
    """Start the release on a free port, replay its golden predictions there, and end it."""
    port = processes.free_port()
    process = _start(environment, bundle, port)
    try:
        _wait(process, port, environment, settings)
        smoke_test(_url(port), bundle, version)
    finally:
        processes.stop(process)


def _serve(environment: str, bundle: Path, port: int, settings: Settings) -> dict[str, Any]:
    """Start a release on the environment's own port, test it there, and remember it."""
    process = _start(environment, bundle, port)
    _wait(process, port, environment, settings)
    released = read_json(bundle / "release.json")
    smoke_test(_url(port), bundle, released["version"])
    record = {
        "name": released["name"],
        "version": released["version"],
        "digest": released["digest"],
        "url": _url(port),
        "port": port,
        "bundle": str(bundle),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        **processes.identity(process),
    }
    write_json(record_file(environment), record)
    return record


def _start(environment: str, bundle: Path, port: int) -> psutil.Process:
    command = [
        sys.executable,
        "-m",
        SERVICE,
        "--bundle",
        str(bundle),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    return processes.start(command, _log(environment), env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT)


def _wait(process: psutil.Process, port: int, environment: str, settings: Settings) -> None:
    """Wait until the service is ready; raises DeployError with the end of its log when it is not in time."""
    print(f"waiting until the service for {environment} is ready on port {port}", flush=True)
    deadline = time.monotonic() + settings.deploy.ready_seconds
    while not _ready(port):
        ended = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        if ended or time.monotonic() > deadline:
            if not ended:
                processes.stop(process)
            lines = _log(environment).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            how = "ended" if ended else f"was not ready within {settings.deploy.ready_seconds:g} s"
            raise DeployError(
                f"the service for {environment} {how}: {lines[-1] if lines else 'it wrote nothing'}",
                f"its log is {_log(environment).relative_to(ROOT)}",
            )
        time.sleep(0.05)


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"{_url(port)}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False


def _refuse_foreign(port: int, environment: str, before: dict[str, Any] | None) -> None:
    """Refuse a port on which somebody else's program listens."""
    if (before is None or before["port"] != port) and processes.port_taken(port):
        raise DeployError(
            f"port {port} for {environment} is taken by another program",
            f"end it, or choose another port in pipeline.toml [deploy] {environment}_port",
        )


def _services(environment: str) -> list[psutil.Process]:
    """Every service process of this environment of this repository, also one whose deployment was killed half-way."""
    folder = str(STATE / environment) + os.sep
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if SERVICE in command and any(part.startswith(folder) for part in command):
            found.append(process)
    return found


def _end(found) -> None:
    for process in found:
        processes.stop(process)


def _log(environment: str) -> Path:
    return STATE / "logs" / f"{environment}.log"


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
