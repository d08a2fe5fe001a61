"""Processes that outlive the command that started them, and the locks between two commands."""

import errno
import fcntl
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psutil

from pipeline import state
from pipeline.artifacts import STATE
from pipeline.errors import BusyError

# Below the ephemeral ports of outgoing connections, which would take a port before its service listens.
PORTS = range(20_000, 32_768)


def start(command: list[str], log: Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> psutil.Process:
    """Start a command in its own session, with its output appended to `log`; it continues when we exit."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
    return psutil.Process(child.pid)


def identity(process: psutil.Process) -> state.Process:
    """Identify a process uniquely: a process id alone is reused."""
    found = {"pid": process.pid, "created": process.create_time(), **_since_boot(process)}
    return cast(state.Process, found)


def _since_boot(process: psutil.Process) -> dict[str, Any]:
    """A process's start in seconds since boot, and which boot; on Linux its time of day changes with the clock. Else nothing."""
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_bytes()
        # Before the last bracket is the process name, which may contain anything.
        ticks = int(stat.rpartition(b")")[2].split()[19])
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"after_boot": ticks / os.sysconf("SC_CLK_TCK"), "boot": boot}
    except (OSError, ValueError, IndexError):
        return {}


def find(record: Mapping[str, Any]) -> psutil.Process | None:
    """The running process that `identity` describes, or None when it has exited."""
    try:
        process = psutil.Process(int(record["pid"]))
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return None
        now = _since_boot(process)
        if "after_boot" in record and now:
            return process if all(record[key] == now[key] for key in now) else None
        return process if abs(process.create_time() - record["created"]) < 1 else None
    except (psutil.NoSuchProcess, KeyError):
        return None


def listens(process: psutil.Process, port: int) -> bool:
    """Whether this process, or one that it started, listens on a port; True when the system does not tell."""
    try:
        every = [process, *process.children(recursive=True)]
        open_ports = [
            one.laddr.port for each in every for one in each.net_connections("tcp") if one.status == psutil.CONN_LISTEN
        ]
        return port in open_ports
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def stop(process: psutil.Process, grace_seconds: float = 10) -> None:
    """Terminate a process, wait, and kill it when it does not exit."""
    try:
        process.terminate()
        if not _ends_within(process, grace_seconds):
            process.kill()
            _ends_within(process, 5)
    except psutil.NoSuchProcess:
        pass


def _ends_within(process: psutil.Process, seconds: float) -> bool:
    """Wait for the exit. A zombie counts as exited: some init processes take seconds to reap it."""
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def port_taken(port: int) -> bool:
    """Whether something listens on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A free port, chosen at random; raises OSError when a hundred tries fail."""
    for port in secrets.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, f"no free port found from {PORTS.start} to {PORTS.stop - 1}")


@contextmanager
def lock(name: str, holder: str, wait_seconds: float = 0) -> Iterator[int]:
    """Hold .slipway/NAME.lock, which the system frees when the process exits for any reason.

    Yields the lock's file descriptor: a child that inherits it keeps the lock when we are killed. A waiting process
    prints the holder's name; raises BusyError, which names the holder, when the lock is still held after
    `wait_seconds`.
    """
    path = STATE / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    told = False
    with path.open("a+", encoding="utf-8") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError(_who(path), "wait until it has ended, then run this again") from None
                if not told and deadline - time.monotonic() < wait_seconds - 1:
                    print(f"waiting: {_who(path)}", flush=True)
                    told = True
                time.sleep(0.1)
        file.truncate(0)
        file.write(json.dumps({"holder": holder, "pid": os.getpid(), "since": time.strftime("%H:%M:%S")}))
        file.flush()
        yield file.fileno()


def _who(path: Path) -> str:
    held = state.read(path, state.Holder, "who holds it is not known")
    if held is None:
        return "another command is at work here"
    return f"`{held['holder']}` is at work here (process {held['pid']}, since {held['since']})"
