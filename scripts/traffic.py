"""Send a service made-up requests: rows of your data at a chosen rate, changed on purpose, and outcomes that come later.

    make traffic                                                     # production, 1000 rows a day, until Ctrl-C
    make traffic ENVIRONMENT=staging ARGS="--rows-a-day 86400 --shift mean_radius=0.5 --seconds 60"
    make traffic ARGS="--rows-a-day 86400 --relation --delay-days 0.0001 --seconds 60"   # outcomes after some nine seconds

Its rows go into the prediction log like those of real callers, so the monitor sees them. `make drill` does the same in a copy.
"""

import argparse
import sys
import time

from delivery import targets
from delivery.drill.traffic import Change, Traffic, column_and_number, known, positive
from pipeline.data.dataset import load_dataset
from pipeline.errors import DeployError, edge
from pipeline.monitor.actions.retraining_world import in_log_time
from pipeline.settings import load_settings

LOOK = 5.0  # seconds between two lines of progress


@edge
def main(argv: list[str] | None = None) -> None:
    """Send until the time is over, and say how much."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environment", type=targets.environment, default="production")
    parser.add_argument(
        "--rows-a-day", type=positive, default=1000, help="rows in a day of the log's clock (default: 1000)"
    )
    parser.add_argument("--seconds", type=positive, help="how long to send (default: until Ctrl-C)")
    parser.add_argument(
        "--delay-days", type=positive, default=0.1, help="how long an outcome takes, on average (default: 0.1)"
    )
    parser.add_argument("--shift", type=column_and_number, action="append", default=[], metavar="COLUMN=DEVIATIONS", help="move a column by so many standard deviations")  # fmt: skip
    parser.add_argument("--missing", type=column_and_number, action="append", default=[], metavar="COLUMN=SHARE", help="leave this share of a column's cells empty")  # fmt: skip
    parser.add_argument(
        "--relation", action="store_true", help="let the outcomes follow another column than the model learnt"
    )
    options = parser.parse_args(argv)
    settings = load_settings()
    dataset = load_dataset(settings)
    change = known(dataset, Change(dict(options.shift), dict(options.missing), options.relation))
    target = targets.choose(settings)
    if target.serving(options.environment, settings) is None:
        raise DeployError(f"{options.environment} serves nothing", "`make ship` puts a model there")
    with target.reach(options.environment, settings) as url:
        key = target.key(options.environment, settings)
        traffic = Traffic(url, key, dataset, options.rows_a_day, options.delay_days, _now)
        traffic.change = change
        traffic.start()
        try:
            _wait(traffic, options.seconds)
        except KeyboardInterrupt:
            pass
        finally:
            traffic.stop()
    if not traffic.counts.rows and (traffic.counts.failed or traffic.counts.refused):
        raise DeployError(f"no request was answered: {traffic.counts}", f"look at it: {url}/readyz")
    print(traffic.counts)
    if traffic.waiting:
        late = "outcomes were not due yet and are never sent: a smaller --delay-days sends them sooner"
        print(f"{traffic.waiting:,} {late}")


def _now() -> float:
    return in_log_time(time.time())


def _wait(traffic: Traffic, seconds: float | None) -> None:
    end = time.monotonic() + seconds if seconds else float("inf")
    while traffic.running and (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK, left))
        print(traffic.counts, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
