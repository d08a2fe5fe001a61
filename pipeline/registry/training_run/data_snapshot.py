"""Snapshots of the rows that a version was trained on, as an artifact of its run."""

import io
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from pipeline.artifacts import sha256
from pipeline.data import snapshot
from pipeline.data.dataset import Dataset, take_apart
from pipeline.errors import DataError, RegistryError
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

FOLDER = "data"
TAG = "data_snapshot"  # of a run: SHA-256 of the file


def pack(frame: pd.DataFrame, dataset: Dataset) -> bytes:
    """The rows as a file; raises DataError when they would not come back from it alike."""
    content = snapshot.to_parquet(frame)
    if take_apart(snapshot.read(io.BytesIO(content)), dataset.settings).hash != dataset.hash:
        raise DataError(
            "the rows would not come back from a snapshot as they are",
            "make each column numbers, truth values or text in load(), or set [data] snapshot = false in pipeline.toml",
        )
    return content


def keep(client, run_id: str, rows: bytes) -> None:
    """Keep the rows of a training with its run, and their SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / snapshot.FILE
        file.write_bytes(rows)
        client.log_artifact(run_id, str(file), FOLDER)
        client.set_tag(run_id, TAG, sha256(file))


def fetch(client, version: ModelVersion, settings: Settings, file: Path) -> None:
    """Bring the rows of a version into a file, once they are seen to be those of its training. Raises RegistryError."""
    digest = client.get_run(version.run_id).data.tags.get(TAG) if version.run_id else None
    if not digest:
        raise RegistryError(
            f"{version.name} version {version.number} has no snapshot of its rows",
            "[data] snapshot = true in pipeline.toml keeps those of the trainings to come",
        )
    with tempfile.TemporaryDirectory() as folder:
        there = Path(client.download_artifacts(version.run_id, f"{FOLDER}/{snapshot.FILE}", folder))
        found = sha256(there)
        if found != digest:
            raise RegistryError(
                f"the snapshot of version {version.number} was changed in MLflow: its SHA-256 is {found[:12]}, not {digest[:12]}",
                "it is not what the version was trained on",
            )
        if take_apart(snapshot.read(there), settings).hash != version.data_hash:
            raise RegistryError(
                f"the snapshot of version {version.number} does not give the data of its training",
                "[data] of pipeline.toml must name the same id and target as then",
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(there, file)
