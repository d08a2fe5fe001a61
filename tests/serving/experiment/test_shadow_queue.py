"""What the writer of the log hands on to a challenger in the shadow: never more than fits, and every row is accounted for."""

import selectors
import socket

import pytest

from serving.experiment import tee
from serving.experiment.shadow import throttled
from serving.experiment.tee import DONE, HANDED, WAITING, Tee, shared
from serving.log.blocks import frame_of
from serving.log.wire import CONTROL, PREDICTIONS, arrived
from serving.telemetry.metrics import DROPPED, SHADOW

KIND = PREDICTIONS + CONTROL


def _frame(rows=10, size=100_000):
    return frame_of([("id", 0.0, "caller", None, "served", rows, 1.0, b"1" * size, b"[]")])


@pytest.fixture
def common():
    """What the processes share."""
    return shared(memoryview(bytearray(8 * len(SHADOW))).cast("d"))


@pytest.fixture
def queue(common):
    """The writer's side, without a process of the challenger."""
    with selectors.DefaultSelector() as inputs:
        yield Tee(common, inputs)


@pytest.fixture
def channel():
    """The writer's end of a channel, and the challenger's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def _received(theirs):
    theirs.settimeout(0.2)
    buffer = bytearray()
    try:
        while piece := theirs.recv(1 << 20):
            buffer += piece
    except TimeoutError:
        pass
    return list(arrived(buffer))


def test_queue_is_bounded_while_nobody_takes_from_it(queue, common):
    """Without a process of the challenger, rows wait up to the limit, and the others are dropped."""
    for _ in range(200):
        queue.offer(KIND, _frame(), room=True)
    kept = common.pulse[WAITING]
    assert kept * 100_000 / 10 <= tee.ROOM
    assert common.numbers[DROPPED] == 2000 - kept


def test_single_large_batch_is_taken(queue, common):
    """A batch above the limit is handed on when nothing else waits: else it could never be compared."""
    queue.offer(KIND, _frame(10_000, 2 * tee.ROOM), room=True)
    queue.offer(KIND, _frame(), room=True)
    assert common.pulse[WAITING] == 10_000
    assert common.numbers[DROPPED] == 10


def test_rows_are_dropped_first_when_the_log_is_behind(queue, common):
    """While the database does not answer, the challenger is not asked: its rows would take the place of callers' in the queue."""
    queue.offer(KIND, _frame(), room=False)
    assert (common.pulse[WAITING], common.numbers[DROPPED]) == (0, 10)


def test_rows_that_waited_are_handed_on_to_a_new_process(queue, common, channel):
    """They arrive as they were, once there is a process; the one before took with it what it had not finished."""
    ours, theirs = channel
    frame = _frame(size=1000)
    queue.offer(KIND, frame, room=True)
    queue.connect(ours)
    assert _received(theirs) == [(KIND, frame)]
    common.pulse[DONE] += 4  # of the 10 rows
    queue.close()
    queue.offer(KIND, frame, room=True)
    assert (common.pulse[WAITING], common.numbers[DROPPED]) == (10, 6)
    assert common.pulse[HANDED] == common.pulse[DONE]  # no work, and so no hang


def test_full_channel_is_not_waited_for(queue, common, channel):
    """What a process does not take stays in the queue; a part of a frame that it got when it ended is dropped."""
    ours, theirs = channel
    queue.connect(ours)
    for _ in range(40):
        queue.offer(KIND, _frame(), room=True)
    waiting = common.pulse[WAITING]
    assert 0 < waiting < 400
    assert len(_received(theirs)) == common.pulse[HANDED] / 10
    queue.send()
    assert common.pulse[WAITING] < waiting
    queue.close()
    assert common.pulse[WAITING] + common.numbers[DROPPED] == 400


def test_queue_of_a_writer_that_died_is_counted(common):
    """Its successor begins with an empty queue, and what was in the last one is dropped."""
    with selectors.DefaultSelector() as inputs:
        Tee(common, inputs).offer(KIND, _frame(), room=True)
        Tee(common, inputs)
    assert (common.pulse[WAITING], common.numbers[DROPPED]) == (0, 10)


@pytest.mark.parametrize(
    ("text", "times"), [("usage_usec 5\nnr_periods 9\nnr_throttled 7\n", 7), ("usage_usec 5\n", 0), ("odd", 0)]
)
def test_limit_of_a_container_is_read(tmp_path, text, times):
    """How often a container used up its processor time; 0 where nothing says so."""
    (tmp_path / "cpu.stat").write_text(text)
    assert throttled(tmp_path / "cpu.stat") == times
    assert throttled(tmp_path / "none") == 0
