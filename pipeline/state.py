"""The files by which commands on this machine remember what they began, and what each of them holds.

A file that holds anything else (other JSON, other bytes, a missing or a wrong value) is named once, and then counts as absent:
what it was about is found in another way, or made anew. Extra keys are allowed, for a later release may write them.
"""

import json
import sys
from pathlib import Path
from typing import NotRequired, TypedDict, TypeVar

import msgspec

from pipeline.artifacts import ROOT

Kind = TypeVar("Kind")


class Process(TypedDict):
    """What names a process beyond doubt; see processes.identity."""

    pid: int
    created: float
    after_boot: NotRequired[float]
    boot: NotRequired[str]


class Server(Process):
    """.mlflow/server.json: the embedded MLflow."""

    uri: str


class Serving(Process):
    """.slipway/ENVIRONMENT.json: what serves there, by target `process`."""

    name: str
    version: str
    digest: str
    image: str | None
    url: str
    port: int
    address: str
    bundle: str
    since: str


class Holder(TypedDict):
    """.slipway/NAME.lock: who is at work."""

    holder: str
    pid: int
    since: str


class Lease(TypedDict):
    """.slipway/lease.json: the lease on the carried MLflow."""

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
    before: list[tuple[str, str, str]]  # what its registry said, as registry_changes.State


_told: set[Path] = set()


def read(path: Path, kind: type[Kind], then: str) -> Kind | None:
    """What a state file holds, or None when it is absent; of one that is damaged too, after a warning that says what to do."""
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
