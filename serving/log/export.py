"""Print the prediction log, one line of JSON per request with its outcomes:

    python -m serving.log.export --since 2026-01-01 --until 2026-02-01

SLIPWAY_DATABASE_URL names the database.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from serving.log.blocks import Block
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import Store, StoreError, database

FIRST, LAST = "1970-01-01", "9999-12-31"
_encode = msgspec.json.Encoder().encode


def main(argv: list[str] | None = None) -> int:
    """Print the requests of some time; return 1 with one line on standard error when the log cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.log.export", description="Print the prediction log as lines of JSON."
    )
    parser.add_argument("--since", type=_moment, default=FIRST, help="a date or time in UTC, from which (default: all)")
    parser.add_argument(
        "--until", type=_moment, default=LAST, help="a date or time in UTC, before which (default: all)"
    )
    args = parser.parse_args(argv)
    try:
        store = Store(database(os.environ, existing=True))
        for block in read_blocks(store, args.since, args.until):
            sys.stdout.buffer.write(b"".join(_lines(store, block)))
        store.close()
        sys.stdout.flush()
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain at its end
    except OSError as error:
        print(f"error: the log cannot be printed: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _lines(store: Store, block: Block) -> Iterator[bytes]:
    outcomes: dict[str, list[dict[str, Any]]] = {}
    for (request_id, row), told in sorted(outcomes_of(store, block.request_ids).items()):
        one = {"row": row, "outcome": msgspec.Raw(told.outcome.encode()), "time": _iso(told.time), "sent": told.sent}
        if told.value is not None and told.value_time is not None:
            one |= {"value": told.value, "value_time": _iso(told.value_time)}
        outcomes.setdefault(request_id, []).append(one)
    for request_id, at, caller, subject, role, rows, latency, features, answers in zip(*block[1:], strict=True):
        line = {
            "request_id": request_id,
            "time": _iso(at),
            "caller": caller,
            "subject": subject,
            "role": role,
            "rows": rows,
            "features": _one_line(features),
            "answers": _one_line(answers),
            "latency_ms": latency,
            **block.source._asdict(),
            "outcomes": outcomes.get(request_id, []),
        }
        yield _encode(line) + b"\n"


def _one_line(written: bytes) -> msgspec.Raw:
    """JSON as its caller wrote it, but on one line."""
    several = b"\n" in written or b"\r" in written
    return msgspec.Raw(msgspec.json.format(written, indent=-1) if several else written)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date like 2026-01-31, nor a time like 2026-01-31T12:00"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


if __name__ == "__main__":
    sys.exit(main())
