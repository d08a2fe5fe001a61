"""Ask one address from many connections at once, as fast as it answers or at a given rate, and measure.

A caller keeps its connection, has one request under way at a time, and comes back when the server closes. HTTP is parsed
by httptools: a client for all occasions would be slower than the service that it is to measure (docs/targets.md has figures).
"""

import asyncio
import math
import resource
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import quote, urlsplit

import httptools

from delivery import keys
from delivery.load.latencies import Latencies
from pipeline.errors import SlipwayError

CONNECT = 3.0  # seconds to connect
PAUSE = 0.1  # seconds until a caller who could not connect tries again
LOOK = 0.05  # seconds between two looks at what has waited too long
SETTLE = 1.0  # seconds after the end in which requests that were due before are still sent
FINEST = 1e-4  # seconds; what is due sooner after each other is sent together
LAZY = 1e-3  # seconds between two looks while no caller is free: whoever becomes free takes what is due
NOT_HTTP = "what came back is not HTTP"
MOST_BODY = 16 << 20  # bytes of an answer that are kept


@dataclass(frozen=True)
class Address:
    """Where a service is; `path` goes before each of its own."""

    url: str
    tls: bool
    host: str
    port: int
    path: str

    def request(self, method: str, path: str, body: bytes = b"", key: str = "") -> bytes:
        """A whole HTTP request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"{method} {self.path}{path} HTTP/1.1", f"Host: {host}:{self.port}", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in keys.headers(key).items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def read_address(url: str) -> Address:
    """The parts of an http or https address; raises SlipwayError when it is none that can be asked."""
    then = "give it as http://HOST:PORT"
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as error:
        raise SlipwayError(f"{_shown(url)} is no address: {error}", then) from None
    if parts.username is not None or parts.password is not None:
        raise SlipwayError("the address must not hold a name or password", "an API key goes into SLIPWAY_KEY")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise SlipwayError(f"{_shown(url)} is no address of a service", then)
    return Address(url.rstrip("/"), parts.scheme == "https", host, port, quote(parts.path.rstrip("/"), safe="/:%@"))


def _shown(url: str) -> str:
    return ascii(url if len(url) <= 200 and "@" not in url else "this")


@dataclass(frozen=True)
class Response:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection with at most one request under way.

    Calls `answered(connection, keep)` for each answer and `closed(connection, why)` at its end, where `why` is "" unless
    an answer was still to come.
    """

    def __init__(self, answered: Callable[["Connection", bool], None], closed: Callable[["Connection", str], None]):
        self._answered, self._closed = answered, closed
        self._parser = httptools.HttpResponseParser(self)
        self._complete = self._keep = self.waiting = False
        self.due = self.sent = 0.0
        self.why = ""
        self._blank()

    def _blank(self) -> None:
        self.status, self._size = 0, 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at an instant of `perf_counter`."""
        self.due, self.sent = due, time.perf_counter()
        self._blank()
        self.waiting = True
        self.transport.write(request)

    def answer(self) -> Response:
        """The answer that came last."""
        return Response(self.status, self.headers, b"".join(self.body))

    def give_up(self, why: str) -> None:
        """Close at once; an answer that is still to come never will, and this is why."""
        self.why = self.why or why
        self.transport.abort()

    # --- what asyncio calls

    def connection_made(self, transport) -> None:
        """The connection is there."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A piece of an answer came in."""
        if not self.waiting:
            return self.give_up(NOT_HTTP)  # nobody asked
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return self.give_up(NOT_HTTP)
        if self._complete:
            self._finish(self._keep)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is closed, by whichever side; without a length this is what ends an answer."""
        unmeasured = self.status and not self.headers.keys() & {"content-length", "transfer-encoding"}
        if self.waiting and unmeasured and not error and not self.why:
            self._finish(False)
        if not self.waiting:
            return self._closed(self, "")
        self.waiting = False
        self.why = self.why or (words(error) if error else "the connection was closed before the answer")
        self._closed(self, self.why)

    def _finish(self, keep: bool) -> None:
        self._complete = self.waiting = False
        self._answered(self, keep)

    # --- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """All headers are there."""
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """A piece of the answer's body."""
        self._size += len(piece)
        if self._size <= MOST_BODY:
            self.body.append(piece)

    def on_message_complete(self) -> None:
        """The answer is whole, unless it only says that another will follow."""
        self._complete, self._keep = self.status >= 200, self._parser.should_keep_alive()


