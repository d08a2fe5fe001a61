"""Measure what an experiment costs the callers: the service alone, with an A/B experiment, and with a shadow, side by side.

    make bench-experiment
    make bench-experiment ARGS="--rounds 10 --json"

The three services run at once with the model of build/bundle, which is its own challenger as another version, and are asked
in turn, in rounds of random order. Ratios and differences are of the same round, so that what disturbs one disturbs all.
Nothing of yours is touched: they run on free ports, and their logs are in a temporary folder.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from delivery.experiment.composition import compose
from delivery.load.generator import Client, Load, event_loop, read_address
from dev.soak import next_version
from pipeline.artifacts import BUILD, ROOT
from pipeline.errors import SlipwayError, StageError, edge
from pipeline.registry.experiments import ExperimentRecord, Phase
from serving.model.bundle import open_bundle
from serving.model.predictor import load_predictor
from serving.requests.decoder import Decoder

ALONE = "no experiment"
KINDS = {"ab, half B": ("ab", 0.5), "shadow of all": ("shadow", 1.0)}
LOADS = {"one connection": 1, "16 connections": 16}
SUBJECTS = 1000
ROUNDS_OF_MODEL = 5  # of all requests, for the time that the model takes by itself
SEED = 20_240
MICRO = 1e6


@dataclass(frozen=True)
class Round:
    """What one service bore in one round: requests a second, and times to answer in microseconds."""

    rate: float
    median: float
    p99: float
    cpu: float  # microseconds of processor time for a request, of all processes of the service


@dataclass(frozen=True)
class Running:
    """A service, its process, and the ways to ask it."""

    process: psutil.Process
    client: Client
    requests: list[bytes]

    def processes(self) -> list[psutil.Process]:
        """All its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def megabytes(self) -> float:
        """Memory of all its processes; what they share counts once."""
        return sum(one.memory_full_info().pss for one in self.processes()) / 1e6

    def cpu(self) -> float:
        """Seconds of processor time that all its processes have used."""
        return sum(sum(one.cpu_times()[:2]) for one in self.processes())


@edge
def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=BUILD / "bundle", help="what to serve")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load in each round")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    if not (options.bundle / "manifest.json").is_file():
        raise StageError(f"{options.bundle} is no bundle", "run `make register` first")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.bundle, options.rounds, options.seconds, Path(folder))
    print(json.dumps(found, indent=2)) if options.json else _show(found)


def measure(bundle: Path, rounds: int, seconds: float, folder: Path) -> dict:
    """The figures, by load and service."""
    with ExitStack() as stack:
        bundles = {ALONE: bundle, **{name: _composed(bundle, *kind, folder) for name, kind in KINDS.items()}}
        running = {
            name: stack.enter_context(_running(one, folder / f"log-{number}.db"))
            for number, (name, one) in enumerate(bundles.items())
        }
        run = stack.enter_context(event_loop())
        model = _model_time(bundle, running[ALONE])
        seen: dict[str, dict[str, list[Round]]] = {load: {name: [] for name in running} for load in LOADS}
        chance = random.Random(SEED)
        for _ in track(range(rounds), "rounds", console=Console(stderr=True), transient=True):
            for load, connections in LOADS.items():
                for name in chance.sample(list(running), len(running)):
                    seen[load][name].append(_turn(run, running[name], connections, seconds))
        memory = {name: round(one.megabytes(), 1) for name, one in running.items()}
    loads = {load: {name: _compared(by[ALONE], by[name]) for name in by} for load, by in seen.items()}
    return {"rounds": rounds, "cores": os.cpu_count(), "model_us": model, "memory_mb": memory, "loads": loads}


def _composed(bundle: Path, mode: str, share: float, folder: Path) -> Path:
    challenger = next_version(bundle, folder / f"challenger-{mode}")
    a, b = open_bundle(bundle).release, open_bundle(challenger).release
    record = ExperimentRecord("bench", mode, a.version, a.digest, b.version, b.digest, phases=(Phase(0.0, share),))
    into = folder / f"experiment-{mode}"
    compose(bundle, challenger, record, into)
    return into


