"""Keep what the monitor found where the service reads it, to show it to Prometheus:

    python -m serving.counts.findings < exposed.json

SLIPWAY_DATABASE_URL names the database of the prediction log. The record (serving/counts/exposed.py) comes from `make monitor`.
"""

import os
import sys
import time
from typing import NamedTuple

import msgspec

from serving.counts.exposed import Exposed, exposed_of
from serving.log.store import Store, StoreError, database

LARGEST = 1_000_000  # bytes of a record; 200 features take 20,000
_TABLE = {
    "findings": "CREATE TABLE IF NOT EXISTS findings (model TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL, findings TEXT NOT NULL)"
}
_UPSERT = (
    "INSERT INTO findings (model, time, findings) VALUES (?, ?, ?)"
    " ON CONFLICT (model) DO UPDATE SET time = excluded.time, findings = excluded.findings"
)


class Kept(NamedTuple):
    """A record, and when it was written: seconds since 1970, real time even in a drill."""

    time: float
    exposed: Exposed


def make(store: Store) -> None:
    """Make the table where it is missing; raises StoreError."""
    store.make(_TABLE)


def write(store: Store, exposed: Exposed, at: float) -> None:
    """Put a record in the place of the model's last one; raises StoreError."""
    store.write([(_UPSERT, (exposed.model, at, msgspec.json.encode(exposed).decode()))])


def read(store: Store, model: str) -> Kept | None:
    """The record of a model, None where the monitor never ran; raises StoreError, or ValueError for a record that cannot be read."""
    found = store.query("SELECT time, findings FROM findings WHERE model = ?", (model,))
    return Kept(float(found[0][0]), exposed_of(found[0][1])) if found else None


def main() -> int:
    """Return 0 when it is kept; else say why in one line and return 1."""
    try:
        url = database(os.environ)
        raw = sys.stdin.buffer.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"the record of the findings is larger than {LARGEST:,} bytes")
        exposed = exposed_of(raw)
        store = Store(url)
        make(store)
        write(store, exposed, time.time())
        store.close()
    except (StoreError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
