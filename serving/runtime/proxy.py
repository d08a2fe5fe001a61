"""A TCP proxy that keeps an address open while the releases behind it change.

    python -m serving.runtime.proxy --port 8000 --to production:8000
    python -m serving.runtime.proxy --port 8000 --to-record .slipway/production.json

It forwards the bytes of each connection to the current release. For every new connection it looks the host name up, or
reads the record, again. While no release answers, it waits, then responds with 503.
"""

import argparse
import asyncio
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving.http.listening import take_no_more
from serving.requests.request_ids import new_request_id, request_id
from serving.runtime.descriptors import raise_limit

PATIENCE = 5  # seconds that a client waits while no release answers
CHUNK = 1 << 16
HEARD = 1  # seconds to read the request of a client that gets 503, for its request id
GATHER = 0.1  # seconds to accept connections that were already begun when the listener closed
QUIET = 0.1  # seconds without a byte after a response: then the connection counts as idle
LINGER = 4  # seconds that requests in progress may take when the proxy shuts down
CLOSED = b"""HTTP/1.1 503 Service Unavailable\r
content-type: application/problem+json\r
retry-after: 1\r
connection: close\r
x-request-id: %b\r
content-length: %d\r
\r
%b"""
PROBLEM = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "nothing serves here at present",
}
ID = re.compile(rb"^x-request-id:[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)

Address = tuple[str, int]


@dataclass(eq=False)
class _Passage:
    """A client's connection: whether its last bytes belonged to a response, and when they were sent."""

    task: asyncio.Task | None
    answered: bool = False
    moved: float = 0.0


_passing: set[_Passage] = set()


def main(argv: list[str] | None = None) -> int:
    """Forward connections until SIGTERM or Ctrl-C; return 1 with one line on standard error when it cannot listen."""
    parser = argparse.ArgumentParser(prog="python -m serving.runtime.proxy", description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--to", type=_address, action="append", help="HOST:PORT of what serves; given again: the next one to try"
    )
    where.add_argument("--to-record", type=Path, help='JSON file whose "address" is the HOST:PORT of what serves')
    args = parser.parse_args(argv)
    find = (lambda: args.to) if args.to else (lambda: [_recorded(args.to_record)])
    raise_limit()  # each connection takes two: with a limit of 256, some systems' default, 128 clients would be the most
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    try:
        asyncio.run(_stand(args.host, args.port, find))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"error: cannot listen on {args.host}:{args.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _recorded(record: Path) -> Address:
    """The address in a record; raises ConnectionError while there is no record or it cannot be read."""
    try:
        return _address(json.loads(record.read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, argparse.ArgumentTypeError) as error:
        raise ConnectionError(str(error)) from error


async def _stand(host: str, port: int, find: Callable[[], list[Address]]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_server(lambda reader, writer: _pass(reader, writer, find), host, port, backlog=2048)
    print(f"proxy open on http://{host}:{port}", flush=True)
    await ended.wait()
    for listener in server.sockets:
        with socket.fromfd(listener.fileno(), listener.family, listener.type) as same:
            take_no_more(same)
    await asyncio.sleep(GATHER)
    server.close()
    await _let_go()


async def _let_go() -> None:
    """Drain: close idle connections at once and the others after their response; takes LINGER seconds at most."""
    end = time.monotonic() + LINGER
    while _passing and (now := time.monotonic()) < end:
        for passage in list(_passing):
            if passage.answered and now - passage.moved > QUIET and passage.task is not None:
                passage.answered = False
                passage.task.cancel()
        await asyncio.sleep(0.02)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, find: Callable[[], list[Address]]) -> None:
    """Forward one client's connection until either side closes it or the proxy shuts down."""
    passage = _Passage(asyncio.current_task())
    _passing.add(passage)  # the event loop holds tasks weakly: a waiting one could be garbage-collected
    with suppress(OSError, asyncio.CancelledError):
        try:
            behind = await _connect(find)
        except OSError:
            writer.write(await _closed(reader))
            await writer.drain()
        else:
            await _both_ways((reader, writer), behind, passage)
    writer.close()
    with suppress(OSError, asyncio.CancelledError):
        await writer.wait_closed()  # until everything written was sent
    _passing.discard(passage)


async def _closed(reader: asyncio.StreamReader) -> bytes:
    """The 503 response, with the client's request id or a new one."""
    asked = b""
    with suppress(asyncio.TimeoutError):
        asked = await asyncio.wait_for(reader.read(CHUNK), HEARD)
    given = ID.search(asked.partition(b"\r\n\r\n")[0])
    name = (request_id(given[1]) if given else "") or new_request_id()
    body = json.dumps({**PROBLEM, "request_id": name}).encode()
    return CLOSED % (name.encode(), len(body), body)


async def _connect(find: Callable[[], list[Address]]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the current release, retrying for PATIENCE seconds; then raises OSError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError):
            for address in find():
                with suppress(OSError):
                    return await asyncio.open_connection(*address)
        if time.monotonic() > deadline:
            raise ConnectionError("nothing answers behind the proxy")
        await asyncio.sleep(0.02)


async def _both_ways(caller, behind, passage: _Passage) -> None:
    there = asyncio.ensure_future(_pump(caller[0], behind[1], passage, False))
    back = asyncio.ensure_future(_pump(behind[0], caller[1], passage, True))
    # The response decides: a client may close its sending side first and still wait for the response.
    try:
        await asyncio.wait([back])
    finally:
        there.cancel()
        back.cancel()
        behind[1].close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, passage: _Passage, answers: bool) -> None:
    with suppress(OSError):
        while chunk := await source.read(CHUNK):
            passage.answered = False
            sink.write(chunk)
            await sink.drain()
            passage.answered, passage.moved = answers, time.monotonic()
        if sink.can_write_eof():
            sink.write_eof()


if __name__ == "__main__":
    sys.exit(main())
