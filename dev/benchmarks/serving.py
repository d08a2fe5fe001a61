"""Measure the service beside seven ways of serving the same model: rates, latency, start, memory and size.

Each server has one core and the load another. Servers take turns in rounds of random order; those whose turn it is not are
frozen, and a server is asked for a while before it is timed. Ratios are of the same round, so that what disturbs one
disturbs both.
"""

import os
import platform
import random
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from dev.benchmarks import environments, load, models, servers
from dev.benchmarks.models import Subject
from dev.benchmarks.servers import EMPTY, MLFLOW, OFF, OURS, SERVERS, Running, Server
from dev.benchmarks.timing import figure
from pipeline.errors import SlipwayError


@dataclass(frozen=True)
class Scenario:
    """So many rows in each request, over so many connections, of one model."""

    name: str
    model: str
    rows: int
    connections: int
    bodies: int  # different requests that are sent in turn


@dataclass(frozen=True)
class Effort:
    """How often and how long each thing is measured; seconds."""

    rounds: int
    seconds: float
    warm: float
    adaptive_warm: float  # for servers that learn from latency how to batch
    pairs: int
    pair_seconds: float
    paced_seconds: float
    starts: int


FOREST = Scenario("random forest, 1 row", "forest", 1, 16, 64)
LINEAR = Scenario("logistic regression, 1 row", "linear", 1, 16, 64)
BATCH = Scenario("random forest, 32 rows", "forest", 32, 16, 16)
LARGE = Scenario("random forest, 1000 rows", "forest", 1000, 1, 4)
SCENARIOS = (FOREST, BATCH, LARGE, LINEAR)
FULL = Effort(rounds=3, seconds=3, warm=1, adaptive_warm=5, pairs=15, pair_seconds=1, paced_seconds=10, starts=3)
QUICK = Effort(rounds=1, seconds=1, warm=1, adaptive_warm=1, pairs=2, pair_seconds=1, paced_seconds=2, starts=1)
OUR_SHARE, MLFLOW_SHARE = 0.25, 0.5  # of what each bears, for latency at a fixed rate
SEED = 20_240


