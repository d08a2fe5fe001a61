"""How much is in the prediction log between moments, without reading what it is:

    echo '[1767225600, 1767312000]' | python -m serving.log.marks

Reads a JSON list of times (seconds since 1970, rising) and prints one with a mark for each stretch between two of them. A mark changes
when anything is written to the stretch or deleted from it. SLIPWAY_DATABASE_URL names the database.
"""

import os
import sys
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from serving.log.store import Store, StoreError, database

PAGE = 5_000  # blocks counted at a time
_BLOCKS = (
    "SELECT last_time, id, first_time, requests, rows FROM prediction_blocks"
    " WHERE last_time >= ? AND (last_time, id) > (?, ?) AND first_time < ? ORDER BY last_time, id LIMIT ?"
)


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """How many blocks reach into a stretch, and their requests; the rows of those that end in it; the number of the newest."""

    blocks: int = 0
    requests: int = 0
    rows: int = 0
    newest: int = 0


def main() -> int:
    """Print the marks; return 1 with one line on standard error when the log cannot be read or no times are given."""
    try:
        edges = msgspec.json.decode(sys.stdin.buffer.read(), type=list[float])
        store = Store(database(os.environ, existing=True))
        found = marks(store, edges)
        store.close()
    except (msgspec.MsgspecError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


def marks(store: Store, edges: Sequence[float]) -> list[Mark]:
    """A mark for each stretch from one edge to before the next; a block that reaches into several is in each. Raises StoreError."""
    store.move_all()
    found = [[0, 0, 0, 0] for _ in edges[1:]]
    after = (edges[0], -1) if found else (0.0, -1)
    while found and (page := store.query(_BLOCKS, (after[0], *after, edges[-1], PAGE))):
        for last_time, number, first_time, requests, rows in page:
            first = max(bisect_right(edges, first_time) - 1, 0)
            end = min(bisect_right(edges, last_time), len(found))
            for one in found[first:end]:
                one[0], one[1], one[3] = one[0] + 1, one[1] + requests, max(one[3], number)
            found[end - 1][2] += rows
        after = page[-1][0], page[-1][1]
    return [Mark(*one) for one in found]


if __name__ == "__main__":
    sys.exit(main())
