"""The prediction log: workers send their records to one separate process, which writes them to the database.

Writing takes a good part of the time of predicting and must not delay an answer, hence the separate process. Memory is
bounded on both sides: while the database does not answer, the writer stops reading, the worker's queue fills, and what
no longer fits is counted as lost.
"""

import asyncio
import contextlib
import logging
import math
import os
import select
import selectors
import signal
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from serving.config import Config
from serving.experiment.tee import Shadowed, Tee
from serving.log import stops
from serving.log.blocks import Frame, Source, frame_of, records_of
from serving.log.clock import clock
from serving.log.memory import give_back
from serving.log.stops import Stop
from serving.log.store import DAY, RefusedError, Store, StoreError
from serving.log.wire import CONTROL, OUTCOMES, PREDICTIONS, READ, REFUSALS, STOP, arrived, packed
from serving.telemetry.metrics import LOG_BEGUN, LOG_ERRORS, LOG_LOST, LOG_QUEUE, LOG_WRITTEN, STOPPED

HAND_ON = 0.05  # seconds that a worker collects records
WRITE = 0.1  # seconds that the writer collects records; a killed process loses at most what came in both intervals
# When the writer is killed, a worker also loses what it answers until it is replaced. What is lost is counted.
QUEUE = 32_000_000  # bytes that a worker, and the writer, queue at most
FRAME = (
    1_000_000  # bytes of records in one frame, and of frames in one block, about: the unit of encoding and of writing
)
OF_WORKER, OF_SHADOW = b"\0", b"\1"  # whose channel comes through `control`
RECORD = 500  # bytes of overhead of a record in memory
LAST_TRY = 5.0  # seconds to write the last records at shutdown
RETENTION = 3600.0  # seconds between two checks for expired records, and for records in the old table
STOPS = 30.0  # seconds between two looks for a stop of the experiment in another replica
MOVE = 0.1  # seconds between two steps of moving the old table's records
PATIENCE = (0.25, 0.5, 1, 2, 5)  # seconds between attempts while the database does not answer

_decode_outcomes = msgspec.msgpack.Decoder(list[tuple]).decode
_decode_refusals = msgspec.msgpack.Decoder(list[tuple[int, int, int, int]]).decode
_decode_stop = msgspec.msgpack.Decoder(Stop).decode
_encode = msgspec.msgpack.Encoder().encode
_log = logging.getLogger("serving")