@contextmanager
def _running(bundle: Path, log: Path) -> Iterator[Running]:
    surroundings = os.environ | {"SLIPWAY_DATABASE_URL": f"sqlite:///{log}", "SLIPWAY_RATE_LIMIT": "0", "SLIPWAY_RATE_LIMIT_BYTES": "0"}  # fmt: skip
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                raise SlipwayError("the service did not start", "see what it wrote above")
            client = Client(read_address(found[0]))
            yield Running(psutil.Process(process.pid), client, _requests(client, bundle))
        finally:
            process.send_signal(signal.SIGTERM)


def _requests(client: Client, bundle: Path) -> list[bytes]:
    rows = json.loads((bundle / "golden.json").read_text(encoding="utf-8"))["inputs"]
    bodies = [json.dumps({"features": rows[number % len(rows)], "subject": f"customer-{number}"}) for number in range(SUBJECTS)]  # fmt: skip
    return [client.address.request("POST", "/predict", body.encode()) for body in bodies]


def _model_time(bundle: Path, service: Running) -> float:
    """The median time that the model takes for a row, in microseconds, in this process."""
    opened = open_bundle(bundle)
    predictor, decoder = load_predictor(opened), Decoder(opened.contract)
    rows = [decoder.row(decoder.one(request.partition(b"\r\n\r\n")[2])) for request in service.requests]
    times = []
    for row in rows * ROUNDS_OF_MODEL:
        began = time.perf_counter()
        predictor.predict_one(row)
        times.append(time.perf_counter() - began)
    return round(MICRO * statistics.median(times), 1)


def _turn(run, service: Running, connections: int, seconds: float) -> Round:
    before = service.cpu()
    measured = run(Load(service.client, service.requests, connections, seconds).run())
    times = measured.latencies.summary()
    if times is None or measured.refused or measured.broken:
        raise SlipwayError("the service did not answer all requests", f"refused {dict(measured.refused)}, broken {dict(measured.broken)}")  # fmt: skip
    cpu = (service.cpu() - before) / measured.predicted
    return Round(measured.predicted / seconds, times["median"] * MICRO, times["p99"] * MICRO, cpu * MICRO)


def _compared(alone: list[Round], those: list[Round]) -> dict[str, float]:
    """Medians over the rounds, also of the ratio to the service alone in the same round, and of the difference."""
    pairs = list(zip(alone, those, strict=True))
    more = [one.median - plain.median for plain, one in pairs]
    found = {
        "rate": statistics.median(one.rate for one in those),
        "median_us": statistics.median(one.median for one in those),
        "p99_us": statistics.median(one.p99 for one in those),
        "cpu_us": statistics.median(one.cpu for one in those),
        "cpu_more_us": statistics.median(one.cpu - plain.cpu for plain, one in pairs),
        "rate_ratio": statistics.median(one.rate / plain.rate for plain, one in pairs),
        "median_ratio": statistics.median(one.median / plain.median for plain, one in pairs),
        "p99_ratio": statistics.median(one.p99 / plain.p99 for plain, one in pairs),
        "more_us": statistics.median(more),
        "more_us_low": statistics.quantiles(more, n=4)[0],
        "more_us_high": statistics.quantiles(more, n=4)[2],
    }
    return {name: round(value, 3) for name, value in found.items()}


def _show(found: dict) -> None:
    console = Console()
    for load, services in found["loads"].items():
        table = Table(title=f"{load}, µs, {found['rounds']} rounds")
        for column in (
            "",
            "requests/s",
            "median µs",
            "p99 µs",
            "× requests/s",
            "× median",
            "× p99",
            "median more µs",
            "MB",
        ):
            table.add_column(column, justify="right" if column else "left")
        for name, one in services.items():
            more = f"{one['more_us']:.1f} ({one['more_us_low']:.1f} to {one['more_us_high']:.1f})"
            ratios = (f"{one[which]:.3f}" for which in ("rate_ratio", "median_ratio", "p99_ratio"))
            times = (f"{one[which]:.0f}" for which in ("rate", "median_us", "p99_us"))
            table.add_row(name, *times, *ratios, more, f"{found['memory_mb'][name]:.0f}")
        console.print(table)
    console.print(f"the model itself takes {found['model_us']} µs for a row; {found['cores']} cores")


if __name__ == "__main__":
    sys.exit(main())
