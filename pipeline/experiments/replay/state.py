"""What a replay has done so far, so that a run that was killed goes on where it was: .slipway/replay/.

A folder per model, environment and number of days: plan.json, and a file for each stretch of the log that was answered. It holds answers,
outcomes and the values by which rows are sliced, so it is deleted when the result is written, and when a subject is forgotten.
"""

import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from pipeline.artifacts import STATE, write_text
from pipeline.experiments.replay.scoring import Counts, Example, Rows
from serving.log.marks import Mark

FOLDER = STATE / "replay"
PLAN = "plan.json"
FORMAT = 1  # of the files; those of another are not read
ABANDONED = 86_400  # seconds after which what a killed run left is begun anew
STRETCH = 50_000  # rows of a stretch of the log, about
HOUR = 3600
COLUMNS = ("key", "subject", "day", "version", "a", "b", "outcome")


class Plan(msgspec.Struct, frozen=True):
    """What is replayed: the requests from the first of the edges (seconds since 1970) to before the last, stretch by stretch.

    `share` of the requests are taken, `rows` are in the log all together (delivery's own too), `slices` are the columns kept for slices.
    """

    edges: list[float]
    share: float
    rows: int
    slices: list[str]
    salt: str
    begun: float
    settings: str  # fingerprint of what else decides which rows count, and how
    format: int = FORMAT


def hours(since: float, until: float) -> list[float]:
    """Moments an hour apart, from one to the other."""
    return [*np.arange(since, until, HOUR).tolist(), until]


def stretches(edges: Sequence[float], marks: Sequence[Mark]) -> list[float]:
    """Edges between which about STRETCH rows lie: short stretches are taken together, long ones split."""
    found, rows = [edges[0]], 0
    for start, end, mark in zip(edges, edges[1:], marks, strict=False):
        if rows and rows + mark.rows > STRETCH:
            found.append(start)
            rows = 0
        rows += mark.rows
        if parts := rows // STRETCH:
            if found[-1] < start:
                found.append(start)
            found += np.linspace(start, end, parts + 1)[1:].tolist()
            rows = 0
    return found if found[-1] == edges[-1] else [*found, edges[-1]]


def read_plan(folder: Path, settings: str, slices: Sequence[str]) -> Plan | None:
    """The plan of a run that was killed, where it can be gone on with."""
    try:
        plan = msgspec.json.decode((folder / PLAN).read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError):
        return None
    same = (plan.format, plan.settings, plan.slices) == (FORMAT, settings, list(slices))
    return plan if same and 0 <= time.time() - plan.begun < ABANDONED else None


def write_plan(folder: Path, plan: Plan) -> None:
    """Begin a replay in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_text(folder / PLAN, msgspec.json.encode(plan).decode())


def tidy() -> None:
    """Delete what replays left that were killed long ago."""
    for plan in FOLDER.glob(f"*/{PLAN}"):
        if time.time() - plan.stat().st_mtime > ABANDONED:
            shutil.rmtree(plan.parent, ignore_errors=True)


def forget() -> bool:
    """Delete what unfinished replays have kept of any row; whether there was any."""
    there = any(FOLDER.glob(f"*/{PLAN}"))
    shutil.rmtree(FOLDER, ignore_errors=True)
    return there


def save(folder: Path, number: int, mark: Mark, rows: Rows) -> None:
    """Keep the answers to a stretch, whole or not at all."""
    about = msgspec.json.encode((mark, rows.examples, rows.counts))
    arrays = {name: getattr(rows, name) for name in COLUMNS} | {f"slice:{key}": one for key, one in rows.slices.items()}
    handle, name = tempfile.mkstemp(dir=folder, prefix=".stretch.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, about=np.frombuffer(about, dtype=np.uint8), **arrays)
        Path(name).replace(_file(folder, number))
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(folder: Path, number: int, mark: Mark) -> Rows | None:
    """The answers to a stretch, if they are there and the log still has in it what it had; else None."""
    try:
        with np.load(_file(folder, number), allow_pickle=False) as found:
            of, examples, counts = msgspec.json.decode(
                found["about"].tobytes(), type=tuple[Mark, list[Example], Counts]
            )
            if of != mark:
                return None
            slices = {name.removeprefix("slice:"): found[name] for name in found.files if name.startswith("slice:")}
            return Rows(**{name: found[name] for name in COLUMNS}, slices=slices, examples=examples, counts=counts)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError):
        return None


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.npz"
