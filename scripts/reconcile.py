"""Make true what MLflow says: deploy the versions that the aliases `production` and `staging` are on, where others serve.

    make reconcile                      # for a version that somebody promoted in MLflow's own pages
    make reconcile ENVIRONMENT=staging  # only there
    make reconcile ARGS=--compare       # only say whether there is something to do

The version goes the way of every other: an accepted verdict (or it was in production before, or its tag `forced` says why it
has none), its image, staging, the tests there, production. When that fails, the alias goes back to what serves, the deployment
record says why, and SLIPWAY_WEBHOOK hears of it.
"""

import argparse
import os
import sys
from contextlib import nullcontext

from delivery import reconciliation, targets
from delivery.deployment import settle
from pipeline import processes
from pipeline.ci import outputs, repository_settings
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.registry.embedded import sync
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Compare, and deploy the difference, in production first: a version goes there by way of staging."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, action="append", help="only there (default: both)")
    parser.add_argument("--compare", action="store_true", help="only say whether there is something to do")
    options = parser.parse_args(argv)
    environments = [one for one in ("production", "staging") if one in (options.environment or targets.ENVIRONMENTS)]
    asked, says = repository_settings.production(os.environ)
    if outputs.is_workflow() and not asked and "production" in environments:
        print(f"production: {says}")
        outputs.output(production="false")
        environments.remove("production")
    if not environments:
        return
    settings = load_settings()
    sync.refuse_unknown()
    client = versions.connect(settings)
    with nullcontext() if options.compare else processes.lock("delivery", "reconcile", reconciliation.WAIT_SECONDS):
        for environment in environments:
            if options.compare:
                version = reconciliation.difference(client, settings, environment)
            else:
                settle(client, settings, environment)
                version = reconciliation.follow(client, settings, environment)
            outputs.output(**{environment: str(version is not None).lower()})


if __name__ == "__main__":
    sys.exit(main())
