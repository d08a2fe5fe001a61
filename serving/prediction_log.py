"""The prediction log: a worker hands its records on, and one process beside the workers writes them to the database.

A process of its own, because writing takes a good part of the time of predicting and must not hold up an answer. Its
memory is bounded on both sides: while the database does not answer, the writer stops reading, the worker's queue fills,
and what no longer fits is counted as lost.
"""

import asyncio
import contextlib
import logging
import os
import select
import selectors
import signal
import socket
import struct
import time
from typing import cast

import msgspec

from serving.config import Config
from serving.metrics import LOG_ERRORS, LOG_LOST, LOG_QUEUE, LOG_WRITTEN
from serving.store import CHUNK, RefusedError, Store, StoreError

HAND_ON = 0.05  # seconds for which a worker collects records
WRITE = 0.1  # seconds for which the writer collects them; both together are what a killed process can lose
QUEUE = 32_000_000  # bytes that a worker, and the writer, keep at most
RECORD = 500  # bytes that a record takes in memory beyond what it holds
LAST_TRY = 5.0  # seconds in which the last records must reach the database
RETENTION = 3600.0  # seconds between two looks for what is too old
PATIENCE = (0.25, 0.5, 1, 2, 5)  # seconds between attempts while the database does not answer
READ = 1 << 20

_HEAD = struct.Struct("<I")
_decode = msgspec.msgpack.Decoder(tuple[list[tuple], list[tuple]]).decode
_encode = msgspec.msgpack.Encoder().encode
_log = logging.getLogger("serving")


class PredictionLog:
    """The worker's side: takes records on the loop's thread and hands them on in batches."""

    def __init__(self, channel: socket.socket, numbers: "memoryview[float]"):
        channel.setblocking(False)
        self._channel, self._numbers = channel, numbers
        self._records: tuple[list[tuple], list[tuple]] = [], []  # predictions and outcomes
        self._size = 0
        self._rest = memoryview(b"")
        self._on_their_way = 0  # records in it
        self._due = False  # whether records will be handed on, by a timer or when the channel takes more
        self._full = False  # whether the channel is waited for

    def predicted(self, record: tuple, size: int) -> None:
        """Keep the fields of a Prediction, of about so many bytes; where there is no room it is counted as lost."""
        self._add(self._records[0], record, size)

    def told(self, record: tuple) -> None:
        """Keep the fields of an Outcome, likewise."""
        self._add(self._records[1], record, len(record[2]))

    def _add(self, records: list[tuple], record: tuple, size: int) -> None:
        size += RECORD
        if self._size + size + len(self._rest) > QUEUE:
            self._numbers[LOG_LOST] += 1
            return
        self._size += size
        records.append(record)
        self._numbers[LOG_QUEUE] += 1
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(HAND_ON, self._hand_on)

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
        self._due = self._full = False

    def _next(self) -> bool:
        if not any(self._records):
            return False
        frame = _encode(self._records)
        self._rest = memoryview(_HEAD.pack(len(frame)) + frame)
        self._on_their_way = self._forget()
        return True

    def _forget(self) -> int:
        """Hold no records any more; how many they were."""
        number = sum(map(len, self._records))
        self._numbers[LOG_QUEUE] -= number
        self._records, self._size = ([], []), 0
        return number

    def _give_up(self) -> None:
        """The writer has gone, and with it the channel: the worker is replaced, and what it holds is lost."""
        self._numbers[LOG_LOST] += self._forget() + (self._on_their_way if self._rest else 0)
        self._rest = memoryview(b"")

    def close(self) -> None:
        """Hand on what is left, for LAST_TRY seconds at most."""
        self._channel.settimeout(LAST_TRY)
        try:
            while self._rest or self._next():
                self._channel.sendall(self._rest)
                self._rest = memoryview(b"")
        except OSError:
            self._give_up()
        self._channel.close()


