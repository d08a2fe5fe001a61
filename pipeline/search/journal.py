"""The finished trials of a search on disk, so that one that was killed goes on: a line of JSON for each, in .slipway/search/.

A search is known by all that its result depends on: the data, the settings, the code of project/ and the locked requirements. Where one of
them changes, another file begins.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import msgspec

from pipeline import artifacts
from pipeline.ci import lineage
from pipeline.data.dataset import Dataset
from pipeline.evaluation.record import SearchTrial

KEPT = 5  # journals; older ones are deleted
DECIDES = {"search": {"method", "trials", "folds", "space"}, "gate": {"metric"}}  # not how long and how many at once


def key(dataset: Dataset) -> str:
    """What names a search, in hexadecimal."""
    settings = dataset.settings
    tables = settings.model_dump(
        mode="json", include={"data": True, "split": True, "train": True, "decision": True, **DECIDES}
    )
    code = {
        path.relative_to(artifacts.ROOT).as_posix(): artifacts.sha256(path)
        for path in sorted((artifacts.ROOT / "project").rglob("*.py"))
    }
    given = [dataset.hash, tables, code, lineage.lock_hash()]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:32]


class Journal:
    """The finished trials of one search, by their parameters."""

    def __init__(self, key: str):
        self.path = artifacts.STATE / "search" / f"{key}.jsonl"
        self.found = {_key(one.parameters): one for one in _read(self.path)}

    def get(self, parameters: dict[str, Any]) -> SearchTrial | None:
        """The trial that had these parameters, if one was finished."""
        return self.found.get(_key(parameters))

    def add(self, trial: SearchTrial) -> None:
        """Keep a finished trial; it is on the disk when this returns."""
        self.found[_key(trial.parameters)] = trial
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"\n" + msgspec.json.encode(trial) + b"\n")  # begins anew after a line that was cut off
            file.flush()
            os.fsync(file.fileno())
        if new:
            _prune(self.path.parent)


def _key(parameters: dict[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True)


def _read(path: Path) -> list[SearchTrial]:
    """The trials of a file; one that was cut off by a kill is left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(msgspec.json.decode(line, type=SearchTrial))
        except msgspec.DecodeError:
            continue
    return found


def _prune(folder: Path) -> None:
    """Delete all but the newest."""
    files = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files[KEPT:]:
        path.unlink(missing_ok=True)
