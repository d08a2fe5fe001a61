"""Put a registered version into an environment: fetch its bundle, have its image, start it beside the old one, test, swap, record.

    make deploy ENVIRONMENT=staging              # the version registered last
    make deploy ENVIRONMENT=production           # the version that staging serves
    make deploy ENVIRONMENT=staging VERSION=3

What served before is restored when the new release does not become ready or fails its smoke test.
"""

import argparse
import sys

from delivery import deployment, targets
from pipeline import processes
from pipeline.errors import edge
from pipeline.registry import deployments, versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy the version asked for, or the one whose turn it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, required=True)
    parser.add_argument("--version", help="version in MLflow; without it, the one whose turn it is")
    options = parser.parse_args(argv)
    settings = load_settings()
    client = versions.connect(settings)
    with processes.lock("delivery", f"deploy to {options.environment}", deployment.WAIT_SECONDS):
        deployment.settle(client, settings, options.environment)
        version = deployment.chosen(client, settings, options.environment, options.version)
        deployment.approved(client, settings, options.environment, version)
        served = deployment.deploy(
            client, settings, options.environment, version, "deploy", moves=options.environment == "staging"
        )
    with deployments.afterwards(
        f"the alias {options.environment} could not be looked up", then="`make status` shows it"
    ):
        alias = versions.by_alias(client, settings.name, options.environment)
        if alias is None or alias.number != served.version:
            print(
                f"MLflow's alias {options.environment} is not on version {served.version} yet: `make promote` moves it"
            )
    # The last line is what `make ship` shows of this stage, and there promote follows by itself.
    print(f"{options.environment} serves version {served.version} at {served.url}")


if __name__ == "__main__":
    sys.exit(main())
