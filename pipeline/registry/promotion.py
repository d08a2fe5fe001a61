"""Promotion by aliases in MLflow: what people ask for, what they may have meant otherwise, and the alias `production` itself."""

import os
import sys
import time
from collections.abc import Iterator

from pipeline.errors import DeployError, RegistryError, reason
from pipeline.evaluation import model_card
from pipeline.registry import model_version, versions
from pipeline.registry.deployment_record import Identified, last_deployment
from pipeline.registry.model_version import ModelVersion


def is_served(version: ModelVersion, served: Identified | None) -> bool:
    """Whether what serves (or was deployed last) is this version, to the byte."""
    return served is not None and (served.version, served.digest) == (version.number, version.digest)


def misnamed(client, name: str) -> Iterator[tuple[str, str]]:
    """What somebody may have meant for the alias `production`: one in other letters, or a legacy stage; and what to do."""
    from mlflow.exceptions import MlflowException

    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:  # no model yet
        return
    for alias, number in aliases.items():
        if alias != "production" and alias.lower() == "production":
            yield (
                f"{name} has the alias {alias} on version {number}, but the alias that counts is production",
                f"if version {number} is meant, set the alias production on it; remove {alias}",
            )
    for version in versions.versions(client, name):
        if version.legacy_stage == "Production":
            yield (
                f"{name} version {version.number} is in the legacy stage Production, which counts for nothing here",
                f"if it is meant, set the alias production on version {version.number}; end its stage",
            )


def without_alias(client, name: str, strays: list[tuple[str, str]]) -> str:
    """Why there is nothing to do where no version has the alias `production`, in words.

    Raises RegistryError when something was in production, or was meant to be.
    """
    if strays:
        raise RegistryError(*strays[0])
    last = last_deployment(client, name, "production")
    if last is None or not versions.was_promoted(client, name, last.version):
        return f"no version of {name} has the alias production; `make ship` promotes the first"
    raise RegistryError(
        f"the alias production of {name} is gone; version {last.version} was deployed last",
        f"set the alias on the version that production is to serve; versions in MLflow: {versions.numbers(client, name)}. "
        "Where that one was deleted, `make rollback VERSION=n` brings another back",
    )


def forced(version: ModelVersion) -> str:
    """The reason for which a version is to be deployed without an accepted verdict; "" where there is none, or it has one."""
    return "" if version.is_accepted else (version.forced or "").strip()


def is_allowed(version: ModelVersion) -> bool:
    """Whether a version may be deployed: it was accepted, or somebody says why it is deployed all the same."""
    return version.is_accepted or bool(forced(version))


def check_allowed(version: ModelVersion) -> None:
    """Raise DeployError unless a version may be deployed."""
    if is_allowed(version):
        return
    if not version.bundle:
        raise DeployError(
            f"version {version.number} has no accepted verdict, and no bundle that could be served",
            "it was not registered by this pipeline, and cannot be deployed; `make ship` makes a version that can",
        )
    if version.forced is not None:
        raise DeployError(
            f"version {version.number} has no accepted verdict, and its tag forced gives no reason",
            "write into the tag forced why it is to be deployed all the same",
        )
    raise DeployError(
        f"version {version.number} has no accepted verdict",
        "`make evaluate` and `make register` give it one; the tag forced with a reason as its value does without",
    )


def promote(client, name: str, version: str, expected: str | None, how: str) -> str | None:
    """Move `production` to a version if it is on `expected`, and `previous` to where it was; return that version."""
    before = versions.move_alias(client, name, "production", version, expected, left="previous")
    promoted(client, name, version, how)
    return before


def promoted(client, name: str, version: str, how: str) -> None:
    """Mark a version as one that was in production, and say in its description who put it there, when and how.

    A description that cannot be written is told and no more: it must not undo what serves.
    """
    from mlflow.exceptions import MlflowException

    now = versions.timestamp(time.time())
    model_version.set_tags(client, name, version, promoted=now)
    try:
        last = last_deployment(client, name, "production")
        known = last is not None and last.version == version
        record = {"experiment_id": last.experiment_id, "run_id": last.run_id} if last and known else None
        before = client.get_model_version(name, version).description or ""
        # GitHub's name for a scheduled run is that of whoever last changed the schedule, who approved nothing.
        who = "the schedule" if os.environ.get("GITHUB_EVENT_NAME") == "schedule" else versions.actor()
        after = model_card.approved(before, now[:16], who, how, record)
        if after != before:
            client.update_model_version(name, version, after)
    except (MlflowException, RegistryError) as error:
        print(f"note: the description of version {version} could not be written: {reason(error)}", file=sys.stderr)
