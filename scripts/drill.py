"""See the closed loop in minutes: traffic, a change of the world, the alarm, the retraining, a new version, the alarm closed.

    make drill
    make drill ARGS="--shift mean_radius=0.5 --missing mean_area=0.1 --keep"

Everything happens in a copy of this project with ports, MLflow, log and data of its own; nothing of the real one is touched. Time is
compressed by the clock of the copy's prediction log: a day takes two seconds. Without options, the outcomes follow another column from
a certain day on.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from delivery.drill import workspace
from delivery.drill.story import ROWS_A_DAY, Story, play
from delivery.drill.traffic import Change, Traffic, column_and_number, known, least_related, positive
from pipeline.data.dataset import load_dataset
from pipeline.errors import edge
from pipeline.settings import load_settings

SECONDS_PER_DAY = 2.0
DELAY = 0.3  # days that an outcome takes, on average


@edge
def main(argv: list[str] | None = None) -> None:
    """Play the drill, and print its story."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shift", type=column_and_number, action="append", default=[], metavar="COLUMN=DEVIATIONS", help="move a column by so many standard deviations")  # fmt: skip
    parser.add_argument("--missing", type=column_and_number, action="append", default=[], metavar="COLUMN=SHARE", help="leave this share of a column's cells empty")  # fmt: skip
    parser.add_argument("--rows-a-day", type=positive, default=ROWS_A_DAY)
    parser.add_argument("--seconds-per-day", type=positive, default=SECONDS_PER_DAY)
    parser.add_argument("--keep", action="store_true", help="keep the copy, to look into it")
    options = parser.parse_args(argv)
    dataset = load_dataset(load_settings())
    change = known(dataset, Change(dict(options.shift), dict(options.missing), relation=True))
    folder = Path(tempfile.mkdtemp(prefix="slipway-drill-")) / "copy"
    try:
        workspace.make(folder)
        story = Story(folder, options.seconds_per_day, change, options.rows_a_day)
        print(f"the copy: {folder}; the outcomes will follow {least_related(dataset)}", flush=True)

        def traffic(story: Story, url: str) -> Traffic:
            return Traffic(url, "", dataset, options.rows_a_day, DELAY, story.now)

        play(story, traffic)
    finally:
        if not options.keep:
            shutil.rmtree(folder.parent, ignore_errors=True)
    print("\nThe loop is closed.")


if __name__ == "__main__":
    sys.exit(main())
