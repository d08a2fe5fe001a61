"""The HTTP server of one worker: uvicorn, with limits on slow callers and an end that loses no request."""

import asyncio
import resource
import socket
import sys
import time
from collections.abc import Callable
from typing import cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http.endpoints import POSTS
from serving.http.fast_path import ASKED, FastPath, Response
from serving.http.headers import by_name
from serving.http.listening import take_no_more
from serving.problems import Problem
from serving.requests.body import SMALL, ExplanationAsked
from serving.telemetry.metrics import REFUSED

DRAIN = 6  # seconds; more than the 5 s after which the server closes a connection on which nothing is asked
GATHER = 0.1  # seconds in which connections that have begun arrive, after no more may begin
LINGER = 2  # seconds in which those that came last are answered
GRACE = 10  # seconds that requests under way get to end after that
PATIENCE = 60  # seconds in which a request must have arrived, and a caller take something of its answer
LOOK = 5  # seconds between two looks at the connections
HEAD = 65_536  # bytes that the head of a request may have
LAST_WORDS = 1.0  # seconds in which a caller that is refused for good can read why,
UNREAD = 1_000_000  # and bytes that it may still send in them
REST = 0.05  # seconds in which nothing is read, after each UNREAD bytes of a body that is refused already
IN_VAIN = 20_000_000  # bytes of such a body; more are not read
ROOM = (
    64,
    1024,
)  # file descriptors, at least and at most, that connections leave for all else, and for telling more of them
DIRECT = {endpoint.path.encode(): endpoint.path for endpoint in POSTS}
HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
]


