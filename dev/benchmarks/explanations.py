"""Measure explanations: how long one takes, and what plain requests lose while another caller asks for them back to back.

Plain requests come at a fixed rate, in turns with and without that caller, in random order within each round.
"""

import json
import os
import platform
import random
import sys
import tempfile
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.benchmarks import load, models, servers
from dev.benchmarks.before import SEED, quartiles
from dev.benchmarks.claims import Claim, table
from dev.benchmarks.models import Subject
from dev.benchmarks.report import number
from dev.benchmarks.servers import OFF, SERVERS, Running
from dev.benchmarks.serving import cores
from dev.benchmarks.timing import figure, percentile, ratios
from pipeline.errors import SlipwayError

KINDS = {"linear": "logistic regression", "forest": "random forest, 100 trees"}
WITH, WITHOUT = "with", "without"
ROUNDS, SECONDS, WARM = 12, 3.0, 0.5
RATE, CONNECTIONS = 100, 4  # plain requests per second
HALF = 0.5  # of the speed without explanations that the median request keeps beside them


def measure(console: Console, quick: bool) -> dict[str, Any]:
    """Milliseconds of each explanation, and p50 and p99 (µs) of plain requests with and without them, one value per round."""
    server_core, load_core = cores()
    rounds = 1 if quick else ROUNDS
    chance = random.Random(SEED)
    ours = next(server for server in SERVERS if server.name == OFF)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        subjects = {kind: models.make(kind, Path(name) / kind) for kind in KINDS}
        for turn in range(rounds):
            for kind in chance.sample(list(KINDS), len(KINDS)):
                console.print(f"explanations of {kind}, round {turn + 1} of {rounds} …")
                entry = found.setdefault(
                    kind, {"alone_ms": [], "beside_ms": [], WITH: _latencies(), WITHOUT: _latencies()}
                )
                folder = Path(name) / f"{kind} {turn}"
                with servers.running(ours, Path(sys.executable), subjects[kind], folder, server_core) as one:
                    servers.check(one, subjects[kind], 1)
                    with _explaining(one, subjects[kind], entry["alone_ms"], load_core):
                        time.sleep(SECONDS)
                    _plain(one, subjects[kind], WARM, load_core)
                    for side in chance.sample([WITH, WITHOUT], 2):
                        if side == WITH:
                            with _explaining(one, subjects[kind], entry["beside_ms"], load_core):
                                took = _plain(one, subjects[kind], SECONDS, load_core)
                        else:
                            took = _plain(one, subjects[kind], SECONDS, load_core)
                        entry[side]["p50_us"].append(took.p50)
                        entry[side]["p99_us"].append(took.p99)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "rounds": rounds,
        "models": found,
    }


def _latencies() -> dict[str, list[float]]:
    return {"p50_us": [], "p99_us": []}


def _plain(one: Running, subject: Subject, seconds: float, core: int) -> load.Load:
    requests = [servers.request(one.server, subject.rows[place : place + 1]) for place in range(64)]
    took = load.open_loop(one.port, requests, RATE, seconds, CONNECTIONS, core)
    if took.invalid:
        raise SlipwayError(f"plain requests beside explanations: {took.invalid}")
    return took


@contextmanager
def _explaining(one: Running, subject: Subject, times: list[float], core: int):
    """Meanwhile a caller in a process of its own asks for explanations back to back; `times` gets the milliseconds of each."""
    rows = [json.dumps({"features": row, "explain": True}).encode() for row in subject.rows[:50].tolist()]
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=ask_back_to_back, args=(one.port, rows, core, theirs), daemon=True)
    process.start()
    try:
        _received(ours)  # its first answer, which is not counted
        yield
        ours.send("stop")
        times.extend(_received(ours))
    finally:
        process.join(timeout=30)
        if process.is_alive():
            process.kill()


def _received(connection: Any) -> Any:
    if not connection.poll(60):
        raise SlipwayError("no explanation came within a minute")
    given = connection.recv()
    if isinstance(given, str):
        raise SlipwayError(f"an explanation failed: {given}")
    return given


def ask_back_to_back(port: int, bodies: list[bytes], core: int, told: Any) -> None:
    """Ask for explanations until told to stop, then tell how many milliseconds each took; tells the answer that is none instead."""
    os.sched_setaffinity(0, {core})
    connection, times = HTTPConnection("127.0.0.1", port, timeout=60), []
    place = 0
    while not told.poll():
        begin = time.perf_counter()
        connection.request("POST", "/predict", bodies[place % len(bodies)], {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 or b'"explanation"' not in content:
            told.send(f"{answer.status} {content[:200]!r}")
            return
        if place:
            times.append((time.perf_counter() - begin) * 1000)
        else:
            told.send([])
        place += 1
    told.send(times)


def claims(found: dict[str, Any]) -> list[Claim]:
    """Plain requests hardly wait for explanations."""
    return [
        Claim(f"{KINDS[kind]}: p50 of a plain request, without / with explanations beside it", HALF,
              figure(ratios(entry[WITHOUT]["p50_us"], entry[WITH]["p50_us"])))
        for kind, entry in found["models"].items()
    ]  # fmt: skip


def section(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about explanations."""
    lines = [
        "## Explanations",
        "",
        f"One worker on one core, everything off, 30 numbers, on {found['machine']}. [Explanations](explanations.md) are asked back to back by one caller:",
        f"alone, and beside plain requests at {RATE} a second. Explanations are of all {found['rounds']} rounds together; of plain requests, medians of the rounds'",
        "p50 and p99, and quartiles of the ratio within a round in brackets.",
        "",
        "| model | explanations | median, ms | p99, ms | beside plain requests: explanations | median, ms | p99, ms |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, entry in found["models"].items():
        cells = [cell for times in (entry["alone_ms"], entry["beside_ms"]) for cell in _times(times)]
        lines.append(f"| {KINDS[kind]} | {' | '.join(cells)} |")
    lines += [
        "",
        "| a plain request of | without explanations: p50, p99, ms | with: p50, p99, ms | p50, with ÷ without | p99, with ÷ without |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for kind, entry in found["models"].items():
        shown = [
            ", ".join(number(figure(entry[side][key]).median / 1000) for key in _latencies())
            for side in (WITHOUT, WITH)
        ]
        apart = [str(quartiles(ratios(entry[WITH][key], entry[WITHOUT][key]))) for key in _latencies()]
        lines.append(f"| {KINDS[kind]} | {' | '.join(shown + apart)} |")
    return "\n".join([*lines, "", *table(claims(found))])


def _times(values: list[float]) -> list[str]:
    if not values:
        return ["0", "not measured", "not measured"]
    return [str(len(values)), number(percentile(values, 0.5)), number(percentile(values, 0.99))]
