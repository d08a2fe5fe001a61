"""Rehearse a bad day: deploy a broken release to staging, and show that it is undone and that nobody noticed.

    make rehearse

The release starts and becomes ready, but its answers are not those that its golden predictions promise: the kind of
failure that no health check sees. Exit status 1 when it was not refused, when staging does not serve what it served
before, or when a request was lost.
"""

import argparse
import sys

from delivery import rehearsal, targets
from delivery.deployment import WAIT_SECONDS, prepared
from pipeline import processes
from pipeline.errors import DeployError, edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> int:
    """Rehearse on staging; 0 when the broken release was undone unnoticed."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    settings = load_settings()
    target = targets.choose(settings)
    client = versions.connect(settings)
    with processes.lock("delivery", "rehearsal on staging", WAIT_SECONDS):
        before = targets.serving("staging", settings)
        if before is None:
            raise DeployError(
                "staging serves nothing that a rehearsal could endanger", "`make deploy ENVIRONMENT=staging`"
            )
        version = versions.by_number(client, settings.name, before.version)
        good = prepared(client, settings, "staging", version, images=target.IMAGES, again=True)
        with rehearsal.calling(target, settings, good) as caller:
            refusal = rehearsal.rehearse(client, settings, target, version, good, before)
        after = targets.serving("staging", settings)
    return rehearsal.show(before, after, refusal, caller)


if __name__ == "__main__":
    sys.exit(main())
