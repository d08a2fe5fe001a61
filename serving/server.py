"""The HTTP server of one worker: uvicorn, with limits on slow callers and an end that loses no request."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DRAIN = 6  # seconds; more than the 5 s after which the server closes a connection on which nothing is asked
GRACE = 10  # seconds that requests under way get to end after that
PATIENCE = 60  # seconds in which a request must have arrived
LOOK = 5  # seconds between two looks at the connections
HEAD = 65_536  # bytes that the head of a request may have
HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
]


class Protocol(HttpToolsProtocol):
    """A connection that is closed when the head of a request does not end."""

    head = 0

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the parser, and count those of an unfinished head."""
        self.head += len(data)
        super().data_received(data)
        if self.head > HEAD:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """The head is whole: what follows is a body, which has its own limit."""
        self.head = -1 << 62
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next bytes are a head again."""
        super().on_message_complete()
        self.head = 0


class Server(uvicorn.Server):
    """A server that, told to end, answers on with `Connection: close` until its callers have left.

    Closing a kept-alive connection at once loses the request that is on its way on it. A caller that asks again within
    the time is told to leave; one that does not is closed by the usual timeout for idle connections.
    """

    def __init__(self, app: Callable, started: Callable[[], None], ended: Callable[[], None]):
        """`started` is called when requests are answered, `ended` after the last of them."""
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                log_config=None,
                log_level="warning",
                access_log=False,
                ws="none",
                interface="asgi3",
                proxy_headers=False,
                lifespan="off",
                server_header=False,
                headers=HEADERS,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._started, self._ended = started, ended
        self._arriving: dict[object, tuple[object, float]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain for at most DRAIN seconds, then end as usual; a second Ctrl-C ends it at once."""
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        end = time.monotonic() + DRAIN
        while state.connections and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
        self._looking.cancel()
        self._ended()

    def _look(self) -> None:
        """Close connections whose request has been arriving for too long: a slow sender must not hold one for ever."""
        now, seen = time.monotonic(), self._arriving
        self._arriving = {}
        for connection in cast(list[Protocol], list(self.server_state.connections)):
            cycle = connection.cycle
            if cycle is not None and not cycle.more_body:
                continue  # it is being answered, or idle, for which the server has a timeout of its own
            was, since = seen.get(connection, (cycle, now))
            self._arriving[connection] = (cycle, since if was is cycle else now)
            if was is cycle and now - since > PATIENCE:
                with contextlib.suppress(OSError):
                    connection.transport.close()
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
