"""Have a promotion follow at once when somebody moves the alias production or staging in MLflow.

    make relay                      # start the workflow promote.yml on GitHub
    make relay ARGS=--reconcile     # run `make reconcile` on this machine

With SLIPWAY_RELAY_BEARER set, it also starts monitor.yml when Alertmanager says that an alert about the model fires.
MLflow's webhook says that an alias was moved; where it is, the relay reads from MLflow itself. docs/promote-in-mlflow.md has
the settings. The workflow's schedule brings about what the relay missed.
"""

import argparse
import os
import sys

from delivery.relay import server
from delivery.relay.metrics import Metrics
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--reconcile", action="store_true", help="deploy on this machine instead of starting a workflow"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    options = parser.parse_args(argv)
    config = server.read(os.environ, options.reconcile)
    metrics = Metrics()
    worker = server.here(config, metrics) if options.reconcile else server.elsewhere(config, metrics)
    server.serve(config, options.host, worker, metrics, server.alerts(config, metrics))


if __name__ == "__main__":
    sys.exit(main())
