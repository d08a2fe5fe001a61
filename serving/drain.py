"""Ending without losing a request: callers are sent away with their answers before connections are closed."""

import asyncio
import time

import uvicorn

SECONDS = 6  # more than the 5 s after which the server closes a connection on which nothing is asked


class DrainingServer(uvicorn.Server):
    """A server that, told to end, answers on with `Connection: close` until its callers have left.

    Closing a kept-alive connection at once loses the request that is on its way on it. A caller that asks again within
    the time is told to leave; one that does not is closed by the usual timeout for idle connections.
    """

    async def shutdown(self, sockets=None) -> None:
        """Drain for at most SECONDS, then end as usual; a second Ctrl-C ends it at once."""
        state = self.server_state
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        end = time.monotonic() + SECONDS
        while state.connections and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)
