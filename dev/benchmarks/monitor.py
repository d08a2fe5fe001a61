"""Measure the log's counter: rows a second and memory over logs of growing size, and what the service loses while it runs.

Each row is a request of its own, with 30 numbers, and one in ten has an outcome: the most work for a row. Rows are spread over 30 days.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from dev.benchmarks import load, models, servers
from dev.benchmarks.models import Subject
from dev.benchmarks.servers import OURS, SERVERS
from pipeline.artifacts import ROOT, read_json
from pipeline.errors import SlipwayError
from pipeline.monitor.plan import Trained, plan
from pipeline.settings import Settings
from serving.log.store import Store

ROWS = (10_000, 100_000, 1_000_000, 10_000_000)
DAY, DAYS = 86_400, 30
BEGIN = 20_000 * DAY
PIECE = 2000  # requests of a block
TOLD = 10  # one row in so many has an outcome
ROUNDS, SECONDS = 5, 3


def measure(console: Console, quick: bool, wrk: Path | None, postgres: str) -> dict[str, Any]:
    """Rows a second, seconds of a run with nothing new, and peak memory (MB), by database and rows; and the service's loss."""
    found: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "counted": {},
    }
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        folder = Path(name)
        subject = models.make("linear", folder / "model")
        given = msgspec.json.encode(plan(Settings.model_validate(models.SETTINGS), {"1": _trained(subject)}))
        databases = {"SQLite": lambda rows: f"sqlite:///{folder / f'{rows}.db'}"}
        if postgres:
            databases["PostgreSQL"] = lambda rows: postgres
        for rows in ROWS[:2] if quick else ROWS:
            for database, address in databases.items():
                console.print(f"{rows:,} rows in {database} …")
                found["counted"].setdefault(database, {})[rows] = _one(address(rows), rows, subject, given)
                console.print(f"  {found['counted'][database][rows]}")
        found["beside"] = _beside(subject, folder, given, wrk, console, quick)
    return found


def _trained(subject: Subject) -> Trained:
    bundle = subject.folder / "bundle"
    return Trained(read_json(bundle / "contract.json"), read_json(bundle / "reference.json"))


def _one(url: str, rows: int, subject: Subject, given: bytes) -> dict[str, float]:
    written = fill(url, rows, subject)
    first, memory = _count(url, given)
    again, _ = _count(url, given)
    if url.startswith("sqlite"):
        size = Path(url.removeprefix("sqlite:///")).stat().st_size / rows
        Path(url.removeprefix("sqlite:///")).unlink()
    else:
        store = Store(url)
        size = float(store.query("SELECT pg_total_relation_size('prediction_blocks')")[0][0]) / rows
        store.write(
            [(f"DROP TABLE {table}", ()) for table in ("prediction_blocks", "outcomes", "daily_counts", "refusals")]
        )
        store.close()
    return {
        "rows_per_second": rows / first, "written_per_second": rows / written, "again_seconds": again,
        "memory_mb": memory, "bytes_per_row": size,
    }  # fmt: skip


def fill(url: str, rows: int, subject: Subject) -> float:
    """Write so many one-row requests into an empty log; seconds."""
    rng = np.random.default_rng(rows)
    encode = msgspec.json.encode
    features = [encode([row.tolist()]) for row in subject.rows]
    answers = [
        encode([{"label": "benign", "class_id": 0, "probabilities": {"benign": float(p[0]), "malignant": float(p[1])}}])
        for p in subject.probabilities
    ]
    store = Store(url, models.SETTINGS["name"], "1")
    began, step = time.perf_counter(), DAY * DAYS / rows
    for start in range(0, rows, PIECE):
        number = min(PIECE, rows - start)
        picked = rng.integers(0, len(features), number)
        ids = [f"{start + place:032x}" for place in range(number)]
        times = [BEGIN + (start + place) * step for place in range(number)]
        asked = [
            (request_id, at, "caller", None, "served", 1, 0.2, features[pick], answers[pick])
            for request_id, at, pick in zip(ids, times, picked, strict=True)
        ]
        told = [(ids[place], 0, '"benign"', times[place] + 3600, "caller") for place in range(0, number, TOLD)]
        store.insert(asked, told)
    store.close()
    return time.perf_counter() - began