class State(ServerState):
    """What connections share: also, whether predictions are answered without a task, and the usual headers in one piece."""

    def __init__(self) -> None:
        super().__init__()
        self.direct = True
        self.joined_from: list[tuple[bytes, bytes]] | None = None
        self.joined = b""
        self.most, self.room, self.turned_away = (
            sys.maxsize,
            0,
            0,
        )  # connections that may be open, and those that are being told so

    def leave_room(self, files: int) -> None:
        """Let connections use so many open files but for some room: what is accepted beyond would be closed in silence."""
        least, largest = ROOM
        room = min(largest, max(least, files // 4))
        self.most, self.room = max(1, files - room), room


class Protocol(HttpToolsProtocol):
    """A connection. Predictions of the usual kind are answered as soon as they have arrived, without a task.

    The framework's protocol starts a task before the body has arrived, checks each header of the answer and writes twice;
    that takes as long as the prediction. What is unusual in any way goes that way all the same.
    """

    app: FastPath
    server_state: State
    head = 0  # bytes of a head, or of the lines after a body in chunks, that are not whole yet
    trailing = False  # the head was read, and the rest of the request was not yet
    refused: Response | None = None  # why nothing more is read; sent when all that was asked before is answered
    body: bytes | None = None  # what has come of a request that is answered without a task,
    path = ""  # its path,
    fields: dict[bytes, bytes]  # and its headers by name
    dropped = 0  # bytes that have come of a body after its answer
    turned_away = False  # there were too many connections already
    idle_since: float | None = None  # by the loop's time; None while something is asked, or nothing was yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has come; with too many of them here it is told to come again."""
        super().connection_made(transport)
        state = self.server_state
        if len(state.connections) - state.turned_away <= state.most:
            return
        self.turned_away = True
        state.turned_away += 1
        self.app.metrics.own[REFUSED] += 1
        problem = Problem(503, "there are too many connections; come again", headers={"retry-after": "1"})
        self.refused = self.app.refuse(problem, "", "", [], counted=False)
        self._hang_up()
        if state.turned_away > state.room // 2:  # no room to wait until it has read
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Pass bytes to the parser, and count those of an unfinished head."""
        self.head += len(data)
        if self.refused is not None:
            if self.head > UNREAD:
                self.transport.close()
            return
        self.idle_since = None
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                self._read_again(data, offer)
            if self.head > HEAD:
                raise self._too_large()
        except httptools.HttpParserError as error:
            self._refuse(_unreadable(error))
        except Problem as problem:
            self._refuse(problem)

    def _read_again(self, data: bytes, offer: httptools.HttpParserUpgrade) -> None:
        """Read a request that offers another protocol without its offer (RFC 9110, 7.8), and what follows it.

        The parser takes an accepted offer for granted, and what follows the head for the other protocol.
        """
        rest = memoryview(data)
        while True:
            rest = rest[offer.args[0] :]
            line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            kept = [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets them
            self.parser.feed_data(b"\r\n".join([line, *kept, b"\r\n"]))
            if not rest:
                return
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as another:
                offer = another

    def on_message_begin(self) -> None:
        """A new request; what only a task needs is made when there is one."""
        self.url, self.headers, self.expect_100_continue, self.trailing = b"", [], False, False
        self.dropped = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; what comes after a body is none (RFC 9110, 6.5.1), and is dropped."""
        if not self.trailing:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_chunk_header(self) -> None:
        """A piece of a body in chunks begins, or the lines after the last one, which may not be endless."""
        self.head = 0

    def on_headers_complete(self) -> None:
        """The head is whole: what follows is a body, which has its own limit. Raises Problem."""
        if self.head > HEAD and len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD:
            raise self._too_large()
        usual = self._is_usual()
        if not usual and self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Problem(400, "CONNECT asks for a proxy, and this is none")
            return  # it is read again without its offer
        self.head, self.trailing = -1 << 62, True
        if usual:
            self.body = b""
            return
        if not self.url.startswith(b"/"):
            self.url = _path(self.url)
        self._unset_keepalive_if_required()  # an answer just given has set it, and this one may take longer
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    def _is_usual(self) -> bool:
        """A POST of a declared, moderate length to a fast path, over a connection that is kept and has nothing else to do."""
        parser = self.parser
        path = DIRECT.get(self.url)
        if path is None or parser.get_method() != b"POST" or not self.server_state.direct:
            return False
        if parser.get_http_version() != "1.1":
            return False
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # an answer of before is still to be given
        if self.flow.write_paused or self.expect_100_continue or not parser.should_keep_alive():
            return False
        fields = by_name(self.headers)
        if b"transfer-encoding" in fields or b"upgrade" in fields or b"content-length" not in fields:
            return False
        self.path, self.fields = path, fields
        return int(fields[b"content-length"]) <= SMALL

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.head = -1 << 62
        if self.body is not None:
            self.body += body
        elif self.cycle.response_complete:
            self._drop(len(body))
        else:
            super().on_body(body)

    def _drop(self, size: int) -> None:
        """Read on after the answer, but slowly and not for ever: many callers send all of a body before they read."""
        before, self.dropped = self.dropped, self.dropped + size
        if before > IN_VAIN or before // UNREAD == self.dropped // UNREAD:
            return
        self.flow.pause_reading()
        if self.dropped <= IN_VAIN:
            self.loop.call_later(REST, self._read_on)
        else:
            self.transport.write_eof()
            self.loop.call_later(LAST_WORDS, self.transport.close)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def on_message_complete(self) -> None:
        """The request is whole: answer it, or let its task go on. The next bytes are a head again."""
        if not self.trailing:
            return  # an offer, which is read again
        self.head, self.trailing = 0, False
        body, self.body = self.body, None
        if body is None:
            if not self.parser.should_keep_alive():
                self.cycle.keep_alive = False  # so say the lines after the body, and the parser has ended
            super().on_message_complete()
            return
        address = self.client[0] if self.client else ""
        try:
            response = self.app.respond(self.path, self.fields, body, address)
        except ExplanationAsked as asked:
            self._answer_in_a_task(asked)
            return
        self._write(response)
        if self.server_state.direct:
            self.on_response_complete()
        else:  # the end began while the request arrived, and the answer has said so
            self.transport.close()

    def _answer_in_a_task(self, asked: ExplanationAsked) -> None:
        """Answer in a task what takes longer than others may wait, from what was read of it."""
        self._unset_keepalive_if_required()
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        super().on_headers_complete()
        self.scope["state"][ASKED] = asked
        super().on_message_complete()

    def _write(self, response: Response, *more: bytes) -> None:
        name, status, kind, answer, headers = response
        if headers:
            more = (*more, *(b"%b: %b\r\n" % header for header in headers))
        self.transport.write(
            b"%b%b%b%b: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n%b"
            % (STATUS_LINE[status], self._defaults(), b"".join(more), *kind, len(answer), name, answer)
        )

    def _too_large(self) -> Problem:
        if len(self.url) > HEAD:
            return Problem(414, f"the request's target may have at most {HEAD} bytes")
        return Problem(431, f"the head of a request may have at most {HEAD} bytes")

    def _refuse(self, problem: Problem) -> None:
        """Refuse what cannot be read, once all that was asked before is answered, and read no further."""
        cycle = self.cycle
        if self.trailing and cycle.response_started:  # answered before its body came, which turns out to be no body
            self.refused = self._refusal(problem, counted=False)
            self.transport.close()
            return
        waiting = bool(self.pipeline) and self.pipeline[0][0] is cycle
        reading = self.trailing and not waiting  # a task waits for the rest of the body, and counts how that ends
        self.refused = self._refusal(problem, counted=not reading)
        if reading:
            cycle.scope["state"]["refused"] = problem.status
            cycle.disconnected = True
            cycle.message_event.set()
        elif self.trailing:
            self.pipeline.popleft()
        elif cycle is not None and not cycle.response_complete:
            return
        if reading or not waiting:
            self._hang_up()

    def _refusal(self, problem: Problem, counted: bool) -> Response:
        method = self.parser.get_method().decode("latin-1") if self.url else ""
        return self.app.refuse(problem, method, self.url.decode("latin-1"), self.headers or [], counted)

    def _hang_up(self) -> None:
        """Say why nothing more is read. A connection closed at once would take these words along."""
        self._write(cast(Response, self.refused), *([b"connection: close\r\n"] if self.server_state.direct else []))
        self.transport.write_eof()
        self.head = 0
        self.loop.call_later(LAST_WORDS, self.transport.close)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks whether to keep it open
        """The caller sends no more; what it has asked as a whole is answered before the connection ends.

        An explanation is not: most callers that send no more have left, and it takes long.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body or ASKED in cycle.scope["state"]:
            return False
        cycle.keep_alive = False
        return True

    def on_response_complete(self) -> None:
        """An answer was given: go on with what was asked behind it, or wait. One timer serves many waits: to set one takes long."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        if self.refused is not None:
            self._hang_up()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._wait(self.timeout_keep_alive)

    def _unset_keepalive_if_required(self) -> None:
        """Something is asked; the timer sees that when it is due."""
        self.idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for the time; else look again when it may have been."""
        self.timeout_keep_alive_task = None
        if self.idle_since is None:
            return
        left = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._wait(left)
        else:
            super().timeout_keep_alive_handler()

    def _wait(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and what waits for it with it."""
        super().connection_lost(exc)
        self.server_state.turned_away -= self.turned_away
        if self.body is not None:
            self.app.abandoned(self.path, self.fields)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def _defaults(self) -> bytes:
        """The headers that every answer has; the server makes a new list of them each second, with the date."""
        state = self.server_state
        if state.joined_from is not state.default_headers:
            state.joined_from = state.default_headers
            state.joined = b"".join(b"%b: %b\r\n" % header for header in state.default_headers)
        return state.joined


class Server(uvicorn.Server):
    """A server that, told to end, answers on with `Connection: close` until its callers have left.

    Closing a kept-alive connection at once loses the request that is on its way on it. A caller that asks again within
    the time is told to leave; one that does not is closed by the usual timeout for idle connections.
    """

    def __init__(
        self,
        app: Callable,
        started: Callable[[], None],
        ended: Callable[[], None],
        is_last: Callable[[], bool] = lambda: True,
    ):
        """`started` is called when requests are answered, `ended` after the last of them.

        `is_last` is asked once, when this server is about to accept no more: whether no other does on the same socket.
        """
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
        self.server_state: State = State()
        self._started, self._ended, self._is_last = started, ended, is_last
        self._arriving: dict[Protocol, tuple[tuple[int, int], float]] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        self.server_state.leave_room(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        await super().startup(sockets)
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain for at most DRAIN seconds, then end as usual; a second Ctrl-C ends it at once."""
        state = self.server_state
        state.direct = False
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        await self._left(DRAIN)
        if self._is_last():  # what waits to be accepted would be lost with the socket
            for listener in sockets or []:
                take_no_more(listener)
            await asyncio.sleep(GATHER)
        for server in self.servers:
            server.close()
        await self._left(LINGER)
        await super().shutdown(sockets)
        self._looking.cancel()
        self._ended()

    async def _left(self, seconds: float) -> None:
        """Wait until all callers have left, so many seconds at most."""
        end = time.monotonic() + seconds
        while self.server_state.connections and not self.force_exit and time.monotonic() < end:
            await asyncio.sleep(0.02)

    def _look(self) -> None:
        """End connections on which the caller is too slow, in sending or in taking: it must not hold one for ever."""
        now, seen = time.monotonic(), self._arriving
        self._arriving = {}
        for connection in cast(list[Protocol], list(self.server_state.connections)):
            state = _pending(connection)
            if state is None:
                continue
            was, since = seen.get(connection, (state, now))
            since = since if was == state else now
            self._arriving[connection] = (state, since)
            if now - since > PATIENCE:
                connection.transport.abort()
        self._looking = asyncio.get_running_loop().call_later(LOOK, self._look)


def _unreadable(error: httptools.HttpParserError) -> Problem:
    """What a caller is told whose bytes are no request."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError):
        return Problem(400, "the request's target is neither a path nor an address with one")
    return Problem(400, f"this is no request of HTTP/1.1: {error}")


def _path(target: bytes) -> bytes:
    """The path and query of a target that is a whole address, "/" where it names none (RFC 9112, 3.2.2)."""
    url = httptools.parse_url(target)
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")


def _pending(connection: Protocol) -> tuple[int, int] | None:
    """What the caller's side of a connection is at, None when it is not the caller who is waited for."""
    if unsent := connection.transport.get_write_buffer_size():
        return id(connection), unsent
    if connection.idle_since is not None and not connection.transport.is_closing():
        return None  # idle, for which the server has a limit of its own
    cycle = connection.cycle
    if cycle is not None and not cycle.response_complete and not cycle.more_body:
        return None  # being answered
    return id(connection.headers), 0  # each request has a list of headers of its own
