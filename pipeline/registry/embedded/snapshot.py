"""The snapshot of the embedded MLflow as an OCI artifact: one blob for the database, one per folder of a run or model.

An unchanged folder is neither packed nor sent again: its layer names its content (`slipway.content`).
"""

import gzip
import hashlib
import json
import re
import shutil
import sqlite3
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import artifacts
from pipeline.errors import RegistryError
from pipeline.registry.embedded import oci

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
RECORD = "carried.json"  # in MLflow's folder: where it was fetched from, {"base": digest or null, "holder": id or null}
UNKNOWN = "unknown"  # instead of a digest when the registry refused to be read: then production's state is unknown
CONTENT, TITLE = "slipway.content", "org.opencontainers.image.title"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
Parts = dict[str, dict[str, Path]]


def snapshot(home: Path, folder: Path) -> Parts:
    """The files of the MLflow in `home`, by part and by name; the database is a copy made in `folder`.

    Raises RegistryError when the database is damaged. Without a database there are no parts.
    """
    if not (home / DATABASE).exists():
        return {}
    parts: Parts = {DATABASE: {DATABASE: _copy(home / DATABASE, folder / DATABASE)}}
    for path in sorted((home / ARTIFACTS).rglob("*")):
        if path.is_file():
            name = path.relative_to(home).as_posix()
            parts.setdefault(part_of(name), {})[name] = path
    return parts


def part_of(name: str) -> str:
    """The part that a file belongs to: artifacts/EXPERIMENT/RUN or artifacts/EXPERIMENT/models/MODEL."""
    folders = PurePosixPath(name).parts[:-1]
    return "/".join(folders[: 4 if folders[2:3] == ("models",) else 3])


def _copy(source: Path, target: Path) -> Path:
    """Copy a database between two transactions; copies of equal databases have equal bytes."""
    try:
        with sqlite3.connect(source, timeout=30) as before, sqlite3.connect(target) as after:
            before.backup(after)
            found = after.execute("PRAGMA integrity_check").fetchone()[0]
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise RegistryError(
            f"MLflow's database {source} is damaged: {str(found).splitlines()[0][:200]}",
            "nothing was saved or overwritten: run the workflow again, or on a machine of yours move that folder away",
        )
    return target


def content(files: dict[str, Path]) -> str:
    """A digest over the names and bytes of a part's files."""
    listing = [[name, artifacts.sha256(path)] for name, path in sorted(files.items())]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def contents(layers: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The layers of a state by their content digests; a name that is not a digest is foreign and left out."""
    named = [(layer.get("annotations", {}).get(CONTENT, ""), layer) for layer in layers]
    return {name: layer for name, layer in named if re.fullmatch("[0-9a-f]{64}", name)}


def pack(part: str, files: dict[str, Path], target: Path) -> dict[str, Any]:
    """Pack a part as an archive whose bytes depend on its files alone; return the layer that describes it."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    return {
        "mediaType": LAYER,
        "digest": f"sha256:{artifacts.sha256(target)}",
        "size": target.stat().st_size,
        "annotations": {TITLE: f"{part}.tar.gz", CONTENT: content(files)},
    }


def unpack(archive: Path, home: Path) -> None:
    """Unpack a part into a folder; raises RegistryError for one that is damaged or would write anything else."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                _check(entry)
                target = home / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(entry)
                assert source is not None  # always, for a regular file
                with target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileExistsError, NotADirectoryError) as error:
        raise _unfit(f"it cannot be unpacked: {error}") from None


def _check(entry: tarfile.TarInfo) -> None:
    path = PurePosixPath(entry.name)
    if not entry.isreg() or path.is_absolute() or ".." in path.parts or "\0" in entry.name:
        raise _unfit(f"it holds {entry.name!r}, which is no file of its own folder")
    if entry.name != DATABASE and path.parts[:1] != (ARTIFACTS,):
        raise _unfit(f"it holds {entry.name!r}, which is no part of an MLflow")


def _unfit(why: str) -> RegistryError:
    return RegistryError(
        f"the state of MLflow in the registry is not as it was saved: {why}",
        "somebody else wrote to its tag; docs/mlflow.md says how to go back to an earlier state",
    )


def state(layers: list[dict[str, Any]], base: str | None, who: str) -> bytes:
    """The manifest of a state: its parts, its predecessor, and who saved it, for people."""
    return oci.manifest(layers, {"slipway.before": base or "none", "slipway.saved-by": who})


def megabytes(size: int) -> str:
    """A size in bytes for people."""
    return f"{size / 1e6:.1f} MB"
