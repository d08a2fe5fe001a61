"""Bring an earlier version back: model, bundle and alias together, proven by its smoke test.

make rollback                       # production: the version before the present one
make rollback VERSION=3
make rollback ENVIRONMENT=staging VERSION=3
"""

import argparse
import sys

from pipeline import processes, registry
from pipeline.errors import RegistryError, edge
from pipeline.settings import Settings, load_settings
from scripts import targets
from scripts.deploy import WAIT_SECONDS, deploy
from scripts.promote import swap_aliases


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the earlier version, then move the alias to it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", choices=targets.ENVIRONMENTS, default="production")
    parser.add_argument("--version", help="version in MLflow; without it, the one before")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = registry.connect(settings)
    with processes.lock("delivery", f"rollback of {options.environment}", WAIT_SECONDS):
        version = earlier(client, settings, options.environment, options.version)
        record = deploy(client, settings, options.environment, version, "rollback")
        if options.environment == "production":
            now = registry.by_alias(client, settings.name, "production")
            swap_aliases(client, settings.name, version.version, now.version if now else None)
        else:
            client.set_registered_model_alias(settings.name, "staging", version.version)
    print(f"{options.environment} serves version {record['version']} at {record['url']}, and the alias says so")


def earlier(client, settings: Settings, environment: str, number: str | None):
    """The version to go back to: by number, else the alias `previous`; raises RegistryError when there is none."""
    if number:
        return registry.by_number(client, settings.name, number)
    found = registry.by_alias(client, settings.name, "previous") if environment == "production" else None
    if found is None:
        there = ", ".join(version.version for version in registry.versions(client, settings.name)) or "none"
        raise RegistryError(
            f"no earlier version of {environment} is known",
            f"name one with VERSION=n; versions in MLflow: {there}",
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
