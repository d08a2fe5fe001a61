"""Errors that a user can act on, and the edge where they become words and an exit status.

SlipwayError
├── SettingsError      pipeline.toml, or a variable or secret of the repository
├── DataError          what load() returned, or the file behind it
├── ProjectError       the team's own code in project/ failed
├── StageError         a file of an earlier stage is missing, stale or damaged
├── PortabilityError   the model cannot be carried to the service faithfully
├── RegistryError      MLflow is unreachable, refuses, or holds something unexpected
├── ImageError         an image cannot be built, pushed or found
├── DeployError        a release did not start, or did not take the place of what serves
│   └── SmokeTestError   it answers otherwise than its bundle says
├── OneHostError       what `make up` starts on this host, or the engine under it, is not as needed
└── BusyError          another run holds the lock
"""

import functools
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path


class SlipwayError(Exception):
    """What is wrong and where, and in `then` what to do next."""

    def __init__(self, what: str, then: str = ""):
        super().__init__(what)
        self.what = what
        self.then = then


def reason(error: BaseException) -> str:
    """What went wrong, in words for a record or a message."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by the keyboard or a signal"
    known = error if isinstance(error, SlipwayError) else _from_library(error)
    return known.what if known else type(error).__name__


class SettingsError(SlipwayError):
    """pipeline.toml, or a variable or secret of the repository, cannot be used as it stands."""


class DataError(SlipwayError):
    """The data cannot be read, or lacks what the settings name."""


class ProjectError(SlipwayError):
    """A function in project/ raised or returned something unusable."""


class StageError(SlipwayError):
    """A file of an earlier stage is missing, stale or damaged."""


class PortabilityError(SlipwayError):
    """The model cannot be carried to the service faithfully."""


class RegistryError(SlipwayError):
    """MLflow is unreachable, refuses, or holds something unexpected."""


class ImageError(SlipwayError):
    """An image cannot be built, pushed or found."""


class DeployError(SlipwayError):
    """A release did not start, or did not take the place of what serves."""


class SmokeTestError(DeployError):
    """A release answers otherwise than its bundle says."""


class OneHostError(SlipwayError):
    """What `make up` starts on this host, or the engine under it, is not as needed."""


class BusyError(SlipwayError):
    """Another run is at work here."""


# What MLflow says of something that was deleted there; what that means, and how it is brought back.
DELETED = (
    (
        r"run (\w{32}) must be in the 'active' state",
        "the run {0} was deleted in MLflow",
        "`mlflow runs restore --run-id {0}`, with MLFLOW_TRACKING_URI set to that MLflow, brings it back",
    ),
    (
        r"[Rr]un (?:with id=?|')?(\w{32})'? not found",
        "MLflow no longer has the run {0}: it was deleted for good",
        "`make train` makes another",
    ),
    (
        r"[Ll]ogged model with ID '([\w-]+)' not found",
        "the logged model {0} was deleted in MLflow",
        "`make train` and the verbs after it make another; MLflow cannot bring it back",
    ),
)


@contextmanager
def in_project(what: str):
    """Turn an exception out of the team's own code into a ProjectError that names the line in project/."""
    try:
        yield
    except SlipwayError:
        raise
    except (Exception, SystemExit) as error:  # an exit in there would pass for success out here
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "project" in Path(frame.filename).parts]
        where = f" (project/{Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise ProjectError(
            f"{what} failed{where}: {type(error).__name__}: {error}", "correct it and run again"
        ) from error


def _from_library(error: BaseException) -> SlipwayError | None:
    """The same error as one of ours, where a library raised it for something the user can act on."""
    library = type(error).__module__.split(".")[0]
    if library in ("mlflow", "requests", "urllib3"):
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        for pattern, what, then in DELETED:
            if found := re.search(pattern, first):
                return RegistryError(what.format(*found.groups()), then.format(*found.groups()))
        return RegistryError(f"MLflow: {first[:400]}", "`make doctor` says which MLflow is used and whether it answers")
    if isinstance(error, OSError) and error.errno:
        where = f"{error.filename}: " if error.filename else ""
        return SlipwayError(f"{where}{error.strerror}", "check that the path may be written and the disk has room")
    return None


@contextmanager
def _interruptible():
    """Let SIGTERM and SIGHUP (a cancelled job, a closed terminal) end a command as Ctrl-C does: what it began is undone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


def edge(main: Callable[..., int | None]) -> Callable[..., int]:
    """Run a command's main; an error becomes two lines on standard error and exit status 1."""

    @functools.wraps(main)
    def run(*args, **kwargs) -> int:
        try:
            with _interruptible():
                return main(*args, **kwargs) or 0
        except KeyboardInterrupt:
            print("stopped by the keyboard or a signal", file=sys.stderr)
            return 130
        except Exception as error:
            known = error if isinstance(error, SlipwayError) else _from_library(error)
            if known is None:
                raise
            print(f"error: {known.what}", file=sys.stderr)
            if known.then:
                print(f"  next: {known.then}", file=sys.stderr)
            return 1

    return run
