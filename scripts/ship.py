"""The main job: from the data in data/ to a model in production, every verb in order.

    make ship
    make ship FIRST=yes     # start anew after the production version was deleted in MLflow
    make ship COLUMNS=changed  # the columns are meant to differ from production's: the limits alone decide

Each stage is the same command that `make <verb>` runs. A refused candidate ends red, after its report is out; one that
brings nothing new changes nothing: production stays as it is.
"""

import argparse
import sys
import time

from rich.console import Console

from delivery import chain
from pipeline import processes
from pipeline.errors import edge
from pipeline.settings import load_settings


@edge
def main(argv: list[str] | None = None) -> int:
    """Run every stage; 0 when production is as it should be, 1 when a stage failed or the candidate was refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", action="store_true", help="start anew when production's version was deleted")
    parser.add_argument("--columns", choices=("unchanged", "changed"), default="unchanged", help="as of evaluate.py")
    options = parser.parse_args(argv)
    settings = load_settings()
    chain.check_target(settings)
    console = Console()
    with processes.lock("ship", "make ship", chain.WAIT_SECONDS) as held:
        began = time.monotonic()
        asked = [*(["--first"] if options.first else []), "--columns", options.columns]
        verdict = chain.run(settings, asked, chain.Progress(console, held))
        chain.show_end(settings, verdict, time.monotonic() - began, console)
    return 1 if verdict == "refuse" else 0


if __name__ == "__main__":
    sys.exit(main())
