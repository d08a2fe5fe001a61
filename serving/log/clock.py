"""The time that the prediction log writes down: the real one, or in a drill one that runs faster."""

import os
import time
from collections.abc import Callable

from serving.config import read_log_clock


def clock(setting: tuple[float, float] | None) -> Callable[[], float]:
    """A function like `time.time`, and that itself without a setting; else the time since the origin runs faster by the factor."""
    return time.time if setting is None else lambda: at(time.time(), setting)


def at(moment: float, setting: tuple[float, float] | None) -> float:
    """A real time (seconds since 1970) as the log writes it down."""
    if setting is None:
        return moment
    origin, factor = setting
    return origin + (moment - origin) * factor


def now() -> float:
    """The log's time in seconds since 1970, as this process's environment sets it; raises ConfigError."""
    return clock(read_log_clock(os.environ))()
