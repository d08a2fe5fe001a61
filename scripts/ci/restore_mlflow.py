"""Fetch the embedded MLflow from the image registry, and hold it until it is saved.

    make restore-mlflow [READ_ONLY=yes]

One job at a time holds it; the others wait. READ_ONLY=yes fetches it without holding it: what is changed then stays here.
"""

import argparse
import sys

from pipeline import processes
from pipeline.errors import edge
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import restoring, sync
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Bring MLflow here, unless a team's server keeps it or no registry is set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--read-only", action="store_true", help="fetch it, but hold and change nothing")
    read_only = parser.parse_args(argv).read_only
    mlflow_server.quiet_environment()
    repository, reason = sync.place(load_settings())
    if reason:
        print(f"nothing to restore: {reason}")
        return
    with processes.lock("carried-mlflow", "make restore-mlflow"):
        sync.recover()
        (restoring.look if read_only else restoring.restore)(repository)


if __name__ == "__main__":
    sys.exit(main())
