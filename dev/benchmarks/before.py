"""Measure whether a service got slower: this checkout's beside that of an earlier one, with the same bundles, in the same rounds.

The bundles are made by the earlier checkout. It runs twice: how far apart its two services are is what the machine does, not the code.
"""

import os
import platform
import random
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from rich.console import Console

from dev.benchmarks import load, models, servers
from dev.benchmarks.claims import Claim, table
from dev.benchmarks.models import Subject
from dev.benchmarks.servers import OFF, SERVERS, Running, Server
from dev.benchmarks.serving import Scenario, cores, turn_of
from dev.benchmarks.timing import figure, ratios
from pipeline.errors import SlipwayError

PRESENT, BEFORE, AGAIN = "present", "before", "before again"
KINDS = {"forest": "random forest", "linear": "logistic regression"}
CONNECTIONS = (1, 16)
MEASURES = ("rate", "p50_us", "p99_us", "cpu_us")  # cpu_us: processor time of the service for a request
ROUNDS, SECONDS, WARM = 12, 1, 1
MAKE = "import sys; from pathlib import Path; from dev.benchmarks import models; models.make(sys.argv[1], Path(sys.argv[2]))"
LEAST = 0.97  # of the earlier rate: less is a change for the worse
SEED = 20_240


@dataclass(frozen=True)
class Quartiles:
    """The median of some rounds with the quartiles around it."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f} to {self.high:.3f}]"


def quartiles(values: list[float]) -> Quartiles:
    """The quartiles of one value per round; a single round is its own quartiles."""
    if len(values) < 2:
        return Quartiles(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Quartiles(low, median(values), high)


def measure(console: Console, quick: bool, wrk: Path | None, before: Path) -> dict[str, Any]:
    """Rates and latencies of each service, by load, one value per round; raises SlipwayError where `before` is no checkout."""
    if not (before / "serving" / "__main__.py").is_file():
        raise SlipwayError(f"{before} is no checkout of this repository", "git worktree add ../before COMMIT")
    wrk, (server_core, load_core) = load.find_wrk(wrk), cores()
    rounds = 2 if quick else ROUNDS
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        for kind, words in KINDS.items():
            subject = _made(before, kind, Path(name) / kind)
            with ExitStack() as stack:
                alive = {one: _start(stack, server, subject, Path(name) / f"{kind} {one}", server_core)
                         for one, server in _servers(before).items()}  # fmt: skip
                for number in range(rounds):
                    console.print(f"{words}, round {number + 1} of {rounds} …")
                    for connections in CONNECTIONS:
                        scenario = Scenario(f"{words}, {_connections(connections)}", kind, 1, connections, 64)
                        for one in chance.sample(list(alive), len(alive)):
                            took, cpu_us = turn_of(wrk, alive[one], subject, scenario, (WARM, SECONDS), load_core)
                            values = found.setdefault(scenario.name, {}).setdefault(
                                one, {one_of: [] for one_of in MEASURES}
                            )
                            for key, value in zip(MEASURES, (took.rate, took.p50, took.p99, cpu_us), strict=True):
                                values[key].append(value)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "before": _commit(before),
        "rounds": rounds,
        "loads": found,
    }


def _servers(before: Path) -> dict[str, Server]:
    present = next(server for server in SERVERS if server.name == OFF)
    earlier = replace(present, root=before)
    return {PRESENT: present, BEFORE: earlier, AGAIN: earlier}


def _made(before: Path, kind: str, folder: Path) -> Subject:
    done = subprocess.run(
        [sys.executable, "-c", MAKE, kind, str(folder)], cwd=before, capture_output=True, text=True, env=_environment()
    )
    if done.returncode:
        raise SlipwayError(f"{before} makes no model: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return models.stored(folder)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(servers.NOT_INHERITED)}


def _start(stack: ExitStack, server: Server, subject: Subject, folder: Path, core: int) -> Running:
    one = stack.enter_context(servers.running(server, Path(sys.executable), subject, folder, core))
    servers.check(one, subject, 1)
    servers.freeze(one)
    return one


def _commit(folder: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip() or "an earlier release"


def claims(found: dict[str, Any]) -> list[Claim]:
    """No load is answered slower than before."""
    return [
        Claim(f"{where}: requests/s, present / before", LEAST,
              figure(ratios(values[PRESENT]["rate"], values[BEFORE]["rate"])))
        for where, values in found["loads"].items()
    ]  # fmt: skip


def section(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about the same models in two releases."""
    lines = [
        "## The same models in the release before",
        "",
        f"The present service beside that of {found['before']}, with the same bundles, one row per request and everything off, on {found['machine']}.",
        f"{found['rounds']} rounds; in each, the services are asked in turn, in random order. Medians of the ratios within a round, quartiles in brackets.",
        "The earlier service runs twice: “twice the same” is how far apart two runs of the same code are.",
        "",
        "| load | | requests/s | p50 | p99 | processor time of a request |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for where, values in found["loads"].items():
        for words, above, below in (("present ÷ before", PRESENT, BEFORE), ("twice the same", AGAIN, BEFORE)):
            cells = [quartiles(ratios(values[above][key], values[below][key])) for key in MEASURES]
            lines.append(f"| {where} | {words} | {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, "", *table(claims(found))])


def _connections(count: int) -> str:
    return "1 connection" if count == 1 else f"{count} connections"
