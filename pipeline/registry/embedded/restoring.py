"""Fetching the embedded MLflow from the image registry, with or without the lease."""

import json
import os
from pathlib import Path

from pipeline.artifacts import write_text
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import heartbeat, snapshot, sync
from pipeline.registry.embedded.lease import TIMING, Claimant, Timing
from pipeline.registry.embedded.oci import Refused, Repository

BOT = "dependabot[bot]"


def look(repository: str) -> None:
    """Fetch without the lease. A refusal is a warning only: a fork's pull request may not have read access."""
    store = Repository(repository)
    try:
        sync.check_overwrite(store)
        found = store.get(sync.TAG)
    except Refused as refused:
        print(f"warning: {refused.what}; MLflow is empty here, and what is in production is not known", flush=True)
        write_text(mlflow_server.HOME / snapshot.UNKNOWN, refused.what + "\n")
        return
    sync.fetch(store, found, holder=None)
    if found is None and _of_a_stranger():
        # Such a run does not get the variables that name another registry or the team's MLflow.
        write_text(mlflow_server.HOME / snapshot.UNKNOWN, f"{repository} has no MLflow that this run may see\n")
    _say(repository, found is not None)


def _of_a_stranger() -> bool:
    """Whether this run is for a pull request from a fork or from Dependabot."""
    try:
        happened = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        one = happened["pull_request"]
        fork = one["head"]["repo"]  # None when it was deleted
        return not fork or fork["full_name"] != happened["repository"]["full_name"] or one["user"]["login"] == BOT
    except (KeyError, TypeError, OSError, ValueError):
        return False


def restore(repository: str, timing: Timing = TIMING) -> None:
    """Take the lease, waiting for it, and fetch; raises BusyError, Refused, Lost or RegistryError, and then holds nothing."""
    store = Repository(repository)
    sync.check_overwrite(store)
    heartbeat.end()  # of a restore that was not followed by a save
    claimant = Claimant(repository, sync.who(), timing=timing)
    claimant.acquire()
    try:
        heartbeat.begin(claimant)
        found = store.get(sync.TAG)
        sync.fetch(store, found, claimant.holder)
    except BaseException:
        heartbeat.end()
        raise
    _say(repository, found is not None)


def _say(repository: str, found: bool) -> None:
    print(
        f"MLflow was fetched from {repository}" if found else f"{repository} holds no MLflow yet: it starts empty",
        flush=True,
    )
