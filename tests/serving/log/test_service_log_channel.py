"""The two sides of the prediction log: records are sent as fast as the writer takes them, and no faster."""

import asyncio
import socket
import threading
import time
from contextlib import closing

import pytest

from serving.config import read_config
from serving.log import prediction_log
from serving.log.blocks import Source
from serving.log.prediction_log import PredictionLog
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import Store
from serving.log.wire import HEAD
from serving.telemetry.metrics import LOG_LOST, LOG_QUEUE, LOG_WRITTEN

RECORD = ("id", 0.0, "caller", None, "served", 1, 1.0, b"[" + b"1" * 10_000 + b"]", b"[]")


@pytest.fixture
def channel():
    """A log, the writer's end of its channel, and the counters."""
    ours, theirs = socket.socketpair()
    numbers = memoryview(bytearray(8 * 16)).cast("d")
    yield PredictionLog(ours, numbers), theirs, numbers
    ours.close()
    theirs.close()


def _taken(theirs, size, done):
    """Receive this many bytes, as the writer does."""
    while size > 0:
        size -= len(theirs.recv(1 << 20))
    done.set()


def test_rest_is_sent_as_soon_as_the_channel_is_writable(channel, monkeypatch):
    """Ten megabytes arrive long before the next timer would fire."""
    log, theirs, numbers = channel

    async def work():
        log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)
        for _ in range(1000):
            log.predicted(RECORD, 10_000)
        await asyncio.sleep(2 * prediction_log.HAND_ON)  # the channel's buffer is full
        monkeypatch.setattr(prediction_log, "HAND_ON", 3600)
        done = threading.Event()
        threading.Thread(target=_taken, args=(theirs, 10_000_000, done), daemon=True).start()
        end = time.monotonic() + 10
        while not done.is_set():
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    asyncio.run(work())
    assert numbers[LOG_QUEUE] == numbers[LOG_LOST] == 0


def test_blocked_writer_costs_bounded_memory_and_no_time(channel, monkeypatch):
    """While nobody reads, the loop is idle, and what exceeds the queue is counted as lost."""
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


def test_dead_writer_is_noticed_while_waiting(channel):
    """When the other end closes, unsent records are counted as lost, and the loop is idle."""
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


def test_frames_are_small(channel):
    """Ten megabytes collected while the writer was blocked are sent in pieces, none much above the limit."""
    log, theirs, _ = channel
    frames = []

    def take():
        stream = theirs.makefile("rb")
        while head := stream.read(HEAD.size):
            _, about, content, records, *_ = HEAD.unpack(head)
            frames.append((len(stream.read(about + content)), records))

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


def test_refused_record_is_lost_alone(tmp_path):
    """If the database refuses one record of a frame, the writer keeps all others in order, and counts it."""
    ours, theirs = socket.socketpair()
    control, handed = socket.socketpair()
    of_the_worker, of_the_writer = (memoryview(bytearray(8 * 16)).cast("d") for _ in range(2))
    socket.send_fds(control, [b"\0"], [theirs.fileno()])
    theirs.close()
    control.close()
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store:
        refuse = "BEFORE INSERT ON prediction_blocks WHEN NEW.rows > 2 BEGIN SELECT RAISE(ABORT, 'too many'); END"
        store.write([(f"CREATE TRIGGER refuse {refuse}", ())])

    async def work():
        log = PredictionLog(ours, of_the_worker)
        for name, rows in (("first", 1), ("refused", 3), ("last", 2)):
            log.predicted((name, *RECORD[1:5], rows, *RECORD[6:]), 10_000)
        for outcome in ("1", None, "0"):
            log.told(("first", 0, outcome, 0.0, "caller")) if outcome else log.told((None, 0, "1", 0.0, "caller"))
        log.close()

    asyncio.run(work())
    config = read_config({"SLIPWAY_DATABASE_URL": url}, open=True)
    prediction_log.Writer(config, [Source("model", "1")], handed, of_the_writer).run()
    with closing(Store(url)) as store:
        kept = [name for block in read_blocks(store, -1, 1) for name in block.request_ids]
        told = outcomes_of(store, ["first"])
    assert kept == ["first", "last"] and told == {("first", 0): ("0", 0.0, 2, None, None)}
    assert (of_the_writer[LOG_WRITTEN], of_the_writer[LOG_LOST], of_the_writer[LOG_QUEUE]) == (4, 2, 0)
