"""End the experiment that runs: the version in production answers everybody again, or the challenger takes its place.

make experiment-stop
make experiment-stop WINNER=B           # and put the challenger into production, by way of staging
make experiment-stop REASON="too slow"  # kept with the experiment
"""

import argparse
import sys

from delivery.experiment import lifecycle
from pipeline.errors import edge
from pipeline.registry import versions
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Deploy what is to stay, and record how the experiment ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--winner", default="", help="A or B; without it nobody won")
    parser.add_argument("--reason", default="", help="why it ends, in words")
    options = parser.parse_args(argv)
    settings = load_settings()
    record = lifecycle.stop(versions.connect(settings), settings, options.winner, options.reason)
    stays = record.challenger if record.winner == lifecycle.B else record.champion
    print(f"experiment {record.name} has ended ({record.reason}); production serves version {stays}")


if __name__ == "__main__":
    sys.exit(main())
