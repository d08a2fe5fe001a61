"""A model asked by the service in a process of its own, which has what an image of its format has.

That is the packages of the format's locked requirements and the bundle's own code, and nothing else: what answers here answers in an
image.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import ROOT
from pipeline.errors import PortabilityError
from pipeline.formats import bundle

# What serving/Dockerfile takes out of an image again.
TAKEN_OUT = {
    "lightgbm": {"sklearn", "joblib", "threadpoolctl"},
    "catboost": {
        "plotly",
        "matplotlib",
        "mpl_toolkits",
        "pylab",
        "graphviz",
        "PIL",
        "fontTools",
        "contourpy",
        "kiwisolver",
        "pyparsing",
        "cycler",
    },
}
SECONDS, SECONDS_PER_ROW = 300.0, 0.05  # that a stored model may take to load, and for each row that it is asked


def ask(
    files: Mapping[str, bytes],
    contract: dict[str, Any],
    parts: Sequence[pd.DataFrame],
    calls: int = 0,
    each: bool = False,
) -> tuple[list[np.ndarray], float]:
    """For each part, whose rows are asked together, probabilities (n, k) or values (n,) of a stored model.

    Also the median milliseconds of `calls` single predictions (or NaN). `files` are those of the bundle, by path. Raises
    PortabilityError with the service's own words when it does not load or answer; with `each`, a row that it does not answer has NaN.
    """
    rows = pd.concat(parts, ignore_index=True)
    with tempfile.TemporaryDirectory() as work:
        folder = bundle.try_out(files, contract, Path(work) / "bundle")
        kinds = {given["name"]: given["type"] for given in contract["inputs"]}
        columns = [_column(rows[name], kind) for name, kind in kinds.items()]
        arrays = {f"f{place}": column for place, column in enumerate(columns)}
        np.savez(Path(work) / "rows.npz", **arrays, parts=[len(part) for part in parts])  # type: ignore[arg-type]
        options = {"bundle": folder, "rows": f"{work}/rows.npz", "answers": f"{work}/answers.npz", "calls": calls}
        command = [sys.executable, "-m", "serving.batch", f"--only={','.join(packages(contract['format']))}"]
        command += [f"--{name}={value}" for name, value in options.items()] + ["--each"] * each
        limit = SECONDS + len(rows) * SECONDS_PER_ROW
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=_bare(work),
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            raise PortabilityError(
                f"the service did not answer {len(rows)} rows with the stored model within {limit:.0f} s",
                "make the model's predict() faster in project/model.py",
            ) from None
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
            said = said.removeprefix("error: ").replace(f"{folder}: ", "")
            raise PortabilityError(
                f"the service cannot run the stored model: {said}",
                f"it has the packages of {bundle.REQUIREMENTS[contract['format']]} and the modules of project/ that the model's types "
                "name; docs/models.md says how to add a package",
            )
        with np.load(f"{work}/answers.npz", allow_pickle=False) as found:
            ends = np.cumsum([len(part) for part in parts])[:-1]
            return np.split(found["answers"], ends), float(found["milliseconds"])


def _column(values: pd.Series, kind: str) -> np.ndarray:
    """Numbers as they are; text as the bytes of a JSON list, for NumPy's own texts lose a zero at their end."""
    if kind == "text":
        return np.frombuffer(json.dumps(values.tolist()).encode(), dtype=np.uint8)
    return values.to_numpy(dtype=np.float64)


def _bare(folder: str) -> dict[str, str]:
    """The variables of an image: nothing that this machine sets, no locale but C, nobody's home.

    What OpenBLAS is told of the processor stays: without it some machines would compute in another way than the training did.
    """
    processor = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
    own = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    return processor | own


def packages(kind: str) -> list[str]:
    """The names under which the packages of an image for this format are imported."""
    lines = (ROOT / bundle.REQUIREMENTS[kind]).read_text(encoding="utf-8").splitlines()
    locked = {_plain(line.split("==")[0]) for line in lines if "==" in line and not line.startswith((" ", "#"))}
    known = packages_distributions().items()
    found = {name for name, packages in known if locked & {_plain(one) for one in packages}}
    return sorted(found - TAKEN_OUT.get(kind, set()))


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(".", "-")
