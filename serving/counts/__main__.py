"""Count the prediction log by day and version, and print what is in it and then all counts, a JSON object per line:

    python -m serving.counts < plan.json

SLIPWAY_DATABASE_URL names the log's database. The plan (serving/counts/records.py) says what to count and comes from `make monitor`.
A day is counted again when rows or outcomes have come since; counts of a day whose rows were deleted since are kept. So it may run
at any time, twice, after a gap, and on two machines at once.
"""

import os
import sys

import msgspec

from serving.counts import table
from serving.counts.log import count_log
from serving.counts.records import plan_of
from serving.log.store import Store, StoreError, database


def main() -> int:
    """Return 0 when all is counted and printed; else say why in one line and return 1."""
    try:
        plan = plan_of(sys.stdin.buffer.read())
        store = Store(database(os.environ, existing=True))
        count_log(store, plan, lambda words: print(words, file=sys.stderr, flush=True))
        lines = [table.overview(store), *table.read(store, plan.model)]
        store.close()
    except (StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
