"""Bring an earlier version back: model, bundle and alias together, proven by its smoke test.

make rollback                       # production: the version before the present one
make rollback VERSION=3
make rollback ENVIRONMENT=staging VERSION=3
"""

import argparse
import sys

from delivery import targets
from delivery.deployment import WAIT_SECONDS, deploy, last_served, settle
from delivery.experiment.lifecycle import ended_by_rollback
from pipeline import processes
from pipeline.errors import RegistryError, edge
from pipeline.registry import deployments, promotion, versions
from pipeline.registry.deployment_record import Identified
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings, load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the earlier version, then move the alias to it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument("--version", help="version in MLflow; without it, the one before")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = versions.connect(settings)
    with processes.lock("delivery", f"rollback of {options.environment}", WAIT_SECONDS):
        settle(client, settings, options.environment)
        served = last_served(client, settings, options.environment)
        version = earlier(client, settings, options.environment, options.version, served)
        now = versions.by_alias(client, settings.name, "production")
        left = served.version if served else now.number if now else ""
        with ended_by_rollback(client, settings, options.environment, version):
            now_served = deploy(client, settings, options.environment, version, "rollback", moves=True, left=left)
        said = ""
        with deployments.afterwards(f"the alias {options.environment} could not be looked up"):
            alias = versions.by_alias(client, settings.name, options.environment)
            said = ", and the alias says so" if alias and alias.number == version.number else ""
    print(f"{options.environment} serves version {now_served.version} at {now_served.url}{said}")


def earlier(
    client, settings: Settings, environment: str, number: str | None, served: Identified | None
) -> ModelVersion:
    """The version to go back to: by number, else the one before; raises RegistryError when there is none.

    The one before is the alias `previous`. But when what serves was never promoted, it is the one that was.
    """
    if number:
        return fit_to_return(versions.by_number(client, settings.name, number), environment)
    found = None
    if environment == "production":
        found = versions.by_alias(client, settings.name, "production")
        if served is None or found is None or found.number == served.version:
            found = not_left(versions.by_alias(client, settings.name, "previous"), found)
    if found is None:
        raise RegistryError(
            f"no earlier version of {environment} is known",
            f"name one with VERSION=n; versions in MLflow: {versions.numbers(client, settings.name)}",
        )
    return found


def not_left(previous: ModelVersion | None, present: ModelVersion | None) -> ModelVersion | None:
    """The version before, unless it is the newer one that a rollback left: pressed twice, the button must not bring that back."""
    if previous and present and previous.rolled_back is not None and previous.is_newer_than(present):
        raise RegistryError(
            f"version {previous.number} was rolled back on {previous.rolled_back}, to version {present.number}",
            f"`make rollback VERSION={previous.number}` brings it back on purpose; VERSION=n, any earlier version",
        )
    return previous


def fit_to_return(version: ModelVersion, environment: str) -> ModelVersion:
    """The version, if it served before; what never did goes through the gate and staging first."""
    was_there = version.promoted is not None if environment == "production" else bool(version.bundle)
    if not was_there or not promotion.is_allowed(version):
        raise RegistryError(
            f"version {version.number} was never in {environment}", "`make ship` is the way there for a new version"
        )
    return version


if __name__ == "__main__":
    sys.exit(main())
