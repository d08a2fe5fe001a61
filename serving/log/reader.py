"""Read the prediction log: requests as columns, block by block, and the outcomes that belong to them."""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, NamedTuple

from serving.log.blocks import Block, Source, about_of, content_of
from serving.log.store import Store, whole

PAGE = 4_000_000  # compressed bytes that are read at a time, about
BLOCKS = 500  # blocks that are read at a time, at most
ASKED = 5_000  # requests whose outcomes are asked for at a time

_NEXT = (
    "SELECT last_time, id, length(about) + length(content) FROM prediction_blocks"
    " WHERE last_time >= ? AND (last_time, id) > (?, ?) AND first_time < ? ORDER BY last_time, id LIMIT ?"
)
_PAGE = (
    "SELECT id, first_time, last_time, about, content, model, model_version, experiment, variant FROM prediction_blocks"
    " WHERE last_time >= ? AND (last_time, id) > (?, ?) AND (last_time, id) <= (?, ?) AND first_time < ? ORDER BY last_time, id"
)


def read_blocks(store: Store, since: float, until: float) -> Iterator[Block]:
    """The requests of the log from `since` to before `until` (seconds since 1970), about in the order of their times.

    A few megabytes are in memory at a time, and no transaction is open while you work with a block. What is written meanwhile
    may be read or not. Raises StoreError.
    """
    store.move_all()
    after = since, -1
    while found := store.query(_NEXT, (after[0], *after, until, BLOCKS)):
        size, last = 0, after
        for at, number, more in found:
            if size and size + more > PAGE:
                break
            size += more
            last = at, number
        for number, first_time, last_time, piece, content, *source in store.query(
            _PAGE, (after[0], *after, *last, until)
        ):
            with whole(number):
                block = Block(Source(*source), *about_of(piece), *content_of(content))
            if first_time < since or last_time >= until:
                inside = [since <= at < until for at in block.times]
                columns: list[Any] = [list(compress(column, inside)) for column in block[1:]]
                block = Block(block.source, *columns)
            if block.times:
                yield block
        after = last


class Told(NamedTuple):
    """What was reported about a row: the outcome as JSON, when it was last sent and how often; a value, and when that was last sent.

    Where there is only a value, the outcome is "null", sent 0 times, and `time` is that of the value.
    """

    outcome: str
    time: float
    sent: int
    value: float | None = None
    value_time: float | None = None


def outcomes_of(store: Store, request_ids: Sequence[str]) -> dict[tuple[str, int], Told]:
    """What was reported, by request id and row; raises StoreError."""
    found = {}
    for start in range(0, len(request_ids), ASKED):
        condition, asked = store.among("request_id", request_ids[start : start + ASKED])
        rows = store.query(
            f"SELECT request_id, row_index, CAST(outcome AS TEXT), time, sent, value, value_time FROM outcomes WHERE {condition}",
            [asked],
        )
        for request_id, row, *told in rows:
            found[request_id, row] = Told(*told)
    return found
