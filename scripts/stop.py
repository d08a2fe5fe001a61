"""End what runs on this machine: the services of both environments, the embedded MLflow server, and a lease on its state.

make stop
"""

import argparse
import sys

from delivery import targets
from pipeline.errors import SlipwayError, edge
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import heartbeat


@edge
def main(argv: list[str] | None = None) -> None:
    """Stop services and server; their data is kept."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    ended, failed = [], None
    for target in targets.TARGETS:
        for environment in targets.ENVIRONMENTS:
            try:
                if target.stop(environment):
                    ended.append(f"{environment} ({target.NAME})")
            except SlipwayError as error:
                failed = error
    if mlflow_server.stop():
        ended.append("MLflow")
    if heartbeat.end():
        ended.append("the lease on MLflow's state")
    print(f"ended: {', '.join(ended)}" if ended else "nothing was running", flush=True)
    if failed:
        raise failed


if __name__ == "__main__":
    sys.exit(main())
