"""Where releases run: one module per target, each with the same few functions.

NAME; WHY (what speaks for it, in words); unavailable(settings) -> why it cannot be used here, or None; serving(environment) -> what serves, or None;
release(environment, bundle, settings) -> what serves now; stop(environment).
"""

from argparse import ArgumentTypeError
from types import ModuleType

from pipeline.settings import Settings
from scripts.targets import process

TARGETS = (process,)
ENVIRONMENTS = ("staging", "production")


def environment(name: str) -> str:
    """An environment's name, as an argument of a command; argparse shows the message when it is none."""
    if name not in ENVIRONMENTS:
        raise ArgumentTypeError(f"say which: ENVIRONMENT=staging or ENVIRONMENT=production, not {name!r}")
    return name


def choose(settings: Settings) -> ModuleType:
    """The first target that can be used here; a process on this machine always can."""
    return next(target for target in TARGETS if target.unavailable(settings) is None)
