"""The two sides of the prediction log: records go to the writer as fast as it takes them, and no further."""

import asyncio
import socket
import sqlite3
import threading
import time

import pytest

from serving.config import read_config
from serving.log import prediction_log
from serving.log.prediction_log import PredictionLog
from serving.telemetry.metrics import LOG_LOST, LOG_QUEUE, LOG_WRITTEN

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


def test_no_frame_is_large(channel):
    """Ten megabytes that were collected while the writer took nothing are handed on in pieces, none much above the limit."""
    log, theirs, _ = channel
    frames = []

    def take():
        stream = theirs.makefile("rb")
        while head := stream.read(prediction_log.HEAD.size):
            size, records = prediction_log.HEAD.unpack(head)
            frames.append((len(stream.read(size)), records))

    taking = threading.Thread(target=take, daemon=True)

    async def work():
        for _ in range(1000):
            log.predicted(RECORD, 10_000)
        taking.start()
        log.close()
        await asyncio.sleep(0)

    asyncio.run(work())
    taking.join(10)
    assert sum(records for _, records in frames) == 1000
    assert len(frames) > 5
    assert max(size for size, _ in frames) < prediction_log.FRAME + 20_000


def test_a_record_that_the_database_refuses_is_lost_alone(tmp_path):
    """Of a frame with one record that the table does not take, the writer keeps all others, in their order, and counts it."""
    ours, theirs = socket.socketpair()
    control, handed = socket.socketpair()
    of_the_worker, of_the_writer = (memoryview(bytearray(8 * 16)).cast("d") for _ in range(2))
    socket.send_fds(control, [b"\0"], [theirs.fileno()])
    theirs.close()
    control.close()

    async def work():
        log = PredictionLog(ours, of_the_worker)
        for name in ("first", None, "last"):
            log.predicted((name, *RECORD[1:]), 10_000)
        for outcome in ("1", "0"):
            log.told(("first", 0, outcome, 0.0, "caller"))
        log.close()

    asyncio.run(work())
    config = read_config({"SLIPWAY_DATABASE_URL": f"sqlite:///{tmp_path}/log.db"}, open=True)
    prediction_log.Writer(config, "model", "1", handed, of_the_writer).run()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        kept = connection.execute("SELECT request_id FROM predictions ORDER BY rowid").fetchall()
        told = connection.execute("SELECT request_id, outcome FROM outcomes").fetchall()
    assert kept == [("first",), ("last",)] and told == [("first", "0")]
    assert (of_the_writer[LOG_WRITTEN], of_the_writer[LOG_LOST], of_the_writer[LOG_QUEUE]) == (4, 1, 0)
