"""Saving the embedded MLflow to the image registry, under the lease."""

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline import processes, state
from pipeline.artifacts import STATE
from pipeline.ci import outputs
from pipeline.errors import BusyError, RegistryError
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import heartbeat, oci, snapshot, sync
from pipeline.registry.embedded.lease import Claimant
from pipeline.registry.embedded.oci import Lost, Repository

WAIT_SECONDS = 120  # for a delivery in progress here; a cancelled job has five minutes for everything
AGAIN = "nothing was overwritten: run the workflow again, from its first job"


def end_cancelled() -> None:
    """End a delivery that a cancelled step left running: GitHub ends a step's shell, but not the command in it."""
    if not outputs.is_workflow():
        return
    try:
        with processes.lock("delivery", "make save-mlflow"):
            return
    except BusyError:
        print("stopping the command that a cancelled step left running", flush=True)
    holder = state.read(STATE / "delivery.lock", state.Holder, "the command that holds it is not stopped")
    if holder:
        with suppress(OSError):  # it has just exited
            os.kill(holder["pid"], signal.SIGTERM)


def save(repository: str, held: state.Lease) -> None:
    """Send what is new, move the tag and free the lease; raises Lost and keeps the lease, or RegistryError when refused."""
    mlflow_server.stop()  # after it, everything is written completely
    try:
        send(Repository(repository), Claimant(repository, held["who"], held["holder"]))
    except Lost:
        raise  # the lease is kept: the same command may succeed later
    except RegistryError:
        heartbeat.end()
        raise
    heartbeat.end()


def send(store: Repository, claimant: Claimant) -> None:
    """Send what is new and move the tag, under the claimant's lease; raises Lost, or RegistryError when refused."""
    record = sync.record()
    base = record["base"]
    found = store.get(sync.TAG)
    known = snapshot.contents(found[1]["layers"]) if found else {}
    _check(claimant.ours(), store.name)
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        layers = sync.send(store, Path(folder), known)
    contents = sorted(snapshot.contents(layers))
    if contents == record["content"]:
        print("MLflow is unchanged: nothing to save", flush=True)
        digest = base
    else:
        state = snapshot.state(layers, base, claimant.who)
        digest = oci.digest(state)
        _move(store, claimant, base, state)
        print(f"MLflow is saved: {store.name}@{digest}, {_size(layers)} in all", flush=True)
    sync.remember(mlflow_server.HOME, digest, None, contents)


def _move(store: Repository, claimant: Claimant, base: str | None, state: bytes) -> None:
    """Compare and set under the lease: the tag must still be where it was when we fetched it."""
    _check(claimant.beat(), store.name)
    found = store.get(sync.TAG)
    now = found[0] if found else None
    if now == oci.digest(state):
        return  # an earlier try got this far
    if now != base:
        raise RegistryError(f"{store.name}:{sync.TAG} was changed by another job since it was restored here", AGAIN)
    store.put(sync.TAG, state)


def _check(ours: bool, name: str) -> None:
    if not ours:
        raise RegistryError(f"the lease on {name} is no longer held by this job", AGAIN)


def _size(layers: list[dict[str, Any]]) -> str:
    return snapshot.megabytes(sum(layer["size"] for layer in layers))
