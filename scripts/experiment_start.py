"""Put a challenger beside the version in production, by way of staging, and find out on real traffic which of the two is better.

    make experiment-start CHALLENGER=8 SHARE=0.1 NAME=greener                # B answers a tenth of the subjects
    make experiment-start CHALLENGER=8 SHARE=1 MODE=shadow NAME=greener      # callers get A's answers; B is asked besides

The challenger keeps the limits of the gate and takes the same inputs; it need not be better on the hold-out. While it runs, no other
version goes to production; `make rollback` ends it.
"""

import argparse
import sys

from delivery.experiment import lifecycle
from delivery.experiment.admission import share_of
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Start it, and say how to look at it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--challenger", required=True, help="version in MLflow")
    parser.add_argument("--share", required=True, help="of the subjects, above 0, at most 1")
    parser.add_argument("--mode", default="ab", help="ab (default) or shadow")
    parser.add_argument("--name", required=True, help="that no experiment before had")
    options = parser.parse_args(argv)
    share = share_of(options.share)
    settings = load_settings()
    client = versions.connect(settings)
    record = lifecycle.start(client, settings, options.challenger, share, options.mode, options.name)
    print(f"{record.in_words()}; `make experiment` says how it stands")


if __name__ == "__main__":
    sys.exit(main())
