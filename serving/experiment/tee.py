"""What the writer of the prediction log hands on to the process of a challenger that answers in the shadow.

The writer has every row already, as callers sent it, and answers nobody: nothing that happens here can delay an answer. It never waits
for the challenger either. What that does not take in time stays in a short queue, and what the queue has no room for is dropped.
"""

import mmap
import selectors
import socket
from collections import deque
from typing import NamedTuple

from serving.log.blocks import Frame
from serving.log.wire import packed
from serving.telemetry.metrics import DROPPED

ROOM = 8_000_000  # bytes of rows that wait for the challenger
# Numbers in memory that the processes share, each with one writer: rows in the queue; rows handed on to the challenger's process, and
# rows with which that is done; and a count that rises as long as that process goes on.
WAITING, HANDED, DONE, BEAT = range(4)


class Shadowed(NamedTuple):
    """What the processes of a service share about its challenger in the shadow."""

    pulse: "memoryview[int]"
    numbers: "memoryview[float]"  # the counters of SHADOW


def shared(numbers: "memoryview[float]") -> Shadowed:
    """The pulse, all zero, for this process and those forked from it, beside these counters."""
    return Shadowed(memoryview(mmap.mmap(-1, 4 * 8)).cast("Q"), numbers)


class Tee:
    """The writer's side of the channel to the process of the challenger."""

    def __init__(self, common: Shadowed, inputs: selectors.BaseSelector):
        """A channel is registered with `inputs`, with a buffer for what comes back."""
        self.channel: socket.socket | None = None
        self._pulse, self._numbers, self._inputs = common.pulse, common.numbers, inputs
        self._queue: deque[tuple[bytes, int]] = deque()  # frames, each with its number of rows
        self._size = 0  # bytes in the queue
        self._rest = memoryview(b"")
        self._rows = 0  # of the frame of which `_rest` is the rest
        self._full = False  # whether the channel is full and we wait for it
        self._drop(self._pulse[WAITING])  # in the queue of a writer that died
        self._pulse[WAITING] = 0

    def connect(self, channel: socket.socket) -> None:
        """Hand rows on to a new process of the challenger, the last one having ended."""
        self.close()
        channel.setblocking(False)
        self._inputs.register(channel, selectors.EVENT_READ, bytearray())
        self.channel = channel
        self._settle()
        self.send()

    def offer(self, kind: int, frame: Frame, room: bool) -> None:
        """Queue rows for the challenger where there is `room` for its answers, and in the queue; else they are dropped."""
        size = len(frame.about) + len(frame.content)
        if not room or (self._queue and self._size + size > ROOM):
            self._drop(frame.rows)
            return
        self._queue.append((packed(kind, frame), frame.rows))
        self._size += len(self._queue[-1][0])
        self._pulse[WAITING] += frame.rows
        self.send()

    def send(self) -> None:
        """Hand on what the channel takes, without waiting."""
        if self.channel is None:
            return
        try:
            while self._rest or self._next():
                self._rest = self._rest[self.channel.send(self._rest) :]
                if not self._rest:
                    self._handed_on()
            self._watch(False)
        except BlockingIOError:
            self._watch(True)
        except OSError:
            self._watch(False)  # the process has ended, which is read in a moment

    def close(self) -> None:
        """Stop handing on: its process has ended, or shall end."""
        if self.channel is None:
            return
        self._inputs.unregister(self.channel)
        self.channel.close()
        self.channel, self._full, self._rest = None, False, memoryview(b"")
        self._handed_on()  # a part at least
        self._settle()

    def _next(self) -> bool:
        if not self._queue:
            return False
        frame, self._rows = self._queue.popleft()
        self._rest = memoryview(frame)
        self._size -= len(frame)
        return True

    def _handed_on(self) -> None:
        self._pulse[HANDED] += self._rows
        self._pulse[WAITING] -= self._rows
        self._rows = 0

    def _watch(self, full: bool) -> None:
        """Be told when the channel takes more, where it is full."""
        if full != self._full and self.channel is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if full else 0)
            self._inputs.modify(self.channel, events, self._inputs.get_key(self.channel).data)
            self._full = full

    def _settle(self) -> None:
        """Count as dropped what the process had in its hands when it ended."""
        self._drop(self._pulse[HANDED] - self._pulse[DONE])
        self._pulse[HANDED] = self._pulse[DONE]

    def _drop(self, rows: int) -> None:
        self._numbers[DROPPED] += max(0, rows)
