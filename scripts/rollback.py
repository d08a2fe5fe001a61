"""Bring an earlier version back: model, bundle and alias together, proven by its smoke test.

make rollback                       # production: the version before the present one
make rollback VERSION=3
make rollback ENVIRONMENT=staging VERSION=3
"""

import argparse
import sys
import time
from typing import Any

from pipeline import desired, processes, registry, workflow
from pipeline.errors import RegistryError, edge
from pipeline.settings import Settings, load_settings
from scripts import targets
from scripts.deploy import WAIT_SECONDS, deploy
from scripts.promote import swap_aliases


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the earlier version, then move the alias to it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--version", help="version in MLflow; without it, the one before")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = registry.connect(settings)
    with processes.lock("delivery", f"rollback of {options.environment}", WAIT_SECONDS):
        served = last_served(client, settings, options.environment)
        version = earlier(client, settings, options.environment, options.version, served)
        now = registry.by_alias(client, settings.name, "production")
        record = deploy(client, settings, options.environment, version, "rollback")
        if options.environment == "production":
            left = swap_aliases(client, settings.name, version.version, now.version if now else None, "rollback")
            left = served["version"] if served else left
            remember(client, settings.name, version.version, left if left != version.version else None)
        else:
            client.set_registered_model_alias(settings.name, "staging", version.version)
    print(f"{options.environment} serves version {record['version']} at {record['url']}, and the alias says so")


def last_served(client, settings: Settings, environment: str) -> dict[str, Any] | None:
    """What an environment serves. In a workflow a container ends with its job: there it is what was deployed last."""
    served = targets.serving(environment, settings)
    if served or not workflow.is_workflow() or targets.choose(settings).NAME == "kubernetes":
        return served
    return registry.last_deployment(client, settings.name, environment)


def earlier(client, settings: Settings, environment: str, number: str | None, served: dict[str, Any] | None):
    """The version to go back to: by number, else the one before; raises RegistryError when there is none.

    The one before is the alias `previous`. But when what serves was never promoted, it is the one that was.
    """
    if number:
        return fit_to_return(registry.by_number(client, settings.name, number), environment)
    found = None
    if environment == "production":
        found = registry.by_alias(client, settings.name, "production")
        if served is None or found is None or found.version == served["version"]:
            found = not_left(registry.by_alias(client, settings.name, "previous"), found)
    if found is None:
        there = ", ".join(version.version for version in registry.versions(client, settings.name)) or "none"
        raise RegistryError(
            f"no earlier version of {environment} is known",
            f"name one with VERSION=n; versions in MLflow: {there}",
        )
    return found


def not_left(previous, present):
    """The version before, unless it is the newer one that a rollback left: pressed twice, the button must not bring that back."""
    if previous and present and "rolled_back" in previous.tags and int(previous.version) > int(present.version):
        raise RegistryError(
            f"version {previous.version} was rolled back on {previous.tags['rolled_back']}, to version {present.version}",
            f"`make rollback VERSION={previous.version}` brings it back on purpose; VERSION=n, any earlier version",
        )
    return previous


def fit_to_return(version, environment: str):
    """The version, if it served before; what never did goes through the gate and staging first."""
    mark = "promoted" if environment == "production" else "bundle"
    if mark not in version.tags or not desired.is_allowed(version):
        raise RegistryError(
            f"version {version.version} was never in {environment}", "`make ship` is the way there for a new version"
        )
    return version


def remember(client, name: str, version: str, left: str | None) -> None:
    """Mark the version that was left, so that the same build is not shipped again by the next push."""
    if "rolled_back" in client.get_model_version(name, version).tags:
        client.delete_model_version_tag(name, version, "rolled_back")
    if left and any(found.version == left for found in registry.versions(client, name)):  # it may have been deleted
        client.set_model_version_tag(name, left, "rolled_back", registry.timestamp(time.time()))


if __name__ == "__main__":
    sys.exit(main())
