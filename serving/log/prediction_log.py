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
import struct
import time
from collections import deque
from typing import cast

import msgspec

from serving.config import Config
from serving.log.memory import give_back
from serving.log.store import CHUNK, RefusedError, Store, StoreError
from serving.telemetry.metrics import LOG_BEGUN, LOG_ERRORS, LOG_LOST, LOG_QUEUE, LOG_WRITTEN

HAND_ON = 0.05  # seconds that a worker collects records
WRITE = 0.1  # seconds that the writer collects records; a killed process loses at most what came in both intervals
QUEUE = 32_000_000  # bytes that a worker, and the writer, queue at most
FRAME = 1_000_000  # bytes of records in one frame, about: the unit of encoding, decoding and writing
RECORD = 500  # bytes of overhead of a record in memory
LAST_TRY = 5.0  # seconds to write the last records at shutdown
RETENTION = 3600.0  # seconds between two checks for expired records
PATIENCE = (0.25, 0.5, 1, 2, 5)  # seconds between attempts while the database does not answer
READ = 1 << 20

HEAD = struct.Struct("<II")  # header of a frame: its size in bytes, and its number of records
_decode = msgspec.msgpack.Decoder(tuple[list[tuple], list[tuple]]).decode
_encode = msgspec.msgpack.Encoder().encode
_log = logging.getLogger("serving")


class PredictionLog:
    """The worker's side: takes records on the event loop's thread and sends them in batches."""

    def __init__(self, channel: socket.socket, numbers: "memoryview[float]"):
        channel.setblocking(False)
        self._channel, self._numbers = channel, numbers
        self._records: tuple[list[tuple], list[tuple]] = [], []  # predictions and outcomes
        self._collected = 0  # their size in bytes
        self._frames: deque[tuple[bytes, int]] = deque()  # encoded, each with its number of records
        self._encoded = 0  # their size in bytes
        self._rest = memoryview(b"")
        self._on_their_way = 0  # records in `_rest`
        self._due = False  # whether sending is scheduled, by a timer or for when the channel is writable
        self._full = False  # whether the channel is full and we wait for it

    def predicted(self, record: tuple, size: int) -> None:
        """Queue the fields of a Prediction, `size` bytes or so; when the queue is full, count it as lost."""
        self._add(self._records[0], record, size)

    def told(self, record: tuple) -> None:
        """Queue the fields of an Outcome in the same way."""
        self._add(self._records[1], record, len(record[2]))

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
            self._due = True
            asyncio.get_running_loop().call_later(HAND_ON, self._hand_on)

    def _close_frame(self) -> None:
        """Encode the collected records as a frame: it takes less memory, and no frame becomes large."""
        number = sum(map(len, self._records))
        if number:
            content = _encode(self._records)
            frame = HEAD.pack(len(content), number) + content
            self._frames.append((frame, number))
            self._encoded += len(frame)
        self._records, self._collected = ([], []), 0

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