def words(error: BaseException) -> str:
    """Why a connection failed, in words."""
    match error:
        case ConnectionRefusedError():
            return "nothing listens there"
        case socket.gaierror():
            return "this name is not known"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message}); SSL_CERT_FILE names one that is"
        case ssl.SSLError():
            return f"no TLS there ({error.reason or error})"
        case TimeoutError():
            return f"no connection within {CONNECT:g} s"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was reset before the answer"
        case ConnectionAbortedError() if not error.errno:
            return str(error)
        case OSError():
            return error.strerror or type(error).__name__
    return type(error).__name__


class Client:
    """The way to an address, looked up once."""

    def __init__(self, address: Address, key: str = "", timeout: float = 10.0):
        """`timeout` is how many seconds an answer may take."""
        self.address, self.key, self.timeout = address, key, timeout
        self._tls = ssl.create_default_context() if address.tls else None
        self._found: tuple[str, int] | None = None

    async def connect(self, answered, closed) -> Connection:
        """Open a connection; raises OSError."""
        if self._found:
            return await self._open(self._found, answered, closed)
        loop, failed = asyncio.get_running_loop(), None
        for *_, found in await loop.getaddrinfo(self.address.host, self.address.port, type=socket.SOCK_STREAM):
            where = str(found[0]), self.address.port
            try:
                connection = await self._open(where, answered, closed)
            except OSError as error:
                failed = failed or error
            else:
                self._found = where
                return connection
        raise failed or OSError("no address")

    async def _open(self, where: tuple[str, int], answered, closed) -> Connection:
        loop = asyncio.get_running_loop()
        name = self.address.host if self._tls else None
        opening = loop.create_connection(
            lambda: Connection(answered, closed), *where, ssl=self._tls, server_hostname=name
        )
        transport, connection = await asyncio.wait_for(opening, CONNECT)
        if transport.is_closing():
            raise ConnectionAbortedError(connection.why or "the connection was closed at once")
        return connection

    async def ask(self, method: str, path: str, body: bytes = b"") -> Response:
        """One request on a connection of its own; raises ConnectionError, in words, when there is no answer."""
        done = asyncio.get_running_loop().create_future()
        done.add_done_callback(
            lambda future: future.cancelled() or future.exception()
        )  # nobody may wait for it any more

        def answered(connection: Connection, keep: bool) -> None:
            done.set_result(connection.answer())

        def closed(connection: Connection, why: str) -> None:
            if not done.done():
                done.set_exception(ConnectionError(why))

        try:
            connection = await self.connect(answered, closed)
        except OSError as error:
            raise ConnectionError(words(error)) from error
        try:
            connection.send(self.address.request(method, path, body, self.key), time.perf_counter())
            return await asyncio.wait_for(done, self.timeout)
        except TimeoutError:
            raise ConnectionError(f"no answer within {self.timeout:g} s") from None
        finally:
            connection.give_up("")


@contextmanager
def event_loop() -> Iterator[Callable[..., Any]]:
    """A function that runs a coroutine on one event loop, the fastest that is installed, with enough descriptors."""
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536) if hard > 0 else 65_536), hard))
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


@dataclass
class RefusedRequests:
    """Answers of one status other than 200, and the first of them."""

    count: int
    first: Response


@dataclass
class Measured:
    """What a load measured so far. Latencies are those of predictions, and of requests that waited in vain."""

    latencies: Latencies
    predicted: int = 0
    refused: dict[int, RefusedRequests] = field(default_factory=dict)
    broken: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0  # due or under way when the load ended
    seconds: float = 0.0
    cpu: float = 0.0  # cores' worth of processor that this program used meanwhile
    interrupted: bool = False

    @property
    def answered(self) -> int:
        """Answers of any status."""
        return self.predicted + sum(refusal.count for refusal in self.refused.values())


