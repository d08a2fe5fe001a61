"""Where releases run: one module per target, each with the same few functions.

NAME; WHY (what speaks for it, in words); IMAGES (whether a release must be an image); HERE (whether it runs on this
machine); unavailable(settings) -> why it cannot be used here, or None; serving(environment, settings) -> what serves, or
None; release(environment, release, settings, at_once) -> what serves now; reach(environment, settings, as_callers) -> a context with an address that this
machine can use; key(environment, settings) -> the key with which delivery asks there, or ""; key_in_shell(…) -> how a
command line gets it; forget(environment, settings, subject) -> what deleting from the prediction log said;
stop(environment) -> whether something ran on this machine.
"""

import os
from argparse import ArgumentTypeError
from types import ModuleType
from typing import Any

from delivery.targets import docker, process
from delivery.targets.kubernetes import target as kubernetes
from pipeline.errors import DeployError
from pipeline.settings import Settings

TARGETS = (kubernetes, docker, process)  # "auto" takes the first that is set up
ENVIRONMENTS = ("staging", "production")


def serving(environment: str, settings: Settings) -> dict[str, Any] | None:
    """What serves of this model in an environment, on the target of now; another model's version is not one of ours."""
    record = choose(settings).serving(environment, settings)
    return record if record and record["name"] == settings.name else None


def environment(name: str) -> str:
    """An environment's name, as an argument of a command; argparse shows the message when it is none."""
    if name not in ENVIRONMENTS:
        raise ArgumentTypeError(f"say which: ENVIRONMENT=staging or ENVIRONMENT=production, not {name!r}")
    return name


def check(settings: Settings) -> ModuleType:
    """The target, known to be what the user means, before anything is built for it; raises DeployError.

    A DOCKER_HOST that nobody answers at is somebody's wish for containers: `auto` alone would take a process.
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
    """The target that pipeline.toml names, or the first that is set up; raises DeployError when that one cannot be used.

    A cluster that is set up half-way is refused: a release for a cluster must not quietly end up on this machine.
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
