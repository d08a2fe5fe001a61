"""MLflow, Prometheus and Grafana on this host, for a team that starts on one machine.

    make up        # start what monitoring/compose.yaml describes, wait until all of it is healthy, say what comes next
    make down      # end it; everything that it stored stays

Needs Docker with its compose plugin. The passwords are made once, into monitoring/.env, and so is the key that Prometheus
shows to a service that asks for keys, into monitoring/keys/.
"""

import argparse
import sys

from delivery.host import services
from delivery.host.compose import (
    require_engine,
)
from pipeline import processes
from pipeline.errors import edge
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Start everything, or with --down end it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--down", action="store_true", help="end what runs; the data stays")
    options = parser.parse_args(argv)
    settings = load_settings()
    require_engine()
    with processes.lock("one-host", "make down" if options.down else "make up"):
        if options.down:
            services.down()
        else:
            services.say_next(services.up(), settings)


if __name__ == "__main__":
    sys.exit(main())