class Load:
    """Callers who ask on and on. Without a rate each asks again when it has its answer (closed loop).

    With a rate, in requests a second, each request has an instant at which it is due, and its latency counts from there,
    whether or not a caller was free to send it (open loop): a server that stalls is charged for all who had to wait.
    """

    def __init__(
        self,
        client: Client,
        requests: list[bytes],
        callers: int,
        seconds: float,
        rate: float | None = None,
        spins: bool = False,
    ):
        """With `spins` it keeps its core busy to send at the very instant, which only a core of its own allows."""
        self._client, self._callers, self._length, self._rate, self._spins = client, callers, seconds, rate, spins
        self._request = cycle(requests).__next__
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._warming: dict[Connection, asyncio.Event] = {}
        self._tasks: set[asyncio.Task] = set()
        self._sent, self._total = 0, math.ceil(round(seconds * rate, 6)) if rate else 0
        self._begin = self._end = math.inf
        self._over = self._stopped = False
        self.measured = Measured(Latencies(seconds))

    def stop(self) -> None:
        """End now, with what is measured so far."""
        self._stopped = True

    async def run(self, watch: Callable[[Measured, float], None] = lambda *_: None) -> Measured:
        """Connect, warm up with a request each, and load; `watch` is told now and then what is measured, and after how long."""
        await self._warm_up()
        cpu = time.process_time()
        self._begin = self._last = time.perf_counter()
        self._end = self._begin + self._length
        for connection in list(self._open):
            self._ready(connection, self._begin)
        for _ in range(self._callers - len(self._open)):
            self._come_back(self._begin)
        if self._rate and self._spins:
            self._spin(asyncio.get_running_loop())
        elif self._rate:
            threading.Thread(target=self._pace, args=(asyncio.get_running_loop(), self._rate), daemon=True).start()
        while not self._finished(time.perf_counter()):
            await asyncio.sleep(LOOK)
            self._give_up_on_late()
            watch(self.measured, time.perf_counter() - self._begin)
        self._close(time.perf_counter())
        self.measured.cpu = (time.process_time() - cpu) / (time.perf_counter() - self._begin)
        return self.measured

    async def _warm_up(self) -> None:
        """Open the connections and have one answer on each, which is not counted."""

        async def one() -> None:
            with suppress(OSError):  # the load itself will tell
                connection = await self._client.connect(self._on_answer, self._on_close)
                self._open.add(connection)
                self._warming[connection] = asyncio.Event()
                connection.send(self._request(), time.perf_counter())
                await self._warming[connection].wait()

        tasks = {asyncio.create_task(one()) for _ in range(self._callers)}
        deadline = time.perf_counter() + self._client.timeout
        while tasks and time.perf_counter() < deadline and not self._stopped:
            _, tasks = await asyncio.wait(tasks, timeout=LOOK)
        for task in tasks:
            task.cancel()
        for connection in [one for one in self._open if one.waiting]:
            self._open.discard(connection)
            connection.waiting = False
            connection.give_up("")
        self._warming.clear()

    # --- who sends what, when

    def _next(self, wanted: float) -> float | None:
        """When the next request is due, in the past or now; None while there is none to send."""
        now = time.perf_counter()
        if self._rate is None:
            return wanted if now < self._end and not self._stopped else None
        due = self._begin + self._sent / self._rate
        if self._sent == self._total or due > now or now > self._end + SETTLE or self._stopped:
            return None
        self._sent += 1
        return due

    def _ready(self, connection: Connection, wanted: float) -> None:
        """A caller is free, since `wanted`: its new connection is part of its wait."""
        due = self._next(wanted)
        if due is None:
            self._idle.append(connection)
        else:
            connection.send(self._request(), due)

    def _pace(self, loop: asyncio.AbstractEventLoop, rate: float) -> None:
        """Wake the loop whenever a request is due: its own timers are a millisecond late, which would count as latency."""
        while not self._over and self._sent < self._total:
            due = self._begin + self._sent / rate
            time.sleep(min(max(due - time.perf_counter(), FINEST if self._idle else LAZY), PAUSE))
            if self._idle:
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._send_due)

    def _spin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The same as often as the loop goes round."""
        if not self._over and self._sent < self._total:
            self._send_due()
            loop.call_soon(self._spin, loop)

    def _send_due(self) -> None:
        while self._idle:
            if self._idle[-1].transport.is_closing():
                self._idle.pop()
            elif (due := self._next(0.0)) is not None:
                self._idle.pop().send(self._request(), due)
            else:
                return

    def _come_back(self, wanted: float, pause: float = 0.0) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(wanted, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, wanted: float, pause: float) -> None:
        """Open a connection for a caller who wants to ask since `wanted`, however often that takes."""
        while not self._over and self._goes_on(time.perf_counter()):
            await asyncio.sleep(pause)
            try:
                connection = await self._client.connect(self._on_answer, self._on_close)
            except OSError as error:
                self.measured.broken[words(error)] += 1
                pause = PAUSE
            else:
                self._open.add(connection)
                return self._ready(connection, wanted)

    # --- what came of it

    def _on_answer(self, connection: Connection, keep: bool) -> None:
        now = time.perf_counter()
        warming = self._warming.get(connection)
        if warming:
            warming.set()
        elif not self._over:
            self._count(connection, now)
        if not keep:
            connection.transport.close()
            self._leave(connection, now)
        elif not warming:
            self._ready(connection, now)

    def _count(self, connection: Connection, now: float) -> None:
        self._last = now
        if connection.status == 200:
            self.measured.predicted += 1
            self.measured.latencies.add(connection.due - self._begin, now - connection.due)
        elif refusal := self.measured.refused.get(connection.status):
            refusal.count += 1
        else:
            self.measured.refused[connection.status] = RefusedRequests(1, connection.answer())

    def _on_close(self, connection: Connection, why: str) -> None:
        if warming := self._warming.get(connection):
            warming.set()
        elif why and not self._over:
            self.measured.broken[why] += 1
        self._leave(connection, time.perf_counter(), PAUSE if why else 0.0)

    def _leave(self, connection: Connection, now: float, pause: float = 0.0) -> None:
        """Forget a connection, once, and have its caller come back."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)
        if self._begin < math.inf and not self._over:
            self._come_back(now, pause)

    def _give_up_on_late(self) -> None:
        now = time.perf_counter()
        for connection in [one for one in self._open if one.waiting and now - one.sent > self._client.timeout]:
            self._wait_in_vain(connection.due, now)
            connection.give_up(f"no answer within {self._client.timeout:g} s")

    # --- the end

    def _finished(self, now: float) -> bool:
        if self._stopped:
            return True
        return not self._goes_on(now) and not any(one.waiting for one in self._open)

    def _goes_on(self, now: float) -> bool:
        """Whether requests are still sent."""
        return now < self._end or (self._backlog(now) > 0 and now < self._end + SETTLE)

    def _backlog(self, now: float) -> int:
        """Requests that are due and not sent."""
        if self._rate is None:
            return 0
        return max(min(math.ceil((now - self._begin) * self._rate), self._total) - self._sent, 0)

    def _close(self, now: float) -> None:
        """Count whoever still waits with the time that they have waited, and end."""
        self._over = True
        self.measured.interrupted = self._stopped
        self.measured.seconds = max(self._last - self._begin, min(now, self._end) - self._begin, 1e-6)
        late = [one.due for one in self._open if one.waiting and not one.why]
        for due in late:
            self._wait_in_vain(due, now)
        count, step = self._backlog(now), max(self._backlog(now) // 1000, 1)
        for first in range(0, count, step):  # in a thousand steps: there may be millions
            self._wait_in_vain(self._begin + (self._sent + first) / (self._rate or 1), now, min(step, count - first))
        self.measured.unanswered = len(late) + count
        for task in self._tasks:
            task.cancel()
        for connection in list(self._open):
            connection.give_up("")

    def _wait_in_vain(self, due: float, now: float, count: int = 1) -> None:
        self.measured.latencies.add(due - self._begin, now - due, count)