def write(config: Config, model: str, version: str, control: socket.socket, numbers: "memoryview[float]") -> None:
    """Write what arrives on the channels that `control` hands over, until it and all of them are closed.

    Runs as a process of its own, and counts in `numbers`.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when those who write to it have ended
    with contextlib.suppress(OSError):
        os.nice(1)  # answers come first, but barely: a writer that starves loses what it should keep
    _Writer(config, model, version, control, numbers).run()


class _Writer:
    def __init__(self, config: Config, model: str, version: str, control: socket.socket, numbers: "memoryview[float]"):
        self._url, self._days, self._about = config.database, config.retention_days, (model, version)
        self._numbers = numbers
        self._store: Store | None = None
        self._predictions: list[tuple] = []
        self._outcomes: list[tuple] = []
        self._size = 0
        self._failures = 0
        self._due = time.monotonic() + WRITE
        self._prune = time.monotonic() + 10  # not while services start
        self._control: socket.socket | None = control
        self._inputs = selectors.DefaultSelector()
        self._inputs.register(control, selectors.EVENT_READ, None)

    def run(self) -> None:
        while self._inputs.get_map():
            timeout = max(0.0, self._due - time.monotonic()) if self._waiting() else 10.0
            if self._control is not None and self._size > QUEUE:
                # Nothing more is read, but for the word that the end has come: then what is still on its way is little.
                if select.select([self._control], [], [], min(timeout, 0.1))[0]:
                    self._take_channel(self._control)
            else:
                for key, _ in self._inputs.select(timeout):
                    self._read(key)
            if self._waiting() and time.monotonic() >= self._due:
                self._flush()
            if self._days and time.monotonic() >= self._prune:
                self._delete_old()
        end = time.monotonic() + LAST_TRY
        while self._waiting() and time.monotonic() < end:
            self._flush()
            if self._waiting():
                time.sleep(0.2)
        if lost := self._waiting():
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
        while len(buffer) >= start + 4 and len(buffer) >= (end := start + 4 + _HEAD.unpack_from(buffer, start)[0]):
            self._take(bytes(memoryview(buffer)[start + 4 : end]))
            start = end
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

    def _take(self, frame: bytes) -> None:
        predictions, outcomes = _decode(frame)
        if not self._waiting():
            self._due = max(self._due, time.monotonic() + WRITE) if self._failures else time.monotonic() + WRITE
        self._predictions += predictions
        self._outcomes += outcomes
        self._size += len(frame)
        self._numbers[LOG_QUEUE] += len(predictions) + len(outcomes)

    def _waiting(self) -> int:
        """How many records are still to be written."""
        return len(self._predictions) + len(self._outcomes)

    def _flush(self) -> None:
        try:
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
        self._numbers[LOG_QUEUE] -= self._waiting()
        self._predictions, self._outcomes, self._size = [], [], 0

    def _insert(self) -> None:
        """Write what waits; when the database answers but refuses it, write what it takes, one by one."""
        if self._store is None:
            self._store = Store(self._url, *self._about)
        try:
            self._store.insert(self._predictions, self._outcomes)
            self._numbers[LOG_WRITTEN] += self._waiting()
        except RefusedError:
            for records, alone in (
                (self._predictions, lambda one: ((one,), ())),
                (self._outcomes, lambda one: ((), (one,))),
            ):
                while records:  # settled one by one, so that none is written twice when the connection breaks meanwhile
                    try:
                        self._store.insert(*alone(records[-1]))
                        self._numbers[LOG_WRITTEN] += 1
                    except RefusedError as error:
                        self._numbers[LOG_LOST] += 1
                        _log.error("a record of the prediction log was refused: %s", error)
                    records.pop()
                    self._numbers[LOG_QUEUE] -= 1

    def _delete_old(self) -> None:
        self._prune = time.monotonic() + RETENTION
        try:
            self._store = self._store or Store(self._url, *self._about)
            deleted = self._store.delete_older(time.time() - self._days * 86_400, steps=1)
            if deleted:
                _log.info("%d predictions older than %g days were deleted", deleted, self._days)
            if deleted >= CHUNK:
                self._prune = time.monotonic()  # the next step after what has come meanwhile
        except StoreError as error:
            _log.error("old predictions cannot be deleted: %s", error)
