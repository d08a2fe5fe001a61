"""What people ask for by aliases in MLflow: which version an environment is to serve, and what they may have meant otherwise."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import DeployError, RegistryError
from pipeline.registry import versions
from pipeline.registry.model_version import ModelVersion


def is_served(version: ModelVersion, served: Mapping[str, Any] | None) -> bool:
    """Whether what serves (or was deployed last) is this version, to the byte."""
    return served is not None and (served["version"], served["digest"]) == (version.number, version.digest)


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
    last = versions.last_deployment(client, name, "production")
    if last is None or not versions.was_promoted(client, name, last["version"]):
        return f"no version of {name} has the alias production; `make ship` promotes the first"
    raise RegistryError(
        f"the alias production of {name} is gone; version {last['version']} was deployed last",
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
