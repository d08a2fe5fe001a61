"""Target `process`: an environment is one service process on this machine, behind a proxy on the port of pipeline.toml.

A release is started beside the old one on its own port and tested there. Then the proxy is switched to it, and the old
one drains and exits. No request is lost, and a rollback only switches the proxy back.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from delivery import keys, log_command
from delivery.release import CurrentRelease, Release
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
SERVICE, PROXY = "serving", "serving.runtime.proxy"
UNNOTICED = 0.3  # seconds for connections that were already on their way to the old release
DRAIN = 35  # seconds for a service to drain and to write its log; see END in serving/runtime/workers.py


def unavailable(settings: Settings) -> str | None:
    """None: this target needs only Python and can always be used."""
    return None


def record_file(environment: str) -> Path:
    """The record of the environment's release on this machine; the proxy reads it for each connection."""
    return STATE / f"{environment}.json"


def recorded(environment: str) -> state.Serving | None:
    """The record of the last release, running or not."""
    then = f"the running service continues; `make deploy ENVIRONMENT={environment}` or `make rollback` writes it again"
    return state.read(record_file(environment), state.Serving, then)


def serving(environment: str, settings: Settings) -> CurrentRelease | None:
    """The current release; None when nothing is running."""
    record = _running_now(environment)
    return _served(environment, record) if record else None


def key(environment: str, settings: Settings) -> str:
    """Delivery's API key for the environment, "" when it is open; raises DeployError for an unusable key."""
    return keys.from_environment()


def key_in_shell(environment: str, settings: Settings) -> str:
    """How a command line reads that key, "" when none is needed."""
    return f"${keys.VARIABLE}" if keys.given() else ""


def database(environment: str) -> str:
    """The URL of the prediction log's database: the configured one, or a file of this machine that all releases share."""
    return os.environ.get(log_command.VARIABLE) or f"sqlite:///{STATE / f'predictions-{environment}.db'}"


def on_log(
    environment: str,
    settings: Settings,
    arguments: Sequence[str],
    given: bytes = b"",
    into: IO[bytes] | None = None,
) -> bytes:
    """Run `python -m` with these arguments on the prediction log, with `given` to read; return its output, or write it `into` a file. Raises DeployError."""
    return log_command.run(environment, database(environment), arguments, given, into)


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """The environment's URL, which any program on this machine can use; clients use the same."""
    yield _url(f"127.0.0.1:{settings.deploy.port(environment)}")


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> CurrentRelease:
    """Replace the current release; when that fails, restore it and raise DeployError."""
    port = settings.deploy.port(environment)
    before = _running_now(environment)
    ours = keys.ours()
    if before:  # else a running process may be the current release whose record was lost
        _end(process for process in _services(environment) if process.pid != before["pid"])
    _refuse_foreign(port, environment)
    process, address = _start(environment, release.bundle)
    try:
        _wait(process, address, environment, settings)
        smoke_test(_url(address), release.bundle, release.version, ours)
        record = _record(release, port, address, process)
        _start_proxy(environment, port)
        _switch(environment, record, before, ours)
    except BaseException:  # also KeyboardInterrupt: a failed release must not stay
        _end([process])
        raise
    _end(proxy for proxy in _proxies(environment) if proxy not in _proxies(environment, port))
    _retire(before)
    if not before:
        time.sleep(UNNOTICED)
        _end(other for other in _services(environment) if other.pid != process.pid)
    return _served(environment, record)


def holds(environment: str, settings: Settings) -> bool:
    """Whether our proxy holds the environment's port, with or without a release behind it."""
    return bool(_proxies(environment, settings.deploy.port(environment)))


def stop(environment: str) -> bool:
    """Stop the environment's processes; False when there were none."""
    found = [*_proxies(environment), *_services(environment)]
    _end(found)
    record_file(environment).unlink(missing_ok=True)
    return bool(found)


def _running_now(environment: str) -> state.Serving | None:
    """The record of the current release, while its process and its proxy are running."""
    record = recorded(environment)
    return record if record and processes.find(record) and _proxies(environment, record["port"]) else None


def _served(environment: str, record: state.Serving) -> CurrentRelease:
    return CurrentRelease(
        environment=environment,
        name=record["name"],
        version=record["version"],
        digest=record["digest"],
        image=record["image"],
        url=record["url"],
        bundle=Path(record["bundle"]),
        since=record["since"],
        port=record["port"],
        experiment=record.get("experiment", ""),
    )


def _switch(environment: str, record: state.Serving, before: state.Serving | None, ours: str) -> None:
    """Switch the proxy to a release and test through it; raises DeployError after switching back."""
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


def _retire(before: state.Serving | None) -> None:
    """Send SIGTERM to the old release; it drains and exits by itself."""
    old = processes.find(before) if before else None
    if old:
        with suppress(KeyboardInterrupt):  # the new one already serves, so finish
            time.sleep(UNNOTICED)
        old.terminate()


def _record(release: Release, port: int, address: str, process: psutil.Process) -> state.Serving:
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
        "experiment": release.experiment,
        **processes.identity(process),
    }


def _start_proxy(environment: str, port: int) -> None:
    """Start a proxy on the port, unless one runs there."""
    if _proxies(environment, port):
        return
    command = ["-m", PROXY, "--port", str(port), "--to-record", str(record_file(environment))]
    process = _python(command, environment)
    deadline = time.monotonic() + 10
    while not (processes.port_taken(port) and processes.listens(process, port)):
        if not process.is_running() or time.monotonic() > deadline:
            raise DeployError(
                f"the proxy on port {port} did not start", f"its log is {_log(environment).relative_to(ROOT)}"
            )
        time.sleep(0.02)


def _start(environment: str, bundle: Path) -> tuple[psutil.Process, str]:
    """Start a bundle's service on a free port; return the process and its HOST:PORT."""
    port = processes.free_port()
    command = ["-m", SERVICE, "--bundle", str(bundle), "--host", "127.0.0.1", "--port", str(port)]
    return _python(command, environment), f"127.0.0.1:{port}"


def _python(command: list[str], environment: str) -> psutil.Process:
    return processes.start([sys.executable, *command], _log(environment), env=_surroundings(environment), cwd=ROOT)


def _surroundings(environment: str) -> dict[str, str]:
    told = {"PYTHONPATH": str(ROOT), "SLIPWAY_DATABASE_URL": database(environment)}
    return keys.without_ours(dict(os.environ)) | told


def _wait(process: psutil.Process, address: str, environment: str, settings: Settings) -> None:
    """Wait until the service is ready; raises DeployError with the end of its log when it is too late."""
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
    """Raise DeployError when another program listens on the port."""
    if not _proxies(environment, port) and processes.port_taken(port):
        raise DeployError(
            f"port {port} for {environment} is taken by another program",
            f"end it (`make stop`, if it is another target's), or choose another in pipeline.toml [deploy] {environment}_port",
        )


def _services(environment: str) -> list[psutil.Process]:
    """All services of this environment of this repository, also those of killed deployments.

    Each is found by its supervising process, whose command line the workers share; only that process gets the signal.
    """
    folder = str(STATE / environment) + os.sep
    found = _running(SERVICE, lambda command: any(part.startswith(folder) for part in command))
    ids = {process.pid for process in found}
    return [process for process in found if process.info["ppid"] not in ids]


def _proxies(environment: str, port: int | None = None) -> list[psutil.Process]:
    """The proxies of this environment of this repository; with a port, those on it."""
    record = str(record_file(environment))
    found = _running(PROXY, lambda command: record in command)
    return [proxy for proxy in found if port is None or str(port) in proxy.info["cmdline"]]


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
