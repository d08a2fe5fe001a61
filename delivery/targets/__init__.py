"""Targets, the places where releases run: one module per target, all with the same functions.

NAME; WHY (its advantage, in words); IMAGES (whether a release must be an image); HERE (whether it runs on this
machine); unavailable(settings) -> why it cannot be used here, or None; serving(environment, settings) -> the current
release's record, or None; release(environment, release, settings, at_once) -> the new record; reach(environment,
settings, as_callers) -> a context manager that yields a URL for this machine; key(environment, settings) -> delivery's
API key, or ""; key_in_shell(…) -> how a command line reads that key; on_log(environment, settings, arguments, given, into) ->
the output of `python -m` with these arguments of serving/, run where the prediction log is, or that output in a file; stop(environment) -> whether
something was running on this machine.
"""

import os
from argparse import ArgumentTypeError
from types import ModuleType

from delivery.release import CurrentRelease
from delivery.targets import docker, process
from delivery.targets.kubernetes import target as kubernetes
from pipeline.errors import DeployError
from pipeline.settings import Settings

TARGETS = (kubernetes, docker, process)  # "auto" takes the first that is set up
ENVIRONMENTS = ("staging", "production")


def serving(environment: str, settings: Settings) -> CurrentRelease | None:
    """The model's current release in an environment, on the present target; None for another model's release."""
    served = choose(settings).serving(environment, settings)
    return served if served and served.name == settings.name else None


def environment(name: str) -> str:
    """An environment's name as an argparse type; argparse shows the message when it is invalid."""
    if name not in ENVIRONMENTS:
        raise ArgumentTypeError(f"say which: ENVIRONMENT=staging or ENVIRONMENT=production, not {name!r}")
    return name


def check(settings: Settings) -> ModuleType:
    """The target, checked before anything is built for it; raises DeployError.

    If DOCKER_HOST is set but no engine responds, `auto` is refused as well: the user wants containers, not a process.
    """
    chosen = choose(settings)
    if chosen is process and settings.deploy.target == "auto" and os.environ.get("DOCKER_HOST"):
        why = docker.unavailable(settings)
        if why and "answers" in why:
            raise DeployError(
                f"DOCKER_HOST is set, but {why}",
                'start that engine or unset DOCKER_HOST; [deploy] target = "process" in pipeline.toml does without',
            )
    return chosen


def choose(settings: Settings) -> ModuleType:
    """The target from pipeline.toml, or the first that is set up; raises DeployError when it cannot be used.

    A partly configured cluster is refused: a release for a cluster must not quietly run on this machine.
    """
    named: str = settings.deploy.target
    if named == "auto" and kubernetes.asked_for():
        named = kubernetes.NAME
    if named == "auto":
        return next(target for target in TARGETS if target.unavailable(settings) is None)
    target = next(target for target in TARGETS if named == target.NAME)
    if why := target.unavailable(settings):
        raise DeployError(
            f"target {target.NAME} cannot be used here: {why}",
            "set that up, or choose another in pipeline.toml [deploy] target",
        )
    return target
