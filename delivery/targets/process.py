"""Target `process`: an environment is one service process on this machine, behind a door on the port of pipeline.toml.

A release is started beside the old one on a port of its own and tested there; then the door is pointed at it, and the old
one ends when its callers have left. No request is lost, and going back is pointing the door back.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from delivery import keys
from delivery.release import Release
from delivery.smoke import smoke_test
from delivery.targets.ready import answers
from pipeline import processes, state
from pipeline.artifacts import ROOT, STATE, write_json
from pipeline.errors import DeployError, SlipwayError
from pipeline.settings import Settings

NAME = "process"
WHY = "a service on this machine, which needs nothing but Python"
IMAGES = False
HERE = True
SERVICE, DOOR = "serving", "serving.runtime.proxy"
UNNOTICED = 0.3  # seconds in which a connection that was on its way to the old release arrives there
DRAIN = 35  # seconds that a service may take to let its callers go and to write its log; see END in serving/runtime/workers.py


def unavailable(settings: Settings) -> str | None:
    """Nothing is needed but Python, so this target can always be used."""
    return None


def record_file(environment: str) -> Path:
    """Where this machine remembers what serves in an environment; the door reads it for each connection."""
    return STATE / f"{environment}.json"


def recorded(environment: str) -> dict[str, Any] | None:
    """What was put into the environment last, whether it still runs or not."""
    then = f"what serves goes on; `make deploy ENVIRONMENT={environment}` or `make rollback` writes it anew"
    found = state.read(record_file(environment), state.Serving, then)
    return dict(found) if found else None


def serving(environment: str, settings: Settings) -> dict[str, Any] | None:
    """What serves in the environment now: {name, version, digest, url, bundle, since, address, pid, …}; None when nothing does."""
    record = recorded(environment)
    return record if record and processes.find(record) and _doors(environment, record["port"]) else None


def key(environment: str, settings: Settings) -> str:
    """The key with which delivery asks the environment, "" where anybody may; raises DeployError when it is of no use."""
    return keys.from_environment()


def key_in_shell(environment: str, settings: Settings) -> str:
    """How a command line gets such a key, "" where none is needed."""
    return f"${keys.VARIABLE}" if keys.given() else ""


def database(environment: str) -> str:
    """The database of the environment's prediction log: a file of this machine, kept over releases, unless one is named."""
    return os.environ.get("SLIPWAY_DATABASE_URL") or f"sqlite:///{STATE / f'predictions-{environment}.db'}"


def forget(environment: str, settings: Settings, subject: str) -> str:
    """Delete all predictions about a subject from the prediction log; what that says. Raises DeployError."""
    command = [sys.executable, "-m", "serving.log.store", "delete-subject", f"--subject={subject}"]
    surroundings = _surroundings(environment)
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = done.stderr.strip().removeprefix("error: ")
        raise DeployError(
            f"the prediction log of {environment} was not changed: {said}", "run this again when it can be"
        )
    return done.stdout.strip()


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """The environment's address, which any program on this machine can use; callers use the same."""
    yield _url(f"127.0.0.1:{settings.deploy.port(environment)}")


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> dict[str, Any]:
    """Put a release into the place of what serves; raises DeployError after restoring that when it fails."""
    port = settings.deploy.port(environment)
    before = serving(environment, settings)
    ours = keys.ours()
    if before:  # else what runs may be what serves: a record can be lost
        _end(process for process in _services(environment) if process.pid != before["pid"])
    _refuse_foreign(port, environment)
    process, address = _start(environment, release.bundle)
    try:
        _wait(process, address, environment, settings)
        smoke_test(_url(address), release.bundle, release.version, ours)
        record = _record(release, port, address, process)
        _open_door(environment, port)
        _switch(environment, record, before, ours)
    except BaseException:  # whatever it was, the keyboard included: a release that failed must not stay
        _end([process])
        raise
    _end(door for door in _doors(environment) if door not in _doors(environment, port))
    _retire(before)
    if not before:
        time.sleep(UNNOTICED)
        _end(other for other in _services(environment) if other.pid != process.pid)
    return record


def holds(environment: str, settings: Settings) -> bool:
    """Whether a door of ours stands on the environment's port, with or without a release behind it."""
    return bool(_doors(environment, settings.deploy.port(environment)))


def stop(environment: str) -> bool:
    """End what serves in the environment; False when nothing did."""
    found = [*_doors(environment), *_services(environment)]
    _end(found)
    record_file(environment).unlink(missing_ok=True)
    return bool(found)