class Bench:
    """One measurement of everything: what is needed for it, and what it has found so far."""

    def __init__(self, folder: Path, wrk: Path, effort: Effort, progress: Progress):
        self.server_core, self.load_core = cores()
        self.folder, self.wrk, self.effort, self.progress = folder, wrk, effort, progress
        self.random = random.Random(SEED)
        self.pythons: dict[str, Path] = {}
        self.missing: dict[str, str] = {}
        self.rates: dict[str, dict[str, list[float]]] = {}
        self.invalid: dict[str, dict[str, str]] = {}
        self.memory: dict[str, dict[str, float]] = {}
        self.others: list[float] = []  # share of the servers' core that went to neither of them, in each turn
        self.places = 0

    @contextmanager
    def or_left_out(self, server: Server):
        """A server that fails is left out, and the others go on."""
        try:
            yield
        except SlipwayError as error:
            self.leave_out(server, error)

    def say(self, words: str) -> None:
        """Show what is being done; nothing is drawn while something is timed."""
        self.progress.update(self.progress.task_ids[0], description=words, advance=1, refresh=True)

    def there(self) -> list[Server]:
        """The servers that can be measured."""
        return [server for server in SERVERS if server.name not in self.missing]

    def leave_out(self, server: Server, why: SlipwayError) -> None:
        """Measure this server no more, and remember why; without our own service there is nothing to compare, and it raises."""
        if server.name == OFF:
            raise why
        self.missing[server.name] = why.what
        self.progress.console.print(f"[yellow]{server.name}: not measured: {why.what}")

    def install(self) -> None:
        """Make the environments; what cannot be installed is left out."""
        for server in SERVERS:
            if server.environment in self.pythons:
                continue
            self.say(f"environment of {server.environment}")
            try:
                self.pythons[server.environment] = environments.environment(server.environment)
            except SlipwayError as error:
                for one in SERVERS:
                    if one.environment == server.environment:
                        self.leave_out(one, error)

    def run(self, server: Server, subject: Subject):
        """A running server of this kind, in a folder of its own."""
        self.places += 1
        python = self.pythons[server.environment]
        return servers.running(server, python, subject, self.folder / f"run-{self.places}", self.server_core)

    @contextmanager
    def all_running(self, subject: Subject, scenarios: list[Scenario]):
        """Every server, by name: checked in each scenario, and frozen; the adaptive ones are only tried out."""
        with ExitStack() as stack:
            alive: dict[str, Running] = {}
            for server in self.there():
                self.say(f"start of {server.name}")
                with self.or_left_out(server), ExitStack() as own:
                    one = own.enter_context(self.run(server, subject))
                    for scenario in scenarios:
                        servers.check(one, subject, scenario.rows)
                    if server.switched_on:
                        servers.check_switches(one, subject)
                    if not server.adaptive:
                        servers.freeze(one)
                        alive[server.name] = one
                        stack.push(own.pop_all())
            yield alive

    @contextmanager
    def turn(self, server: Server, subject: Subject, alive: dict[str, Running]):
        """A server on its own: the others are frozen, or ended."""
        if server.adaptive:
            with self.run(server, subject) as one:
                yield one
            return
        one = alive[server.name]
        servers.wake(one)
        try:
            yield one
        finally:
            servers.freeze(one)

    def hammer(self, one: Running, subject: Subject, scenario: Scenario, warm: float, seconds: float) -> load.Load:
        """Warm a server up, then measure what it bears."""
        requests = _requests(one.server, subject, scenario)
        arguments = (self.wrk, one.port, requests, scenario.connections)
        load.closed_loop(*arguments, warm, self.load_core)
        core, own, begin = _busy(self.server_core), servers.cpu_seconds(one), time.perf_counter()
        took = load.closed_loop(*arguments, seconds, self.load_core)
        others = _busy(self.server_core) - core - (servers.cpu_seconds(one) - own)
        self.others.append(max(0.0, others) / (time.perf_counter() - begin))
        return took

    def measure_rates(self, scenario: Scenario, subject: Subject, alive: dict[str, Running]) -> None:
        """Requests per second of every server, in rounds."""
        found = self.rates.setdefault(scenario.name, {server.name: [] for server in self.there()})
        invalid = self.invalid.setdefault(scenario.name, {})
        for number in range(self.effort.rounds):
            order = self.there()
            self.random.shuffle(order)
            for server in order:
                self.say(f"{scenario.name}, round {number + 1} of {self.effort.rounds}: {server.name}")
                with self.or_left_out(server), self.turn(server, subject, alive) as one:
                    warm = self.effort.adaptive_warm if server.adaptive else self.effort.warm
                    took = self.hammer(one, subject, scenario, warm, self.effort.seconds)
                    found[server.name].append(took.rate)
                    if took.invalid:
                        invalid[server.name] = took.invalid
                    if server.adaptive and scenario == FOREST:
                        self.memory[server.name] = servers.memory_mb(one)

    def measure_pairs(self, subject: Subject, alive: dict[str, Running]) -> dict[str, list[float]]:
        """Many short rounds of the finest comparison: our service on and off, and the empty answer."""
        found: dict[str, list[float]] = {
            server.name: [] for server in self.there() if server.name in (OURS, OFF, EMPTY)
        }
        invalid = self.invalid.setdefault("pairs", {})
        for number in range(self.effort.pairs):
            order = [server for server in self.there() if server.name in found]
            self.random.shuffle(order)
            for server in order:
                self.say(f"pairs, round {number + 1} of {self.effort.pairs}: {server.name}")
                with self.or_left_out(server), self.turn(server, subject, alive) as one:
                    took = self.hammer(one, subject, FOREST, self.effort.warm, self.effort.pair_seconds)
                    found[server.name].append(took.rate)
                    if took.invalid:
                        invalid[server.name] = took.invalid
        return found

    def measure_latency(self, subject: Subject, alive: dict[str, Running]) -> dict[str, dict[str, Any]]:
        """Latency at a fixed rate, a share of what each bore: ours at a quarter, mlflow at half."""
        found: dict[str, dict[str, Any]] = {}
        invalid = self.invalid.setdefault("latency", {})
        rates = self.rates[FOREST.name]
        for number in range(self.effort.rounds):
            for server in self.there():
                if server.name not in (OURS, OFF, MLFLOW):
                    continue
                share = MLFLOW_SHARE if server.name == MLFLOW else OUR_SHARE
                rate = share * sorted(rates[server.name])[len(rates[server.name]) // 2]
                self.say(f"latency, round {number + 1} of {self.effort.rounds}: {server.name} at {rate:.0f} requests/s")
                with self.turn(server, subject, alive) as one:
                    arguments = (one.port, _requests(server, subject, FOREST), rate)
                    load.open_loop(*arguments, self.effort.warm, FOREST.connections, self.load_core)
                    took = load.open_loop(*arguments, self.effort.paced_seconds, FOREST.connections, self.load_core)
                entry = found.setdefault(server.name, {"rate": rate, "p50_us": [], "p99_us": []})
                entry["p50_us"].append(took.p50)
                entry["p99_us"].append(took.p99)
                if took.invalid:
                    invalid[server.name] = took.invalid
        return found

    def measure_starts(self, subject: Subject) -> dict[str, list[float]]:
        """Seconds from the start of the process to the first answer that all is well."""
        found: dict[str, list[float]] = {server.name: [] for server in self.there() if server.name != EMPTY}
        for number in range(self.effort.starts):
            order = [server for server in self.there() if server.name in found]
            self.random.shuffle(order)
            for server in order:
                self.say(f"starts, round {number + 1} of {self.effort.starts}: {server.name}")
                with self.or_left_out(server), self.run(server, subject) as one:
                    found[server.name].append(one.started)
        return found


def cores() -> tuple[int, int]:
    """The core of the servers and that of the load; raises SlipwayError where there are no two to choose from."""
    if not hasattr(os, "sched_getaffinity"):
        raise SlipwayError(f"{platform.system()} does not let a process choose its core", "run the benchmark on Linux")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SlipwayError("one core cannot measure itself", "run the benchmark where two cores are free")
    return cores[0], cores[-1]


def _busy(core: int) -> float:
    """Seconds for which a core was not idle, since the machine was started."""
    times = psutil.cpu_times(percpu=True)[core]
    return (
        sum(times) - times.idle - times.iowait - times.guest - times.guest_nice
    )  # guests are in user and nice as well


def turn_of(
    wrk: Path, one: Running, subject: Subject, scenario: Scenario, seconds: tuple[float, float], core: int
) -> tuple[load.Load, float]:
    """Wake a frozen server, warm it up, measure it and freeze it again; `seconds` are those of both. Raises SlipwayError for bad answers.

    The second figure is the server's processor time for a request, in µs: it hardly depends on what else the machine does.
    """
    asked = _requests(one.server, subject, scenario)
    servers.wake(one)
    try:
        load.closed_loop(wrk, one.port, asked, scenario.connections, seconds[0], core)
        used = servers.cpu_seconds(one)
        took = load.closed_loop(wrk, one.port, asked, scenario.connections, seconds[1], core)
        used = servers.cpu_seconds(one) - used
    finally:
        servers.freeze(one)
    if took.invalid:
        raise SlipwayError(f"{one.server.name}, {scenario.name}: {took.invalid}")
    return took, used / (took.rate * seconds[1]) * 1e6


def _requests(server: Server, subject: Subject, scenario: Scenario) -> list[tuple[str, bytes, dict[str, str]]]:
    """Different requests of a scenario, each the same rows for every server."""
    last = len(subject.rows) - scenario.rows
    places = [number * scenario.rows % (last + 1) for number in range(scenario.bodies)]
    return [servers.request(server, subject.rows[place : place + scenario.rows]) for place in places]


def measure(console: Console, quick: bool = False, wrk: Path | None = None) -> dict[str, Any]:
    """All figures of the service and its peers, ready for JSON; raises SlipwayError when ours cannot be measured."""
    effort = QUICK if quick else FULL
    cores()  # before anything is fetched
    wrk = load.find_wrk(wrk)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with tempfile.TemporaryDirectory() as place, Progress(*columns, console=console, auto_refresh=False) as progress:
        progress.add_task("models", total=_steps(effort))
        bench = Bench(Path(place), wrk, effort, progress)
        bench.install()
        return _measured(bench, {kind: models.make(kind, Path(place) / kind) for kind in ("forest", "linear")})


def _steps(effort: Effort) -> int:
    turns = effort.rounds * (len(SCENARIOS) * len(SERVERS) + 3) + effort.starts * (len(SERVERS) - 1) + effort.pairs * 3
    return turns + 2 * len(SERVERS) + len(environments.PACKAGES)


def _measured(bench: Bench, subjects: dict[str, Subject]) -> dict[str, Any]:
    forest, linear = subjects["forest"], subjects["linear"]
    with bench.all_running(forest, [FOREST, BATCH, LARGE]) as alive:
        for scenario in (FOREST, BATCH, LARGE):
            bench.measure_rates(scenario, forest, alive)
        pairs = bench.measure_pairs(forest, alive)
        latency = bench.measure_latency(forest, alive)
        for name, one in alive.items():
            bench.memory[name] = servers.memory_mb(one)
    with bench.all_running(linear, [LINEAR]) as alive:
        bench.measure_rates(LINEAR, linear, alive)
    starts = bench.measure_starts(forest)
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "effort": asdict(bench.effort),
        "versions": {name: environments.versions(python) for name, python in bench.pythons.items()},
        "others": asdict(figure(bench.others)),
        "missing": bench.missing,
        "invalid": {what: found for what, found in bench.invalid.items() if found},
        "rates": bench.rates,
        "pairs": pairs,
        "latency": latency,
        "memory_mb": bench.memory,
        "start_s": starts,
        "size_mb": {name: environments.size_mb(python) for name, python in bench.pythons.items()},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} ({platform.machine()})" if named else platform.machine()
