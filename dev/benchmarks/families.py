"""Measure the service with a network and with boosted trees, beside FastAPI with the library that trained the model.

Both sides run in this Python, on one core, and take turns in rounds of random order, as in the part `serving`.
"""

import os
import platform
import random
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.benchmarks import load, models, servers
from dev.benchmarks.before import SEED, quartiles
from dev.benchmarks.claims import Claim, table
from dev.benchmarks.report import number
from dev.benchmarks.servers import OFF, OURS, OWN_LIBRARY, SERVERS, Server
from dev.benchmarks.serving import Scenario, cores, turn_of
from dev.benchmarks.timing import figure, ratios

WORDS = {
    "network": "network (PyTorch, two hidden layers of 64), served as ONNX",
    "XGBoost": "XGBoost, 100 trees, numbers, served as ONNX",
    "LightGBM": "LightGBM, 100 trees, two columns of text, served by LightGBM",
}
ROWS = (1, 32)
CONNECTIONS = 16
ROUNDS, SECONDS, WARM = 6, 1, 1
FASTER = 2  # times the rate of FastAPI with the same library, with everything on, one row
SHOWN = ("torch", "xgboost-cpu", "xgboost", "lightgbm", "onnxruntime", "fastapi", "scikit-learn")


def measure(console: Console, quick: bool, wrk: Path | None) -> dict[str, Any]:
    """Requests per second by model, rows in a request and server, one value per round."""
    wrk, (server_core, load_core) = load.find_wrk(wrk), cores()
    rounds = 1 if quick else ROUNDS
    chance = random.Random(SEED)
    rates: dict[str, dict[int, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as name:
        for kind in WORDS:
            console.print(f"{kind}: training …")
            subject = models.make_of_family(kind, Path(name) / kind)
            with ExitStack() as stack:
                alive = []
                for place, server in enumerate(_servers(kind)):
                    folder = Path(name) / f"{kind} {place}"
                    one = stack.enter_context(
                        servers.running(server, Path(sys.executable), subject, folder, server_core)
                    )
                    for rows in ROWS:
                        servers.check(one, subject, rows)
                    if server.switched_on:
                        servers.check_switches(one, subject)
                    servers.freeze(one)
                    alive.append(one)
                for turn in range(rounds):
                    console.print(f"{kind}, round {turn + 1} of {rounds} …")
                    for rows in ROWS:
                        scenario = Scenario(kind, kind, rows, CONNECTIONS, 64 if rows == 1 else 16)
                        for one in chance.sample(alive, len(alive)):
                            took, _ = turn_of(wrk, one, subject, scenario, (WARM, SECONDS), load_core)
                            by_server = rates.setdefault(kind, {}).setdefault(rows, {})
                            by_server.setdefault(one.server.name, []).append(took.rate)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "rounds": rounds,
        "versions": _versions(),
        "rates": rates,
    }


def _servers(kind: str) -> list[Server]:
    return [*(server for server in SERVERS if server.name in (OURS, OFF)), OWN_LIBRARY[kind]]


def _versions() -> dict[str, str]:
    found = {}
    for name in SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def claims(found: dict[str, Any]) -> list[Claim]:
    """A model is answered faster than by FastAPI with the library that trained it."""
    return [
        Claim(f"{kind}, 1 row: requests/s, Slipway / {OWN_LIBRARY[kind].name}", FASTER,
              figure(ratios(rates[1][OURS], rates[1][OWN_LIBRARY[kind].name])))
        for kind, rates in found["rates"].items()
    ]  # fmt: skip


def section(found: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md about networks and boosted trees."""
    lines = [
        "## Networks and boosted trees",
        "",
        "The service beside FastAPI tuned with the library that trained the model: one core each, 16 connections, closed loop, 30 numbers in a row.",
        f"Medians of {found['rounds']} rounds in random order, quartiles of the ratio within a round in brackets. Both sides run in the same Python",
        f"on {found['machine']} ({', '.join(f'{name} {given}' for name, given in found['versions'].items())}).",
        "FastAPI calls `predict_proba` of XGBoost's and LightGBM's estimators, and the PyTorch module itself; it checks no ranges.",
        "",
        "| model | rows | Slipway, everything off, requests/s | Slipway, everything on | FastAPI + library | everything on ÷ FastAPI |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, by_rows in found["rates"].items():
        for rows, rates in by_rows.items():
            peer = rates[OWN_LIBRARY[kind].name]
            shown = [number(figure(values).median) for values in (rates[OFF], rates[OURS], peer)]
            lines.append(f"| {WORDS[kind]} | {rows} | {' | '.join(shown)} | {quartiles(ratios(rates[OURS], peer))} |")
    return "\n".join([*lines, "", *table(claims(found))])