def _count(url: str, given: bytes) -> tuple[float, float]:
    """Seconds and peak memory (MB) of one run of the counter."""
    environment = {**os.environ, "SLIPWAY_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    peak = 0
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as said:
        source.write(given)
        source.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.counts"],
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=said,
            env=environment,
        )
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        if process.returncode:
            said.seek(0)
            raise SlipwayError(f"the counter failed: {said.read().decode()[-300:]}")
    return seconds, peak / 1000


def _peak(pid: int) -> int:
    """The most memory that a process has had so far, kB; 0 when it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _beside(
    subject: Subject, folder: Path, given: bytes, wrk: Path | None, console: Console, quick: bool
) -> dict[str, Any]:
    """Rates of the service, one row a request, in turns without and with the counter at work on its log, on its core."""
    server = next(one for one in SERVERS if one.name == OURS)
    place = folder / "service"
    place.mkdir()
    url = f"sqlite:///{place / 'predictions.db'}"
    fill(url, ROWS[0] if quick else ROWS[2], subject)
    rates: dict[str, list[float]] = {"alone": [], "beside": []}
    cores = sorted(os.sched_getaffinity(0))
    with servers.running(server, Path(sys.executable), subject, place, cores[0]) as running:
        path, body = server.ask([subject.rows[0].tolist()])
        requests = [(path, msgspec.json.encode(body), {"content-type": "application/json", **server.headers})]
        tool = load.find_wrk(wrk)
        for number in range(1 if quick else ROUNDS):
            console.print(f"the service beside the counter, round {number + 1} …")
            for name, at_work in (("alone", False), ("beside", True)):
                with _counting(url, given, cores[0], at_work):
                    rates[name].append(load.closed_loop(tool, running.port, requests, 16, SECONDS, cores[-1]).rate)
    return rates


@contextmanager
def _counting(url: str, given: bytes, core: int, at_work: bool) -> Iterator[None]:
    """The counter at work on one core, again and again from the beginning."""
    if not at_work:
        yield
        return
    again = (
        "import subprocess, sys, sqlite3\n"
        "given = sys.stdin.buffer.read()\n"
        "while True:\n"
        "    with sqlite3.connect(sys.argv[1], timeout=30) as log:\n"
        "        log.execute('DELETE FROM daily_counts') if log.execute(\"SELECT 1 FROM sqlite_master WHERE name = 'daily_counts'\").fetchone() else None\n"
        "    subprocess.run([sys.executable, '-m', 'serving.counts'], input=given, stdout=subprocess.DEVNULL, check=True)\n"
    )
    environment = {**os.environ, "SLIPWAY_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        process = subprocess.Popen([sys.executable, "-c", again, url.removeprefix("sqlite:///")], stdin=subprocess.PIPE, env=environment, start_new_session=True)  # fmt: skip
    finally:
        os.sched_setaffinity(0, own)
    try:
        process.stdin.write(given)  # type: ignore[union-attr]
        process.stdin.close()  # type: ignore[union-attr]
        time.sleep(1)
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def section(found: dict[str, Any]) -> str:
    """The part of docs/benchmarks.md."""
    lines = [
        "## The monitor's counter", "",
        f"`make monitor` counts the prediction log where it is. Measured on {found['machine']}: one-row requests of 30 numbers over 30 days, one in ten with an",
        "outcome. *Again* is a second run with nothing new.", "",
        "| database | rows | rows a second | again | peak memory | bytes a row | written a second |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for database, sizes in found["counted"].items():
        for rows, one in sizes.items():
            lines.append(
                f"| {database} | {int(rows):,} | {one['rows_per_second']:,.0f} | {one['again_seconds']:.1f} s | {one['memory_mb']:.0f} MB "
                f"| {one['bytes_per_row']:.0f} | {one['written_per_second']:,.0f} |"
            )
    alone, beside = (float(np.median(found["beside"][name])) for name in ("alone", "beside"))
    lines += [
        "",
        f"While the counter works on the log of a service, on the same core, the service answers {beside:,.0f} requests a second instead of {alone:,.0f}"
        f" ({beside / alone:.0%}).",
    ]
    return "\n".join(lines)
