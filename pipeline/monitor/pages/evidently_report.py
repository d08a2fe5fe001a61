"""Evidently's report of the last days beside the training data, by an environment of its own: build/evidently.html.

It is a second opinion for people who know its pages. The monitor decides without it, and nothing is alarmed by it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from pipeline.artifacts import ROOT
from pipeline.data.dataset import Dataset
from pipeline.errors import SlipwayError
from pipeline.evaluation.wording import clean

PYTHON = ROOT / ".venv" / "evidently" / "bin" / "python"
READY = ROOT / ".venv" / "evidently.ready"
PROGRAM = Path(__file__).with_name("evidently_page.py")
MOST_ROWS = 20_000  # of each table, drawn at random: its tests call everything different beyond, and its page grows
MOST_VALUES = 50  # of a column of text; the others are one value
OTHERS = "all others"
SECONDS = 900
# Its page runs what a name of a column or a value has in it as HTML or as a script. These look alike and do nothing.
HARMLESS = str.maketrans({"<": "‹", ">": "›", "&": "+", '"': "″", "'": "′", "\\": "/", "`": "′", "{": "(", "}": ")"})


class _Told(msgspec.Struct):
    row: int
    outcome: str | float | None


class _Logged(msgspec.Struct):
    role: str
    model: str
    model_version: str
    features: list[list[float | bool | str | None]]
    outcomes: list[msgspec.Raw] = []


_requests = msgspec.json.Decoder(_Logged)
_outcomes = msgspec.json.Decoder(_Told)


def window(last_day: str, days: int) -> tuple[str, str]:
    """The first of so many days, and the day after the last, as the log's export takes them."""
    last = date.fromisoformat(last_day)
    return (last - timedelta(days=days - 1)).isoformat(), (last + timedelta(days=1)).isoformat()


def logged(lines: Iterable[bytes], model: str, version: str, names: Sequence[str], target: str) -> pd.DataFrame:
    """The rows that callers sent to a version, of an export of the log (serving/log/export.py); `target` is empty where no outcome came."""
    rows: list[list] = []
    for line in lines:
        one = _requests.decode(line)
        if (one.role, one.model, one.model_version) != ("served", model, version):
            continue
        told = _truths(one.outcomes)
        # Rows of another length are from a version of the same number in another MLflow.
        rows += [[*row, told.get(place)] for place, row in enumerate(one.features) if len(row) == len(names)]
    return pd.DataFrame(rows, columns=[*names, target], dtype=object)


def _truths(outcomes: Sequence[msgspec.Raw]) -> dict[int, str | float | None]:
    found = {}
    for raw in outcomes:
        try:
            told = _outcomes.decode(raw)
        except msgspec.ValidationError:  # a caller may send anything
            continue
        found[told.row] = told.outcome
    return found


def tables(dataset: Dataset, current: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """The training side of the data and the logged rows with the columns that both have, and which of them are numbers or categories.

    A column that is empty on one side is left out, because Evidently fails on it. Names and values are written so that its page
    shows them and nothing else.
    """
    settings = dataset.settings.data
    reference = dataset.features[~dataset.holdout].copy()
    reference[settings.target] = dataset.target[~dataset.holdout]
    kinds = dict(dataset.kinds) | {settings.target: "number" if settings.task == "regression" else "text"}
    reference, current = _some(reference), _some(current)
    then, now = pd.DataFrame(), pd.DataFrame()
    about: dict[str, list[str]] = {"numbers": [], "categories": []}
    target = None
    for name, kind in kinds.items():
        if name not in current:
            continue
        write = _numbers if kind in ("number", "integer") else _texts
        before, after = write(reference[name]), write(current[name])
        if before.isna().all() or after.isna().all():
            continue
        if write is _texts:
            kept = before.value_counts().index[:MOST_VALUES]
            before, after = (column.where(column.isna() | column.isin(kept), OTHERS) for column in (before, after))
        shown = _free(harmless(name), now)
        then[shown], now[shown] = before, after
        about["numbers" if write is _numbers else "categories"].append(shown)
        target = shown if name == settings.target else None  # it comes last
    return then, now, about | {"target": target}


def harmless(text: str) -> str:
    """Text that no page can take for markup."""
    return clean(text, 200).translate(HARMLESS)


def _free(name: str, taken: pd.DataFrame) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _some(frame: pd.DataFrame) -> pd.DataFrame:
    few = frame if len(frame) <= MOST_ROWS else frame.sample(MOST_ROWS, random_state=0)
    return few.reset_index(drop=True)


def _numbers(column: pd.Series) -> pd.Series:
    found = pd.to_numeric(column, errors="coerce").astype("float64")
    return found.where(np.isfinite(found))


def _texts(column: pd.Series) -> pd.Series:
    """Text, and booleans alike whether they came as true or as 1.0."""
    written = column.map(lambda value: str(float(value)) if isinstance(value, bool | float) else harmless(str(value)))
    return written.astype("object").where(column.notna() & (column != ""), None)


def write(dataset: Dataset, current: pd.DataFrame, page: Path) -> None:
    """Have Evidently compare the logged rows with the training side; raises SlipwayError when it is not installed or fails."""
    if not READY.exists():
        raise SlipwayError("Evidently is not installed", "run `make monitor ARGS=--evidently`, which installs it")
    then, now, about = tables(dataset, current)
    if not about["numbers"] and not about["categories"]:
        raise SlipwayError("the training data and the logged rows have no column in common that is not empty")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        then.to_parquet(folder / "reference.parquet")
        now.to_parquet(folder / "current.parquet")
        (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
        _run(folder)
        page.parent.mkdir(parents=True, exist_ok=True)
        beside = page.with_name(f".{page.name}")
        beside.write_bytes((folder / "report.html").read_bytes())
        beside.replace(page)


def _run(folder: Path) -> None:
    command = [str(PYTHON), "-I", "-W", "ignore", str(PROGRAM), str(folder)]
    surroundings = {**os.environ, "DO_NOT_TRACK": "1"}  # else it tells its maker that it runs
    try:
        done = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlipwayError(
            f"Evidently made no report: {clean(error, 300)}", "the monitor's own report is there"
        ) from error
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SlipwayError(f"Evidently made no report: {clean(last, 300)}", "the monitor's own report is there")
