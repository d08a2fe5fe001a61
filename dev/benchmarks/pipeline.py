"""Measure the pipeline: seconds per stage of a warm `make ship`, set against the imports it cannot avoid, and growth with the rows.

Everything runs in a copy of the repository in a temporary folder, so nothing of yours is touched.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from delivery.drill.ports import replace_taken_ports
from pipeline.artifacts import ROOT, write_text
from pipeline.errors import SlipwayError

ROUNDS = 3
ROWS = [10**3, 10**4, 10**5, 10**6]
IMPORTS = "import mlflow, sklearn, sklearn.linear_model, great_expectations"
LEFT_OUT = (".git", ".venv", "build", ".mlflow", ".slipway", "__pycache__")
STAGES = {
    "validate": ["-m", "scripts.validate_data"],
    "train": ["train.py"],
    "evaluate": ["evaluate.py"],
}


def measure(rows: list[int], console: Console) -> dict:
    """All figures of the pipeline, in seconds, ready for JSON; raises SlipwayError when a stage fails."""
    with copy() as root:
        return {"ship": measure_ship(root, console), "growth": measure_growth(root, rows, console)}


@contextmanager
def copy():
    """A copy of the repository with ports that nothing else holds; what it started is ended."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*LEFT_OUT))
        replace_taken_ports(root)
        # The target that is there on every machine, so that figures can be compared.
        edit(root, r'^target = "(auto|docker|kubernetes)"', 'target = "process"')
        try:
            yield root
        finally:
            run(root, ["-m", "scripts.stop"])


def run(root: Path, command: list[str]) -> float:
    """Seconds that one command takes; raises SlipwayError when it fails."""
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, *command], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SlipwayError(
            f"{' '.join(command)} failed in the benchmark: {(done.stderr or done.stdout).strip()[-500:]}"
        )
    return time.perf_counter() - begin


def measure_ship(root: Path, console: Console) -> dict:
    """Warm ships that accept and that keep, interleaved with the imports; medians and ranges in seconds."""
    console.print("one ship to warm up …")
    edit(root, r"^policy = .*", 'policy = "not_worse"')  # so that the whole chain runs for it
    edit(root, r"^margin = .*", "margin = 1.0")
    cold = run(root, ["-m", "scripts.ship"])
    times: dict[str, list[float]] = {"imports": [], "ship, nothing new": [], "ship, new version": []}
    stages: dict[str, list[float]] = {}
    for round_number in range(ROUNDS):
        console.print(f"round {round_number + 1} of {ROUNDS} …")
        times["imports"].append(run(root, ["-c", IMPORTS]))
        times["ship, nothing new"].append(run(root, ["-m", "scripts.ship"]))
        edit(root, r"^C = [\d.]+", f"C = {0.5 + 0.01 * (round_number + 1)}")  # another model, hardly different
        times["ship, new version"].append(run(root, ["-m", "scripts.ship"]))
        for stage, seconds in json.loads((root / "build" / "ship.json").read_text(encoding="utf-8")).items():
            stages.setdefault(stage, []).append(seconds)
    return {
        "cold": cold,
        "times": times,
        "stages": {stage: statistics.median(seconds) for stage, seconds in stages.items()},
        "ratio": statistics.median(times["ship, new version"]) / statistics.median(times["imports"]),
    }


def edit(root: Path, pattern: str, text: str) -> None:
    """Change a line of the copy's settings."""
    path = root / "pipeline.toml"
    write_text(path, re.sub(pattern, text, path.read_text(encoding="utf-8"), count=1, flags=re.M))


def measure_growth(root: Path, sizes: list[int], console: Console) -> dict[int, dict[str, float]]:
    """Seconds of validate, train and evaluate on ever more made-up rows of the shipped data's kind."""
    import numpy as np
    import pandas as pd

    source = pd.read_csv(root / "data" / "breast_cancer.csv")
    numbers = source.select_dtypes("number").columns
    grown = {}
    for rows in sizes:
        console.print(f"{rows} rows …")
        rng = np.random.default_rng(rows)
        frame = source.iloc[rng.integers(0, len(source), rows)].reset_index(drop=True)
        # Jitter keeps rows apart and the classes overlapping, as they are in data that size.
        frame[numbers] *= 1 + 0.02 * rng.standard_normal((rows, len(numbers)))
        frame["id"] = [f"row-{place:07d}" for place in range(rows)]
        frame.to_csv(root / "data" / "breast_cancer.csv", index=False)
        grown[rows] = {stage: run(root, command) for stage, command in STAGES.items()}
    return grown


def section(found: dict) -> str:
    """The section of docs/benchmarks.md about the pipeline."""
    shipping, growth = found["ship"], found["growth"]
    times = shipping["times"]
    lines = [
        "## The pipeline: a warm `make ship`",
        "",
        f"How long it takes from data to a model in production. Medians of {ROUNDS} interleaved rounds, lowest and highest in brackets,",
        f"on {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| what | seconds |",
        "| --- | ---: |",
        *(f"| {name} | {statistics.median(s):.1f} ({min(s):.1f} to {max(s):.1f}) |" for name, s in times.items()),
        f"| first ship in a fresh folder (MLflow's database is made, nothing is running) | {shipping['cold']:.1f} |",
        "",
        "`imports` is one Python process that only imports mlflow, scikit-learn and great-expectations: the floor for any pipeline that uses them.",
        f"A ship that puts a new version into production takes **{shipping['ratio']:.1f} times** that.",
        "",
        "| stage | seconds |",
        "| --- | ---: |",
        *(f"| {stage} | {seconds:.1f} |" for stage, seconds in shipping["stages"].items()),
        "",
        "`validate` and `validate-model` run in parallel, while MLflow starts.",
        "",
        "### More rows",
        "",
        "Seconds per stage on generated rows like those of the example (30 numeric columns), imports included.",
        "",
        f"| rows | {' | '.join(STAGES)} |",
        f"| ---: |{' ---: |' * len(STAGES)}",
        *(
            f"| {rows:,} | {' | '.join(f'{seconds:.1f}' for seconds in took.values())} |"
            for rows, took in growth.items()
        ),
        "",
    ]
    return "\n".join(lines)