def _switch(environment: str, record: dict[str, Any], before: dict[str, Any] | None, ours: str) -> None:
    """Point the door at a release and ask through it; raises DeployError after pointing it back."""
    write_json(record_file(environment), record)
    try:
        smoke_test(record["url"], Path(record["bundle"]), record["version"], ours)
    except BaseException as error:
        if before is None:
            record_file(environment).unlink(missing_ok=True)
            raise
        write_json(record_file(environment), before)
        if not isinstance(error, SlipwayError):
            raise
        raise DeployError(f"{error.what}; version {before['version']} was restored", error.then) from error


def _retire(before: dict[str, Any] | None) -> None:
    """Tell the old release to end; it does so by itself when its callers have left."""
    old = processes.find(before) if before else None
    if old:
        with suppress(KeyboardInterrupt):  # the new one serves: what is begun is finished
            time.sleep(UNNOTICED)
        old.terminate()


def _record(release: Release, port: int, address: str, process: psutil.Process) -> dict[str, Any]:
    return {
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "image": None,
        "url": _url(f"127.0.0.1:{port}"),
        "port": port,
        "address": address,
        "bundle": str(release.bundle),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        **processes.identity(process),
    }


def _open_door(environment: str, port: int) -> None:
    """Have a door on the port; one that stands there already stays."""
    if _doors(environment, port):
        return
    command = ["-m", DOOR, "--port", str(port), "--to-record", str(record_file(environment))]
    process = _python(command, environment)
    deadline = time.monotonic() + 10
    while not (processes.port_taken(port) and processes.listens(process, port)):
        if not process.is_running() or time.monotonic() > deadline:
            raise DeployError(
                f"the door on port {port} did not open", f"its log is {_log(environment).relative_to(ROOT)}"
            )
        time.sleep(0.02)


def _start(environment: str, bundle: Path) -> tuple[psutil.Process, str]:
    """Start the service of a bundle on a free port; the process and its HOST:PORT."""
    port = processes.free_port()
    command = ["-m", SERVICE, "--bundle", str(bundle), "--host", "127.0.0.1", "--port", str(port)]
    return _python(command, environment), f"127.0.0.1:{port}"


def _python(command: list[str], environment: str) -> psutil.Process:
    return processes.start([sys.executable, *command], _log(environment), env=_surroundings(environment), cwd=ROOT)


def _surroundings(environment: str) -> dict[str, str]:
    told = {"PYTHONPATH": str(ROOT), "SLIPWAY_DATABASE_URL": database(environment)}
    return keys.without_ours(dict(os.environ)) | told


def _wait(process: psutil.Process, address: str, environment: str, settings: Settings) -> None:
    """Wait until the service is ready; raises DeployError with the end of its log when it is not in time."""
    print(f"waiting until the service for {environment} is ready at {address}", flush=True)
    deadline = time.monotonic() + settings.deploy.ready_seconds
    while not answers(_url(address)):
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


def _refuse_foreign(port: int, environment: str) -> None:
    """Refuse a port on which somebody else's program listens."""
    if not _doors(environment, port) and processes.port_taken(port):
        raise DeployError(
            f"port {port} for {environment} is taken by another program",
            f"end it (`make stop`, if it is another target's), or choose another in pipeline.toml [deploy] {environment}_port",
        )


def _services(environment: str) -> list[psutil.Process]:
    """Every service of this environment of this repository, also one whose deployment was killed half-way.

    Each by the process that minds its workers, for they have its command line: it alone is told to end.
    """
    folder = str(STATE / environment) + os.sep
    found = _running(SERVICE, lambda command: any(part.startswith(folder) for part in command))
    ids = {process.pid for process in found}
    return [process for process in found if process.info["ppid"] not in ids]


def _doors(environment: str, port: int | None = None) -> list[psutil.Process]:
    """The doors of this environment of this repository, those on a port, if one is given."""
    record = str(record_file(environment))
    found = _running(DOOR, lambda command: record in command)
    return [door for door in found if port is None or str(port) in door.info["cmdline"]]


def _running(module: str, ours) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status", "ppid"]):
        command = process.info["cmdline"] or []
        if module in command and ours(command) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _end(found) -> None:
    for process in found:
        processes.stop(process, DRAIN)


def _log(environment: str) -> Path:
    return STATE / "logs" / f"{environment}.log"


def _url(address: str) -> str:
    return f"http://{address}"
