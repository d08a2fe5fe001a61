"""Load on a server: as much as it takes (wrk), and requests at a fixed rate (the generator of `make load`)."""

import gc
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delivery.load import generator
from delivery.load.generator import Client, Measured, event_loop, read_address
from dev.benchmarks.environments import CACHE
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
    """Send so many requests per second from one core, whether the server keeps up or not, by the generator of `make load`.

    Latency counts from when a request was due. It spins, because a timer that is late would count as the server's latency.
    """
    client = Client(read_address(f"http://127.0.0.1:{port}"))
    raw = [client.address.request("POST", path, body, headers.get("X-API-Key", "")) for path, body, headers in requests]
    load = generator.Load(client, raw, connections, seconds, rate, spins=True)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    gc.collect()
    gc.disable()
    try:
        with event_loop() as run:
            return _paced(run(load.run()), rate)
    finally:
        gc.enable()
        os.sched_setaffinity(0, own)


def _paced(measured: Measured, rate: float) -> Load:
    bad, latencies = measured.answered - measured.predicted, measured.latencies.summary()
    reached, invalid = measured.answered / measured.seconds, ""
    if measured.unanswered:  # its queue grows: latency would only say for how long
        invalid = f"{reached:.0f} of {rate:.0f} requests per second were answered"
    elif measured.broken:
        invalid = ", ".join(measured.broken)
    elif bad or not latencies:
        invalid = f"{bad} answers without success" if bad else "no request was answered"
    shown = latencies or {"median": 0.0, "p99": 0.0}
    return Load(reached, shown["median"] * 1e6, shown["p99"] * 1e6, invalid)
