"""The worker's side of the prediction log: records go to the writer as fast as it takes them, and no further."""

import asyncio
import socket
import threading
import time

import pytest

from serving import prediction_log
from serving.metrics import LOG_LOST, LOG_QUEUE
from serving.prediction_log import PredictionLog

RECORD = ("id", 0.0, "caller", None, 1, b"[" + b"1" * 10_000 + b"]", b"[]", 1.0)


@pytest.fixture
def channel():
    """A log, the writer's end of its channel, and the numbers that it counts in."""
    ours, theirs = socket.socketpair()
    numbers = memoryview(bytearray(8 * 16)).cast("d")
    yield PredictionLog(ours, numbers), theirs, numbers
    ours.close()
    theirs.close()


def _taken(theirs, size, done):
    """Take so many bytes as the writer does."""
    while size > 0:
        size -= len(theirs.recv(1 << 20))
    done.set()


def test_what_the_channel_does_not_take_at_once_follows_as_soon_as_it_does(channel, monkeypatch):
    """Ten megabytes are with the writer long before the next turn of handing on would come."""
    log, theirs, numbers = channel

    async def work():
        log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)
        for _ in range(1000):
            log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)  # what the channel holds is on its way
        monkeypatch.setattr(prediction_log, "HAND_ON", 3600)
        done = threading.Event()
        threading.Thread(target=_taken, args=(theirs, 10_000_000, done), daemon=True).start()
        end = time.monotonic() + 10
        while not done.is_set():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(work())
    assert numbers[LOG_QUEUE] == numbers[LOG_LOST] == 0


def test_a_writer_that_takes_nothing_costs_neither_time_nor_memory_without_end(channel, monkeypatch):
    """While nobody reads, the loop rests, and what exceeds the queue is counted as lost."""
    monkeypatch.setattr(prediction_log, "QUEUE", 1_000_000)
    log, _theirs, numbers = channel

    async def work():
        for _ in range(500):
            log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)
        for _ in range(500):
            log.predicted(RECORD, 10_000)
        began = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - began < 0.25

    asyncio.run(work())
    assert numbers[LOG_LOST] > 800
    assert numbers[LOG_QUEUE] < 100


def test_a_writer_that_has_gone_is_noticed_while_it_is_waited_for(channel):
    """When the other end closes, what was on its way is counted as lost, and the loop rests."""
    log, theirs, numbers = channel

    async def work():
        for _ in range(200):
            log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)
        theirs.close()
        await asyncio.sleep(2 * prediction_log.HAND_ON)
        began = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - began < 0.15

    asyncio.run(work())
    assert numbers[LOG_LOST] == 200
