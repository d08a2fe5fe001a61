"""Errors that a user can act on, and `edge`, which turns them into a message and an exit status.

SlipwayError
├── SettingsError      pipeline.toml, or a variable or secret of the repository
├── DataError          the result of load(), or its file
├── ProjectError       the team's own code in project/ failed
├── StageError         a file of an earlier stage is missing, stale or damaged
├── PortabilityError   the service cannot reproduce the model
├── RegistryError      MLflow is unreachable, refuses, or holds something unexpected
├── ImageError         an image cannot be built, pushed or found
├── DeployError        a release did not start, or did not replace the current one
│   └── SmokeTestError   it answers differently from its bundle
├── GithubError        GitHub's API refuses, or does not answer
├── OneHostError       a service of `make up` on this host, or the engine, is not as needed
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
from importlib.util import find_spec
from pathlib import Path


class SlipwayError(Exception):
    """`what` says what is wrong and where, `then` what to do next."""

    def __init__(self, what: str, then: str = ""):
        super().__init__(what)
        self.what = what
        self.then = then


def reason(error: BaseException) -> str:
    """The reason of a failure, for a record or a message."""
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
    """The service cannot reproduce the model."""


class RegistryError(SlipwayError):
    """MLflow is unreachable, refuses, or holds something unexpected."""


class ImageError(SlipwayError):
    """An image cannot be built, pushed or found."""


class DeployError(SlipwayError):
    """A release did not start, or did not replace the current one."""


class SmokeTestError(DeployError):
    """A release answers differently from its bundle."""


class GithubError(SlipwayError):
    """GitHub's API refuses (`status` is that of its answer), or does not answer (None)."""

    def __init__(self, what: str, then: str = "", status: int | None = None):
        super().__init__(what, then)
        self.status = status


class OneHostError(SlipwayError):
    """A service of `make up` on this host, or the engine, is not as needed."""


class BusyError(SlipwayError):
    """Another run holds the lock."""


# MLflow's messages about deleted things; what they mean, and how to restore.
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
    """Turn an exception from the team's own code into a ProjectError that names the line in project/."""
    try:
        yield
    except SlipwayError:
        raise
    except (Exception, SystemExit) as error:  # an exit in there would look like success out here
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "project" in Path(frame.filename).parts]
        where = f" (project/{Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        raise ProjectError(f"{what} failed{where}: {type(error).__name__}: {error}", _remedy(error)) from error


def _remedy(error: BaseException) -> str:
    """What to do about an exception of the team's own code: a package that is not installed can be added."""
    package = ((error.name or "") if isinstance(error, ModuleNotFoundError) else "").partition(".")[0]
    if package in ("torch", "skorch") and find_spec(package) is None:
        return "`make .venv/torch.ready` installs it, as every verb of make does where project/ imports it; docs/networks.md has more"
    if package and package != "project" and find_spec(package) is None:
        return f"`make add PACKAGE={package}` adds that package to this project"
    return "correct it and run again"


def _from_library(error: BaseException) -> SlipwayError | None:
    """One of our errors for a library's error that the user can act on."""
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
    """Let SIGTERM and SIGHUP (a cancelled job, a closed terminal) interrupt a command like Ctrl-C, so that it cleans up."""
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
