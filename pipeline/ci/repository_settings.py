"""What a repository's variables and secrets make of a delivery, in words: for `make plan` and `make doctor`.

Standard library only: the plan is made before anything is installed. Each function takes the environment and says whether
the thing is there, and a sentence: what is set, else what is skipped, why, and which setting changes that.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import SettingsError

Environment = Mapping[str, str]
Found = tuple[bool, str]
SWITCHES = ("SLIPWAY_DEPLOY_PRODUCTION", "SLIPWAY_ATTEST", "KUBECONFIG_CONTENT_SET", "SLIPWAY_WEBHOOK_SET")


def delivery(environment: Environment, event: Mapping[str, Any]) -> dict[str, Found]:
    """All that decides how a delivery goes, by its name; raises SettingsError when a value is none of those it may have."""
    for name in SWITCHES:
        switch(environment, name)
    return {
        "MLflow": mlflow(environment),
        "images": images(environment),
        "cluster": cluster(environment),
        "production": production(environment),
        "attestation": attestation(environment, event),
        "notification": notification(environment),
    }


def switch(environment: Environment, name: str) -> str:
    """A value that is "true", "false" or not set (""); raises SettingsError for anything else."""
    value = environment.get(name, "").strip()
    if value not in ("", "true", "false"):
        raise SettingsError(f"{name}={value} is neither true nor false", f"set {name} to true or false, or remove it")
    return value


def mlflow(environment: Environment) -> Found:
    """Whether the team's MLflow is used; raises SettingsError when its address is none."""
    address = environment.get("MLFLOW_TRACKING_URI", "").strip()
    if not address:
        return False, (
            "embedded, because MLFLOW_TRACKING_URI is not set; between workflows it is kept in the image registry. "
            "The repository variable MLFLOW_TRACKING_URI names your team's"
        )
    return True, f"your team's, {_shown(address)} (MLFLOW_TRACKING_URI)"


def _shown(address: str) -> str:
    """An address without user and password."""
    try:
        parts = urlsplit(address)
        fit = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:  # a bracket that is not closed
        fit = None
    if not fit:
        raise SettingsError(
            "MLFLOW_TRACKING_URI is not an http address: slipway reaches MLflow over HTTP only",
            "an example is https://mlflow.example.com; without it an embedded MLflow is used",
        )
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def images(environment: Environment) -> Found:
    """Whether images are pushed."""
    repository = environment.get("IMAGE_REPOSITORY", "").strip()
    if not repository:
        return False, "kept in the engine that builds them, because IMAGE_REPOSITORY is not set; it names a registry"
    return True, f"pushed to {repository.lower()}"


def cluster(environment: Environment) -> Found:
    """Whether there is a Kubernetes cluster."""
    if switch(environment, "KUBECONFIG_CONTENT_SET") == "true" or environment.get("SLIPWAY_KUBECONFIG", "").strip():
        return True, "staging and production are namespaces of the cluster that SLIPWAY_KUBECONFIG names"
    return False, (
        "none, because SLIPWAY_KUBECONFIG is not set: staging and production are containers on the runner. "
        "That secret (a variable, where it holds no key) names a cluster"
    )


def production(environment: Environment) -> Found:
    """Whether production is deployed: on the runner always, anywhere else only when it is asked for."""
    asked = switch(environment, "SLIPWAY_DEPLOY_PRODUCTION")
    if asked:
        done = "deployed" if asked == "true" else "skipped"
        return asked == "true", f"{done}, because SLIPWAY_DEPLOY_PRODUCTION is {asked}"
    theirs = [name for name, (there, _) in (("a cluster", cluster(environment)), ("your MLflow", mlflow(environment))) if there]  # fmt: skip
    if not theirs:
        return True, "deployed as a container on the runner, because neither a cluster nor an MLflow of yours is set"
    return False, (
        f"skipped, because {' and '.join(theirs)} {'is' if len(theirs) == 1 else 'are'} set and nobody has asked for it: "
        "give the environment `production` required reviewers, then set the repository variable "
        "SLIPWAY_DEPLOY_PRODUCTION to true"
    )


def attestation(environment: Environment, event: Mapping[str, Any]) -> Found:
    """Whether images are attested: GitHub does so for public repositories, for private ones only on some plans."""
    asked = switch(environment, "SLIPWAY_ATTEST")
    if asked:
        done = "images are attested and verified" if asked == "true" else "skipped"
        return asked == "true", f"{done}, because SLIPWAY_ATTEST is {asked}"
    server = (environment.get("GITHUB_SERVER_URL") or "https://github.com").removeprefix("https://")
    if server != "github.com" and not server.endswith(".ghe.com"):  # an Enterprise Server has no attestations
        return False, f"skipped, because {server} may not keep attestations; if it does, set SLIPWAY_ATTEST to true"
    repository = event.get("repository")
    if not isinstance(repository, Mapping):
        return False, "images are attested where the repository is public, or SLIPWAY_ATTEST is true"
    if _public(repository):
        says = "images are attested and verified, because this repository is public; SLIPWAY_ATTEST=false ends that"
        return True, says
    return False, (
        "skipped, because this repository is not public; where your plan has attestations for private ones, "
        "set the repository variable SLIPWAY_ATTEST to true"
    )


def _public(repository: Mapping[str, Any]) -> bool:
    """Whether a repository is public; when an event does not say so, it is not."""
    return repository.get("private") is False and repository.get("visibility", "public") == "public"


def notification(environment: Environment) -> Found:
    """Whether somebody is told how a workflow ended."""
    if switch(environment, "SLIPWAY_WEBHOOK_SET") == "true" or environment.get("SLIPWAY_WEBHOOK", "").strip():
        return True, "one message about each delivery goes to SLIPWAY_WEBHOOK"
    return False, "skipped, because SLIPWAY_WEBHOOK is not set; that secret is the address of an incoming webhook"
