"""Move the alias `production` to the version that production serves; `previous` keeps the one before it.

    make promote

Compare-and-set: the alias must still be on the version that the candidate was compared with. When someone moved it
meanwhile, production goes back to what the alias says.
"""

import argparse
import sys

from delivery import targets
from delivery.deployment import WAIT_SECONDS, deploy, refuse_beside_experiment, settle
from pipeline import processes
from pipeline.errors import DeployError, RegistryError, edge
from pipeline.registry import deployments, promotion, versions
from pipeline.registry.model_version import NOTHING
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Make MLflow say what is true: production serves this version."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    settings = load_settings()
    client = versions.connect(settings)
    with processes.lock("delivery", "promote", WAIT_SECONDS):
        served = targets.serving("production", settings)
        if served is None:
            raise DeployError(
                "production serves nothing that could be promoted", "`make deploy ENVIRONMENT=production`"
            )
        with deployments.afterwards("the record of the last deployment could not be brought up to date"):
            settle(client, settings, "production")
        version = versions.by_number(client, settings.name, served.version)
        refuse_beside_experiment(client, settings, "production", version, "deploy")
        expected = None if version.compared_with in (NOTHING, "") else version.compared_with
        try:
            before = promotion.promote(client, settings.name, version.number, expected, "make promote")
        except RegistryError:
            now = versions.by_alias(client, settings.name, "production")
            if now and now.number != version.number:
                deploy(client, settings, "production", now, "restore")
            raise
    print(f"alias production is on version {version.number}" + (f", previous on {before}" if before else ""))


if __name__ == "__main__":
    sys.exit(main())
