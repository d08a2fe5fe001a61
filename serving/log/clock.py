"""The time that the prediction log writes down: the real one, or in a drill one that runs faster."""

import os
import time
from collections.abc import Callable

from serving.config import read_log_clock


def clock(setting: tuple[float, float] | None) -> Callable[[], float]:
    """A function like `time.time`, and that itself without a setting; else the time since the origin runs faster by the factor."""
    return time.time if setting is None else lambda: _at(time.time(), setting)


def _at(moment: float, setting: tuple[float, float] | None) -> float:
    if setting is None:
        return moment
    origin, factor = setting
    return origin + (moment - origin) * factor


def as_logged(moment: float) -> float:
    """A real time (seconds since 1970) as this process's environment has the log write it down; raises ConfigError, a ValueError."""
    return _at(moment, read_log_clock(os.environ))


def now() -> float:
    """The log's time in seconds since 1970, as this process's environment sets it; raises ConfigError."""
    return as_logged(time.time())
