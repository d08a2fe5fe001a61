"""Syncs the embedded MLflow between its folder and the registry: fetch it, put it in place, send what is new."""

import os
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from pipeline import container_registry, state
from pipeline.artifacts import STATE, write_json
from pipeline.errors import RegistryError
from pipeline.registry import mlflow_server, versions
from pipeline.registry.embedded import oci, snapshot
from pipeline.registry.embedded.oci import Repository
from pipeline.settings import Settings

TAG = "state"
SIDE_BY_SIDE = 8  # parallel transfers: a registry takes its time for each blob, however small
TELL = 5  # seconds between two progress messages
Layers = list[dict[str, Any]]


def place(settings: Settings) -> tuple[str, str]:
    """The repository for MLflow's snapshot, and ""; or "" and the reason why there is none."""
    if mlflow_server.remote_uri():
        return "", "MLFLOW_TRACKING_URI is set: that server keeps what is in MLflow"
    repository, pushed = container_registry.repository(settings.name)
    if not pushed:
        return "", "IMAGE_REPOSITORY is not set: MLflow stays on this machine"
    return oci.beside(repository, "mlflow"), ""


def who() -> str:
    """This job, for people: a link to it."""
    server, path, run, job = (os.environ.get(f"GITHUB_{key}") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID", "JOB"))
    if path and run:
        return f"job {job} of {server}/{path}/actions/runs/{run}"
    return f"{versions.actor()} on {socket.gethostname()}"


def record() -> dict[str, Any]:
    """Where the local MLflow was fetched from: {"base", "holder", "content"}, or {} when it was not."""
    then = "this MLflow counts as a local one: `make stop`, and move .mlflow away, to fetch it again"
    return dict(state.read(mlflow_server.HOME / snapshot.RECORD, state.Fetched, then) or {})


def remember(folder: Path, base: str | None, holder: str | None, content: list[str]) -> None:
    """Write that record."""
    write_json(folder / snapshot.RECORD, {"base": base, "holder": holder, "content": content})


def check_overwrite(store: Repository) -> None:
    """Raise RegistryError when the local MLflow has something that neither came from the registry nor is in it."""
    if not holds_something():
        return
    here = content()
    if here == record().get("content"):
        return
    found = store.get(TAG)
    if found is None or here != sorted(snapshot.contents(found[1]["layers"])):
        raise RegistryError(
            f"the MLflow in {mlflow_server.HOME} holds something that {store.name} does not, and would be overwritten",
            "`make ui` saves changes made since it opened this MLflow, `make save-mlflow` those made after a restore; "
            "else `make stop`, and move that folder away",
        )


def holds_something() -> bool:
    """Whether the local MLflow has any run or model."""
    return _of_worth(mlflow_server.HOME / snapshot.DATABASE)


def content() -> list[str]:
    """A digest over the local MLflow; raises RegistryError when its database is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        parts = snapshot.snapshot(mlflow_server.HOME, Path(folder))
        return sorted(snapshot.content(files) for files in parts.values())


def database(store: Repository, layers: Layers, folder: Path) -> Path:
    """Fetch only the database of a state into a folder, from which it can be read."""
    for layer in snapshot.contents(layers).values():
        if layer["annotations"].get(snapshot.TITLE) == f"{snapshot.DATABASE}.tar.gz":
            store.download(layer, folder / "database.tar.gz")
            snapshot.unpack(folder / "database.tar.gz", folder)
    return folder / snapshot.DATABASE


def set_aside(folder: Path) -> None:
    """Move the local MLflow to another place where nothing uses it; none is left."""
    mlflow_server.stop()
    shutil.rmtree(STATE / "mlflow.old", ignore_errors=True)  # else `recover` would take it for the moved one
    mlflow_server.HOME.rename(folder)


def _of_worth(database: Path) -> bool:
    """Whether a database has any run or model; a server's new one has not."""
    if not database.exists():
        return False
    tables = ("runs", "registered_models")
    try:
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            return any(connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)
    except sqlite3.DatabaseError as error:
        return "no such table" not in str(error)  # a server was killed before it had created its tables


def refuse_unknown() -> None:
    """Raise RegistryError when the snapshot could not be read: an empty MLflow here says nothing about production."""
    if (mlflow_server.HOME / snapshot.UNKNOWN).exists() and not mlflow_server.remote_uri():
        why = (mlflow_server.HOME / snapshot.UNKNOWN).read_text(encoding="utf-8").strip()
        raise RegistryError(f"what is in production is not known: {why}", "give the job the right to read packages")


def fetch(store: Repository, found: tuple[str, dict[str, Any]] | None, holder: str | None) -> None:
    """Replace the local MLflow by a state ({} for an empty one); if killed at any moment, one of the two is intact."""
    new = STATE / "mlflow.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    base, layers = (found[0], list(snapshot.contents(found[1]["layers"]).items())) if found else (None, [])
    with tempfile.TemporaryDirectory(dir=STATE) as folder:

        def one(item: tuple[str, dict[str, Any]]) -> int:
            archive = Path(folder) / item[0]
            store.download(item[1], archive)
            snapshot.unpack(archive, new)
            archive.unlink()
            return item[1]["size"]

        _all("fetching MLflow", one, layers, sum(layer["size"] for _, layer in layers))
    remember(new, base, holder, sorted(content for content, _ in layers))
    mlflow_server.stop()
    _swap(new, mlflow_server.HOME)


def recover() -> None:
    """Undo a swap that was killed between its two steps."""
    old = STATE / "mlflow.old"
    if old.exists() and not mlflow_server.HOME.exists():
        old.rename(mlflow_server.HOME)


def _swap(new: Path, home: Path) -> None:
    old = STATE / "mlflow.old"
    shutil.rmtree(old, ignore_errors=True)
    if home.exists():
        home.rename(old)
    new.rename(home)
    shutil.rmtree(old, ignore_errors=True)


def send(store: Repository, folder: Path, known: dict[str, dict[str, Any]]) -> Layers:
    """Send the parts of the local MLflow that the registry lacks; return the layers of all. `folder` is for packing."""
    parts = snapshot.snapshot(mlflow_server.HOME, folder)
    if not parts and known:
        raise RegistryError(
            f"{mlflow_server.HOME / snapshot.DATABASE} is gone, and the state in the registry is not",
            "nothing was saved: run the workflow again",
        )
    named = {part: snapshot.content(files) for part, files in parts.items()}
    new = [part for part in parts if named[part] not in known]

    def one(part: str) -> int:
        archive = folder / f"{named[part]}.tar.gz"
        layer = snapshot.pack(part, parts[part], archive)
        store.upload(archive, layer)
        archive.unlink()
        known[named[part]] = layer
        return layer["size"]

    if new:
        _all("saving MLflow", one, new, None)
    return [known[named[part]] for part in sorted(parts)]


def _all(what: str, one: Callable[[Any], int], items: Iterable[Any], size: int | None) -> None:
    """Process items in parallel and report progress; `one` returns bytes, in the unit of `size`."""
    items = list(items)
    began = told = time.monotonic()
    of = f"of {snapshot.megabytes(size)} " if size else ""
    done = 0
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        for count, moved in enumerate(pool.map(one, items), 1):
            done += moved
            if time.monotonic() - told > TELL and count < len(items):
                print(f"  {what}: {snapshot.megabytes(done)} {of}in {count} of {len(items)} parts", flush=True)
                told = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)  # after the first failure, do not start the rest
    print(f"{what}: {snapshot.megabytes(done)} in {len(items)} parts, {time.monotonic() - began:.1f} s", flush=True)
