"""The formats of a model measured side by side: bytes, time to load, time to answer, and how far the answers are from the trained model's."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipeline.artifacts import ROOT, read_json
from pipeline.data.dataset import Dataset
from pipeline.decisions import rules
from pipeline.errors import PortabilityError, StageError
from pipeline.evaluation.record import FORMAT_ROWS, FormatRow, Formats
from pipeline.formats import bundle, family
from pipeline.formats.comparison.opening import opened
from pipeline.formats.comparison.writing import Absent, Stored, every_format
from pipeline.formats.onnx.run import milliseconds
from pipeline.formats.parity import apart

PROCESSES = 3  # fresh ones for each format, of which the median counts
SECONDS = 300  # that a fresh process may take
REPEATED = {1: 20, 32: 5, 1000: 1}  # calls in a row that are timed as one: a single row takes microseconds
# By the name under which each is imported.
PACKAGES = {"sklearn": "scikit-learn"} | {
    name: name
    for name in ("numpy", "joblib", "skops", "onnxruntime", "torch", "skorch", "xgboost", "lightgbm", "catboost")
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def compare(dataset: Dataset, run: Mapping[str, Any], folder: Path, say: Callable[[str], None]) -> Formats:
    """The model of build/model, fitted again and written in every format; `run` is its run.json, `folder` build/model.

    Raises StageError where it is not of the present data and settings, or where the model fitted again answers otherwise.
    """
    from threadpoolctl import threadpool_limits

    contract = read_json(folder / "contract.json")
    files, contract = rules.without(bundle.model_files(folder), contract)
    say("fitting the model again, as `make train` did")
    model = family.build(dataset.settings, run["parameters"])
    fitted = family.fit(model, dataset, np.flatnonzero(~dataset.holdout))
    held = dataset.features[dataset.holdout]
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")  # as the service does
        trained = family.answer(fitted, dataset, held)
        same(trained, bundle.predictions(folder), dataset.settings.gate.parity)
        made = list(every_format(fitted, dataset, files, contract, trained))
        stored = [one for one in made if isinstance(one, Stored)]
        with tempfile.TemporaryDirectory() as work:  # nobody else may write to it
            paths = [Path(work) / str(place) for place in range(len(stored))]
            for one, path in zip(stored, paths, strict=True):
                path.write_bytes(one.content)
            say(f"opening {len(stored)} files in {PROCESSES} fresh processes each")
            loads = load_times(stored, paths)
            figures = measured(stored, paths, loads, dataset, trained)
    shared = os.getloadavg()[0] > 1.5  # more than this process
    return Formats(
        digest=run["model_digest"],
        model=family.family_of(fitted).title(fitted),
        rows=len(held),
        made_at=time.strftime("%Y-%m-%d", time.gmtime()),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        processor=platform.machine(),
        python=platform.python_version(),
        libraries=libraries(),
        shared=shared,
        formats=[
            FormatRow(name=one.name, missing=one.why) if isinstance(one, Absent) else figures[one.name] for one in made
        ],
    )


def same(trained: np.ndarray, before: np.ndarray, tolerance: float) -> None:
    """Refuse a model that answers otherwise than the one that `make train` left."""
    off = float(apart(before, trained).max(initial=0.0)) if before.shape == trained.shape else np.inf
    if off > tolerance:
        raise StageError(
            f"fitted again, the model answers otherwise than build/model, by up to {off:.2g}",
            "run `make train` if project/ was changed since; else take all randomness in project/model.py from `seed`",
        )


def load_times(stored: Sequence[Stored], paths: Sequence[Path]) -> list[tuple[float, float]]:
    """For each file the median milliseconds to open it in a fresh process, with all imports; and once more in the same, without."""
    took: list[list[list[float]]] = [[] for _ in stored]
    for _ in range(PROCESSES):
        for place, (one, path) in enumerate(zip(stored, paths, strict=True)):
            took[place].append(_fresh(one, path))
    return [(median(first for first, _ in times), median(again for _, again in times)) for times in took]


def _fresh(one: Stored, path: Path) -> list[float]:
    command = [sys.executable, "-m", "pipeline.formats.comparison.opening", one.how, str(path)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | ONE_THREAD, capture_output=True, text=True, timeout=SECONDS
    )
    if done.returncode:
        line = (done.stderr.strip().splitlines() or [""])[-1][:300]
        raise PortabilityError(f"a fresh process does not open the model as {one.name}: {line}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(
    stored: Sequence[Stored],
    paths: Sequence[Path],
    loads: Sequence[tuple[float, float]],
    dataset: Dataset,
    trained: np.ndarray,
) -> dict[str, FormatRow]:
    """A row for each file, by its name; the formats take turns at being asked, so that what else the machine does meets all alike."""
    held = dataset.features[dataset.holdout]
    models = {one.name: opened(one.how, path) for one, path in zip(stored, paths, strict=True)}
    one_thread()
    took: list[dict[str, float]] = []
    for rows in FORMAT_ROWS:
        some = held.iloc[np.arange(rows) % len(held)]
        calls = {
            one.name: partial(_calls, REPEATED[rows], partial(one.ask, models[one.name], one.feed(some)))
            for one in stored
        }
        times = milliseconds(calls, seconds=0.5 * len(stored), most=300)
        took.append({name: time_of / REPEATED[rows] for name, time_of in times.items()})
    found = {}
    for one, (cold, load) in zip(stored, loads, strict=True):
        answers = as_answers(one.ask(models[one.name], one.feed(held)), trained)
        found[one.name] = FormatRow(
            name=one.name,
            safe=one.safe,
            served=one.served,
            size=len(one.content),
            cold_ms=cold,
            load_ms=load,
            answer_ms=[times[one.name] for times in took],
            difference=float(np.abs(answers - trained).max(initial=0.0)),
        )
    return found


def _calls(count: int, call: Callable[[], Any]) -> None:
    for _ in range(count):
        call()


def as_answers(given: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Answers in float64, shaped as the trained model's: probabilities of the second class alone become both."""
    answers = np.asarray(given, dtype=np.float64)
    if like.ndim == 2 and answers.ndim == 1:
        answers = np.stack([1 - answers, answers], axis=1)
    return answers.reshape(like.shape)


def one_thread() -> None:
    """PyTorch has threads of its own, where it was imported."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def libraries() -> dict[str, str]:
    """The versions of the libraries that had a part."""
    return {name: version(name) for module, name in PACKAGES.items() if module in sys.modules}