class PredictionLog:
    """The worker's side: takes records on the event loop's thread and sends them in batches.

    A `place` is that of a source in the writer's list: 0 is the model in production, outside of any experiment.
    """

    def __init__(
        self,
        channel: socket.socket,
        numbers: "memoryview[float]",
        now: Callable[[], float] = time.time,
        sources: int = 1,
    ):
        channel.setblocking(False)
        self.now = now
        self._channel, self._numbers = channel, numbers
        self._predictions: list[list[tuple]] = [[] for _ in range(sources)]
        self._outcomes: list[tuple] = []
        self._refusals: Counter[tuple[int, int, int]] = Counter()  # by place, day and status
        self._collected = 0  # size of the records in bytes
        self._frames: deque[tuple[bytes, int]] = deque()  # encoded, each with its number of records
        self._encoded = 0  # their size in bytes
        self._rest = memoryview(b"")
        self._on_their_way = 0  # records in `_rest`
        self._due = False  # whether sending is scheduled, by a timer or for when the channel is writable
        self._full = False  # whether the channel is full and we wait for it

    def predicted(self, record: tuple, size: int, place: int = 0) -> None:
        """Queue the fields of a Prediction, `size` bytes or so; when the queue is full, count it as lost."""
        self._add(self._predictions[place], record, size)

    def told(self, record: tuple) -> None:
        """Queue the fields of an Outcome in the same way."""
        self._add(self._outcomes, record, len(record[2]))

    def refused(self, status: int, place: int = 0) -> None:
        """Count a request that was refused with this status."""
        self._refusals[place, int(self.now() // DAY), status] += 1
        self._schedule()

    def stopped(self, reason: str) -> None:
        """Send that the experiment has stopped itself, and why."""
        self._queue(STOP, Frame(0, 0, 0.0, 0.0, _encode((self.now(), reason)), b""))
        self._schedule()

    def _add(self, records: list[tuple], record: tuple, size: int) -> None:
        size += RECORD
        if self._collected + self._encoded + size + len(self._rest) > QUEUE:
            self._numbers[LOG_LOST] += 1
            return
        records.append(record)
        self._collected += size
        self._numbers[LOG_QUEUE] += 1
        if self._collected > FRAME:
            self._close_frame()
        if not self._due:
            self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(HAND_ON, self._hand_on)

    def _close_frame(self) -> None:
        """Encode the collected records as frames: they take less memory, and no frame becomes large."""
        for place, records in enumerate(self._predictions):
            if records:
                self._queue(PREDICTIONS + place, frame_of(records))
                self._predictions[place] = []
        if self._outcomes:
            self._queue(OUTCOMES, Frame(len(self._outcomes), 0, 0.0, 0.0, _encode(self._outcomes), b""))
        self._outcomes, self._collected = [], 0

    def _queue(self, kind: int, frame: Frame) -> None:
        encoded = packed(kind, frame)
        self._frames.append((encoded, frame.requests))
        self._encoded += len(encoded)

    def _hand_on(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._rest or self._next():
                self._rest = self._rest[self._channel.send(self._rest) :]
        except BlockingIOError:
            if not self._full:
                self._full = True
                loop.add_writer(self._channel, self._hand_on)
            return
        except OSError:
            self._give_up()
        if self._full:
            loop.remove_writer(self._channel)
            give_back()  # the queue may have been long
        self._due = self._full = False

    def _next(self) -> bool:
        if not self._frames:
            self._close_frame()
            if self._refusals:
                counts = [(*key, number) for key, number in self._refusals.items()]
                self._queue(REFUSALS, Frame(0, 0, 0.0, 0.0, _encode(counts), b""))
                self._refusals.clear()
        if not self._frames:
            return False
        frame, self._on_their_way = self._frames.popleft()
        self._rest = memoryview(frame)
        self._encoded -= len(frame)
        self._numbers[LOG_QUEUE] -= self._on_their_way
        return True

    def _give_up(self) -> None:
        """The writer died and its channel closed: this worker will be replaced, and its queued records are lost."""
        lost = self._on_their_way if self._rest else 0
        while self._next():
            lost += self._on_their_way
        self._numbers[LOG_LOST] += lost
        self._rest = memoryview(b"")

    def close(self) -> None:
        """Send the remaining records, for LAST_TRY seconds at most."""
        self._channel.settimeout(LAST_TRY)
        try:
            while self._rest or self._next():
                self._channel.sendall(self._rest)
                self._rest = memoryview(b"")
        except OSError:
            self._give_up()
        self._channel.close()


def write(
    config: Config,
    sources: Sequence[Source],
    control: socket.socket,
    numbers: "memoryview[float]",
    shadow: Shadowed | None = None,
) -> None:
    """Write what arrives on the channels that come through `control`, until it and all of them are closed.

    Runs as a separate process, and counts in `numbers`. Where a challenger answers in the shadow, its process is given A's rows.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it exits when all workers have exited
    with contextlib.suppress(OSError):
        os.nice(1)  # answers have priority, but only just: a starved writer would lose records
    Writer(config, sources, control, numbers, shadow).run()


class Writer:
    """The writing process's side: takes frames from every channel, and writes those of predictions as blocks."""

    def __init__(
        self,
        config: Config,
        sources: Sequence[Source],
        control: socket.socket,
        numbers: "memoryview[float]",
        shadow: Shadowed | None = None,
    ):
        self._url, self._days, self._sources = config.database, config.retention_days, sources
        self._now = clock(config.log_clock)
        self._numbers = numbers
        self._store: Store | None = None
        # Kept encoded: decoded records would take more memory, and fragments of it would stay with this process.
        self._blocks: deque[tuple[Source, list[Frame]]] = deque()  # each list becomes one block
        self._outcomes: deque[Frame] = deque()
        self._refusals: Counter[tuple[str, int, int]] = Counter()  # by version, day and status
        self._experiment = sources[-1].experiment
        self._stop: Stop | None = None  # of the experiment, while it waits to be written
        self._known: Stop | None = None  # the same, for as long as this process lives
        self._open: dict[Source, tuple[list[Frame], int]] = {}  # of each source the block that may grow, and its bytes
        self._size = 0  # bytes in all of these frames
        self._waiting = 0  # records in them
        self._failures = 0
        self._due = time.monotonic() + WRITE
        self._prune = time.monotonic() + 10  # not while services start
        self._move = self._prune
        self._look = time.monotonic() if self._experiment else math.inf  # for a stop of the experiment
        self._space = memoryview(bytearray(READ))
        self._control: socket.socket | None = control
        self._inputs = selectors.DefaultSelector()
        self._inputs.register(control, selectors.EVENT_READ, None)
        self._tee = Tee(shadow, self._inputs) if shadow else None

    def run(self) -> None:
        while self._inputs.get_map():
            timeout = max(0.0, self._due - time.monotonic()) if self._has_work() else 10.0
            timeout = min(timeout, max(0.0, min(self._move, self._look) - time.monotonic()))
            if self._control is not None and self._size > QUEUE:
                # Read only the end of `control`, which announces the shutdown: after it, little more can arrive.
                if select.select([self._control], [], [], min(timeout, 0.1))[0]:
                    self._take_channel(self._control)
            else:
                for key, ready in self._inputs.select(timeout):
                    if ready & selectors.EVENT_WRITE and self._tee is not None:
                        self._tee.send()
                    if ready & selectors.EVENT_READ:
                        self._read(key)
            if self._has_work() and time.monotonic() >= self._due:
                self._flush()
            if time.monotonic() >= self._look:
                self._look_for_stop()
            if self._days and time.monotonic() >= self._prune:
                self._delete_old()
            if time.monotonic() >= self._move:
                self._move_old()
        end = time.monotonic() + LAST_TRY
        while self._has_work() and time.monotonic() < end:
            self._flush(end)
            if self._has_work():
                time.sleep(0.2)
        if lost := self._waiting:
            self._numbers[LOG_LOST] += lost
            _log.error("%d records of the prediction log were lost: the database did not take them", lost)

    def _has_work(self) -> bool:
        return bool(self._waiting or self._refusals or self._stop)

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data is None:
            self._take_channel(key.fileobj)
            return
        channel, buffer = cast(socket.socket, key.fileobj), key.data
        if channel.fileno() < 0:
            return  # a new channel of the challenger has just replaced it
        try:
            size = channel.recv_into(self._space)  # to make room for each piece anew takes longer than to read it
        except OSError:
            size = 0
        if not size:
            self._leave(channel)
            return
        buffer += self._space[:size]
        for kind, frame in arrived(buffer):
            self._take(kind, frame)

    def _leave(self, channel: socket.socket) -> None:
        """The process at the other end has ended."""
        if self._tee is not None and channel is self._tee.channel:
            self._tee.close()
            return
        self._inputs.unregister(channel)
        channel.close()

    def _take_channel(self, control) -> None:
        try:
            whose, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            whose, descriptors = b"", []
        for descriptor in descriptors:
            channel = socket.socket(fileno=descriptor)
            if self._tee is not None and whose == OF_SHADOW:
                self._tee.connect(channel)
            else:
                self._inputs.register(channel, selectors.EVENT_READ, bytearray())
        if not descriptors:
            self._inputs.unregister(control)
            self._control = None
            if self._tee is not None:
                self._tee.close()  # this process ends when all its channels have

    def _take(self, kind: int, frame: Frame) -> None:
        if not self._has_work():
            self._due = max(self._due, time.monotonic() + WRITE) if self._failures else time.monotonic() + WRITE
        if kind == REFUSALS:
            for place, day, status, number in _decode_refusals(frame.about):
                self._refusals[self._sources[place].model_version, day, status] += number
            return
        if kind == STOP:
            self._stop = self._known = self._stop or _decode_stop(frame.about)
            return
        if kind == OUTCOMES:
            self._outcomes.append(frame)
        else:
            self._add(self._sources[kind - PREDICTIONS], frame)
            if self._tee is not None and kind == PREDICTIONS + CONTROL:
                self._tee.offer(kind, frame, not self._failures and self._size < QUEUE // 4)
        self._size += _size(frame)
        self._waiting += frame.requests
        self._numbers[LOG_QUEUE] += frame.requests

    def _add(self, source: Source, frame: Frame) -> None:
        """Add a frame to the block of its source that may still grow, or begin one."""
        frames, size = self._open.get(source, ([], 0))
        if not frames or size + _size(frame) > FRAME:
            frames, size = [], 0
            self._blocks.append((source, frames))
        frames.append(frame)
        self._open[source] = frames, size + _size(frame)

    def _flush(self, end: float = math.inf) -> None:
        """Write what is queued, but begin with nothing after `end`."""
        written = self._size
        try:
            while self._has_work() and time.monotonic() < end:
                self._write_next(self._opened())
        except StoreError as error:
            self._numbers[LOG_ERRORS] += 1
            if not self._failures:
                _log.error("the prediction log cannot be written, trying again: %s", error)
            self._due = time.monotonic() + PATIENCE[min(self._failures, len(PATIENCE) - 1)]
            self._failures += 1
            self._let_go()
            return
        if self._failures:
            _log.warning("the prediction log is written again")
        self._failures = 0
        if written > FRAME:
            give_back()

    def _opened(self) -> Store:
        if self._store is not None and self._store.gone():
            _log.error("the file of the prediction log was deleted, moved or replaced; a new one is begun in its place")
            self._numbers[LOG_BEGUN] += 1
            self._let_go()
        if self._store is None:
            self._store = Store(self._url, *self._sources[0][:2])
        return self._store

    def _let_go(self) -> None:
        """Close the connection, so that the next use makes a new one: one that the database has ended never works again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _write_next(self, store: Store) -> None:
        """Write the stop of the experiment, else the first block, else the first frame of outcomes, else the refusals.

        If the database refuses records, they are written one by one; a refused record is lost.
        """
        if self._stop:
            stops.keep(store, self._sources[0].model, self._experiment, self._stop)
            self._stop = None
            return
        source, frames = self._blocks[0] if self._blocks else (None, [self._outcomes[0]] if self._outcomes else [])
        number = sum(frame.requests for frame in frames)
        try:
            if source:
                store.insert_block(frames, source)
            elif self._outcomes:
                store.insert([], _decode_outcomes(frames[0].about))
            else:
                store.add_refusals(self._refusals)
                self._refusals.clear()
                return
            self._numbers[LOG_WRITTEN] += number
        except RefusedError as error:
            if number > 1:
                self._split(frames)
                return
            self._numbers[LOG_LOST] += number
            _log.error("a record of the prediction log was refused: %s", error)
            if not frames:
                self._refusals.clear()
                return
        if source:
            self._blocks.popleft()
            if self._open.get(source, (None, 0))[0] is frames:
                del self._open[source]
        else:
            self._outcomes.popleft()
        self._size -= sum(map(_size, frames))
        self._waiting -= number
        self._numbers[LOG_QUEUE] -= number

    def _split(self, frames: list[Frame]) -> None:
        """Let each record of the first block, or of the first frame of outcomes, be written alone."""
        if self._blocks:
            source, _ = self._blocks.popleft()
            self._open.pop(source, None)  # nothing is added to any of them
            alone = [frame_of([one]) for one in records_of(frames)]
            self._blocks.extendleft((source, [one]) for one in reversed(alone))
        else:
            alone = [Frame(1, 0, 0.0, 0.0, _encode([one]), b"") for one in _decode_outcomes(frames[0].about)]
            self._outcomes.popleft()
            self._outcomes.extendleft(reversed(alone))
        self._size += sum(map(_size, alone)) - sum(map(_size, frames))

    def _delete_old(self) -> None:
        self._prune = time.monotonic() + RETENTION
        try:
            deleted, more = self._opened().expire(self._now() - self._days * DAY)
            if deleted:
                _log.info("%d predictions older than %g days were deleted", deleted, self._days)
            if more:
                self._prune = time.monotonic()  # the next step comes right after the records that arrived meanwhile
        except StoreError as error:
            _log.error("old predictions cannot be deleted: %s", error)
            self._let_go()

    def _look_for_stop(self) -> None:
        """Stop the experiment here where another replica has stopped it, or this service before it was started again."""
        self._look = time.monotonic() + STOPS
        try:
            stop = stops.read(self._opened(), self._sources[0].model, self._experiment)
        except StoreError as error:
            _log.error("whether the experiment has stopped itself cannot be read: %s", error)
            self._let_go()
            return
        if stop is None:
            self._stop = self._known  # a log that was begun anew lacks it
            return
        self._known = stop
        if not self._numbers[STOPPED]:
            self._numbers[STOPPED] = 1
            _log.warning(
                "the experiment has stopped itself before, production's model answers everybody: %s", stop.reason
            )

    def _move_old(self) -> None:
        """Move some records of the table that older services write."""
        self._move = time.monotonic() + RETENTION
        try:
            if self._opened().move():
                self._move = time.monotonic() + MOVE
        except StoreError as error:
            _log.error("the records of the table predictions cannot be moved: %s", error)
            self._let_go()


def _size(frame: Frame) -> int:
    return len(frame.about) + len(frame.content)
