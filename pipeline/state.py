"""The state files of commands on this machine, with the schema of each.

A file with any other content (other JSON, other bytes, a missing or wrong value) is reported once and then ignored: its
information is found in another way, or created anew. Extra keys are allowed, because a later release may write them.
"""

import json
import sys
from pathlib import Path
from typing import NotRequired, TypedDict, TypeVar

import msgspec

from pipeline.artifacts import ROOT

Kind = TypeVar("Kind")


class Process(TypedDict):
    """Identifies a process uniquely; see processes.identity."""

    pid: int
    created: float
    after_boot: NotRequired[float]
    boot: NotRequired[str]


class Server(Process):
    """.mlflow/server.json: the embedded MLflow."""

    uri: str


class Serving(Process):
    """.slipway/ENVIRONMENT.json: the current release of target `process`."""

    name: str
    version: str
    digest: str
    image: str | None
    url: str
    port: int
    address: str
    bundle: str
    since: str
    experiment: NotRequired[str]


class Holder(TypedDict):
    """.slipway/NAME.lock: the lock's holder."""

    holder: str
    pid: int
    since: str


class Lease(TypedDict):
    """.slipway/lease.json: the lease on the embedded MLflow."""

    repository: str
    holder: str
    who: str
    process: NotRequired[Process]


class Fetched(TypedDict):
    """.mlflow/carried.json: the state of MLflow that was fetched into this folder."""

    base: str | None
    holder: str | None
    content: list[str]


class Session(TypedDict):
    """.slipway/ui.json: MLflow's pages, opened on a fetched state."""

    repository: str
    base: str | None
    before: list[tuple[str, str, str]]  # the registry's content, as registry_changes.State


_told: set[Path] = set()


def read(path: Path, kind: type[Kind], then: str) -> Kind | None:
    """Read a state file; None when it is missing, or damaged, after a warning with advice."""
    try:
        value = json.loads(path.read_bytes())
        msgspec.convert(value, kind)
        return value
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, msgspec.ValidationError) as error:
        if path not in _told:
            _told.add(path)
            shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
            print(f"warning: {shown} is damaged ({error}); {then}", file=sys.stderr, flush=True)
        return None
