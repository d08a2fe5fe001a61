"""Load a prediction service, and measure how many requests it answers and how long they take:

make load
make load ENVIRONMENT=staging ARGS="--connections 64 --seconds 30"
SLIPWAY_KEY=… python -m scripts.load_test --url https://models.example.com/cancer --rate 500

By default each connection asks again as soon as it has its answer. With --rate requests are due at fixed instants, and
latency counts from there, so that a service that stalls is charged for all who had to wait. Nothing goes through a proxy.
Exit status 1 when anything but predictions came back, or than what --expect names; 130 after Ctrl-C.
"""

import sys

from delivery.load.measurement import measure, read_arguments
from pipeline.errors import edge


@edge
def main(argv: list[str] | None = None) -> int:
    """Load, show, and return the exit status; raises SlipwayError when there is nothing to load, or not all were predictions."""
    return measure(read_arguments(argv))


if __name__ == "__main__":
    sys.exit(main())
