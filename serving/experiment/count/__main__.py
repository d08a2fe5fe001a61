"""Count an experiment's rows in the prediction log, and print the sums, and then pairs of answers, a JSON object per line:

    python -m serving.experiment.count < plan.json

SLIPWAY_DATABASE_URL names the log's database. The plan (serving/experiment/count/records.py) says what to count and comes from
`make experiment`. Nothing is written: it may run at any time, twice, and on two machines at once.
"""

import os
import sys

import msgspec

from serving.experiment.count.log import count
from serving.experiment.count.records import plan_of
from serving.log.store import Store, StoreError, database


def main() -> int:
    """Return 0 when all is counted and printed; else say why in one line and return 1."""
    try:
        plan = plan_of(sys.stdin.buffer.read())
        store = Store(database(os.environ, existing=True))
        sums, pairs = count(store, plan)
        store.close()
    except (StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    encode = msgspec.json.encode
    sys.stdout.buffer.write(encode(sums) + b"\n")
    sys.stdout.buffer.writelines(encode(pair) + b"\n" for pair in pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