def write(config: Config, model: str, version: str, control: socket.socket, numbers: "memoryview[float]") -> None:
    """Write what arrives on the channels that come through `control`, until it and all of them are closed.

    Runs as a separate process, and counts in `numbers`.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it exits when all workers have exited
    with contextlib.suppress(OSError):
        os.nice(1)  # answers have priority, but only just: a starved writer would lose records
    Writer(config, model, version, control, numbers).run()


class Writer:
    """The writing process's side: takes frames from every channel and writes them in order."""

    def __init__(self, config: Config, model: str, version: str, control: socket.socket, numbers: "memoryview[float]"):
        self._url, self._days, self._about = config.database, config.retention_days, (model, version)
        self._numbers = numbers
        self._store: Store | None = None
        # Kept encoded: decoded records would take more memory, and fragments of it would stay with this process.
        self._frames: deque[bytes] = deque()
        self._size = 0  # their size in bytes
        self._waiting = 0  # records in them
        self._failures = 0
        self._due = time.monotonic() + WRITE
        self._prune = time.monotonic() + 10  # not while services start
        self._control: socket.socket | None = control
        self._inputs = selectors.DefaultSelector()
        self._inputs.register(control, selectors.EVENT_READ, None)

    def run(self) -> None:
        while self._inputs.get_map():
            timeout = max(0.0, self._due - time.monotonic()) if self._waiting else 10.0
            if self._control is not None and self._size > QUEUE:
                # Read only the end of `control`, which announces the shutdown: after it, little more can arrive.
                if select.select([self._control], [], [], min(timeout, 0.1))[0]:
                    self._take_channel(self._control)
            else:
                for key, _ in self._inputs.select(timeout):
                    self._read(key)
            if self._waiting and time.monotonic() >= self._due:
                self._flush()
            if self._days and time.monotonic() >= self._prune:
                self._delete_old()
        end = time.monotonic() + LAST_TRY
        while self._waiting and time.monotonic() < end:
            self._flush(end)
            if self._waiting:
                time.sleep(0.2)
        if lost := self._waiting:
            self._numbers[LOG_LOST] += lost
            _log.error("%d records of the prediction log were lost: the database did not take them", lost)

    def _read(self, key: selectors.SelectorKey) -> None:
        if key.data is None:
            self._take_channel(key.fileobj)
            return
        channel, buffer = cast(socket.socket, key.fileobj), key.data
        try:
            arrived = channel.recv(READ)
        except OSError:
            arrived = b""
        if not arrived:
            self._inputs.unregister(channel)
            channel.close()
            return
        buffer += arrived
        start = 0
        while len(buffer) >= (begin := start + HEAD.size):
            size, records = HEAD.unpack_from(buffer, start)
            if len(buffer) < begin + size:
                break
            self._take(bytes(memoryview(buffer)[begin : begin + size]), records)
            start = begin + size
        del buffer[:start]

    def _take_channel(self, control) -> None:
        try:
            _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            descriptors = []
        for descriptor in descriptors:
            self._inputs.register(socket.socket(fileno=descriptor), selectors.EVENT_READ, bytearray())
        if not descriptors:
            self._inputs.unregister(control)
            self._control = None

    def _take(self, frame: bytes, records: int) -> None:
        if not self._waiting:
            self._due = max(self._due, time.monotonic() + WRITE) if self._failures else time.monotonic() + WRITE
        self._frames.append(frame)
        self._size += len(frame)
        self._waiting += records
        self._numbers[LOG_QUEUE] += records

    def _flush(self, end: float = math.inf) -> None:
        """Write the queued frames, but start none after `end`."""
        written = self._size
        try:
            while self._frames and time.monotonic() < end:
                self._insert()
        except StoreError as error:
            self._numbers[LOG_ERRORS] += 1
            if not self._failures:
                _log.error("the prediction log cannot be written, trying again: %s", error)
            self._due = time.monotonic() + PATIENCE[min(self._failures, len(PATIENCE) - 1)]
            self._failures += 1
            if self._store is not None:
                self._store.close()
                self._store = None
            return
        if self._failures:
            _log.warning("the prediction log is written again")
        self._failures = 0
        if written > FRAME:
            give_back()

    def _insert(self) -> None:
        """Write the first frame. If the database refuses it, its records are written one by one; a refused record is lost."""
        if self._store is not None and self._store.gone():
            _log.error("the file of the prediction log was deleted, moved or replaced; a new one is begun in its place")
            self._numbers[LOG_BEGUN] += 1
            self._store.close()
            self._store = None
        if self._store is None:
            self._store = Store(self._url, *self._about)
        frame = self._frames[0]
        predictions, outcomes = _decode(frame)
        number = len(predictions) + len(outcomes)
        try:
            self._store.insert(predictions, outcomes)
            self._numbers[LOG_WRITTEN] += number
        except RefusedError as error:
            if number > 1:
                alone = [_encode(([one], ())) for one in predictions] + [_encode(((), [one])) for one in outcomes]
                self._frames.popleft()
                self._frames.extendleft(reversed(alone))
                self._size += sum(map(len, alone)) - len(frame)
                return
            self._numbers[LOG_LOST] += 1
            _log.error("a record of the prediction log was refused: %s", error)
        self._frames.popleft()
        self._size -= len(frame)
        self._waiting -= number
        self._numbers[LOG_QUEUE] -= number

    def _delete_old(self) -> None:
        self._prune = time.monotonic() + RETENTION
        try:
            self._store = self._store or Store(self._url, *self._about)
            deleted = self._store.delete_older(time.time() - self._days * 86_400, steps=1)
            if deleted:
                _log.info("%d predictions older than %g days were deleted", deleted, self._days)
            if deleted >= CHUNK:
                self._prune = time.monotonic()  # the next step comes right after the records that arrived meanwhile
        except StoreError as error:
            _log.error("old predictions cannot be deleted: %s", error)
