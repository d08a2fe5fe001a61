"""Load on a server: as much as it takes (wrk), and requests at a fixed rate (open loop)."""

import gc
import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.benchmarks.environments import CACHE
from dev.benchmarks.timing import percentile
from pipeline.errors import SlipwayError

WRK_PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")
TIMEOUT = 60  # seconds until wrk counts a request as lost
# Bodies are made once: a request is then a look into a table, and wrk stays far faster than any server in Python.
SCRIPT = """
local bodies = { %(bodies)s }
local headers = { %(headers)s }
local requests, place = {}, 0
function init(args)
  for i, body in ipairs(bodies) do requests[i] = wrk.format("POST", "%(path)s", headers, body) end
end
function request()
  place = place %% #requests + 1
  return requests[place]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %%d, "seconds": %%f, "bad": %%d, "lost": %%d, "p50_us": %%f, "p99_us": %%f}\\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """What a server bore: requests per second, latencies in microseconds, and why the figures say nothing, if they do not."""

    rate: float
    p50: float
    p99: float
    invalid: str = ""


def find_wrk(named: Path | None) -> Path:
    """The wrk to use: the one named, the one on PATH, or Debian's, unpacked into the cache; raises SlipwayError."""
    if named:
        if not os.access(named, os.X_OK):
            raise SlipwayError(f"{named} is no program that can be run", "name wrk's own file: --wrk /path/to/wrk")
        return named
    if found := shutil.which("wrk"):
        return Path(found)
    folder = CACHE / "wrk"
    wrk = folder / "usr" / "bin" / "wrk"
    if not wrk.is_file():
        _unpack_wrk(folder)
    return wrk


def _unpack_wrk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        _debian(["apt-get", "download", *WRK_PACKAGES], place)
        for package in Path(place).glob("*.deb"):
            _debian(["dpkg", "-x", str(package), str(folder)], place)


def _debian(command: list[str], place: str) -> None:
    then = "install wrk (https://github.com/wg/wrk), or name it: make bench ARGS='--only serving --wrk /path/to/wrk'"
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    except FileNotFoundError:
        raise SlipwayError("wrk, which makes the load, is not on PATH", then) from None
    if done.returncode:
        raise SlipwayError(f"wrk is not on PATH, and {command[0]} says: {done.stderr.strip()[-300:]}", then)


def closed_loop(
    wrk: Path,
    port: int,
    requests: Sequence[tuple[str, bytes, dict[str, str]]],
    connections: int,
    seconds: float,
    core: int,
) -> Load:
    """Send these requests in turn, each as soon as the one before on its connection is answered, from one core."""
    path, _, headers = requests[0]
    script = SCRIPT % {
        "bodies": ", ".join(f"[==[{body.decode()}]==]" for _, body, _ in requests),
        "headers": ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items()),
        "path": path,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = [str(wrk), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT}s"]
        command += ["--latency", "-s", file.name, f"http://127.0.0.1:{port}"]
        done = _on_core(core, command, _libraries(wrk))
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise SlipwayError(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}") from None
    return Load(said["requests"] / said["seconds"], said["p50_us"], said["p99_us"], _invalid(said))


def _invalid(said: dict) -> str:
    if said["bad"] or said["lost"]:
        return f"{said['bad']} answers without success and {said['lost']} lost connections"
    return "" if said["requests"] else "no request was answered"


def _on_core(core: int, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.run(command, capture_output=True, text=True, env=environment)
    finally:
        os.sched_setaffinity(0, own)


def _libraries(wrk: Path) -> dict[str, str]:
    """The environment in which an unpacked wrk finds the libraries beside it."""
    folders = [str(file.parent) for file in wrk.parent.parent.glob("lib/*/libluajit*")] if CACHE in wrk.parents else []
    return dict(os.environ) | ({"LD_LIBRARY_PATH": ":".join(sorted(set(folders)))} if folders else {})


def open_loop(
    port: int,
    requests: Sequence[tuple[str, bytes, dict[str, str]]],
    rate: float,
    seconds: float,
    connections: int,
    core: int,
) -> Load:
    """Send so many requests per second, whether the server keeps up or not; latency counts from when each was due.

    It spins on its core, because a timer that is late would be counted as the server's latency.
    """
    raw = [_raw(port, *one) for one in requests]
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    gc.collect()
    gc.disable()
    try:
        with _Connections(port, connections) as opened:
            return _paced(opened, raw, rate, max(1, round(rate * seconds)))
    finally:
        gc.enable()
        os.sched_setaffinity(0, own)


def _raw(port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode() + body


class _Connections:
    """Open connections of which each carries one request at a time."""

    def __init__(self, port: int, number: int):
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        self._poll = select.epoll()
        for one in self._sockets:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
            self._poll.register(one, select.EPOLLIN)
        self._of = {one.fileno(): one for one in self._sockets}
        self._got = dict.fromkeys(self._of, b"")
        self.idle = deque(self._of)

    def __enter__(self) -> "_Connections":
        return self

    def __exit__(self, *_) -> None:
        self._poll.close()
        for one in self._sockets:
            one.close()

    def send(self, message: bytes) -> int:
        """Send on an idle connection and return it."""
        place = self.idle.popleft()
        self._of[place].sendall(message)
        return place

    def answered(self) -> list[tuple[int, bool]]:
        """The connections whose answer is whole by now, and whether it was 200; raises ConnectionError."""
        found = []
        for place, _ in self._poll.poll(0):
            data = self._of[place].recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed a connection")
            self._got[place] += data
            head, end, body = self._got[place].partition(b"\r\n\r\n")
            if end and len(body) >= _length(head):
                found.append((place, head.startswith(b"HTTP/1.1 200")))
                self._got[place] = b""
                self.idle.append(place)
        return found


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    raise ConnectionError("an answer does not say how long it is")


def _paced(opened: _Connections, raw: list[bytes], rate: float, total: int) -> Load:
    due: dict[int, float] = {}
    latencies: list[float] = []
    sent = bad = 0
    begin = now = time.perf_counter()
    deadline = begin + 2 * total / rate + 5
    try:
        while len(latencies) < total and now < deadline:
            while sent < total and opened.idle and begin + sent / rate <= now:
                due[opened.send(raw[sent % len(raw)])] = begin + sent / rate
                sent += 1
            for place, good in opened.answered():
                latencies.append((time.perf_counter() - due[place]) * 1e6)
                bad += not good
            now = time.perf_counter()
    except OSError as error:
        return Load(0, 0, 0, str(error))
    if not latencies:
        return Load(0, 0, 0, "no request was answered")
    reached = len(latencies) / (now - begin)
    invalid = f"{bad} answers without success" if bad else ""
    if len(latencies) < total or now - begin > total / rate + 1:  # its queue grows: latency would only say for how long
        invalid = f"{reached:.0f} of {rate:.0f} requests per second were answered"
    return Load(reached, percentile(latencies, 0.5), percentile(latencies, 0.99), invalid)
