"""The process of a challenger that answers in the shadow: after the caller has its answer, and when nobody else needs the processor.

It reads A's rows from the writer of the prediction log and sends the challenger's answers back to it, as rows of the role `shadow` with
the same request id and time. It is the first to go: it runs when the processor is idle, at most half of the time, and ends when its
challenger takes too much memory. Whatever it does, no caller notices: serving/runtime/shadow_process.py starts it again.
"""

import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from serving.experiment.experiment import Carried, position
from serving.experiment.tee import BEAT, DONE, Shadowed
from serving.log.blocks import Prediction, frame_of, records_of
from serving.log.wire import CHALLENGER, PREDICTIONS, READ, arrived, packed
from serving.model.bundle import BundleError
from serving.model.predictor import NoAnswer, Predictor, load_predictor
from serving.model.rows import Row, RowError
from serving.requests.decoder import Decoder
from serving.requests.response_writer import AnswerWriter
from serving.telemetry.metrics import ANSWERED, FAILED

AT_ONCE = 100  # rows asked at once: between two pieces of a batch there is time to rest, and to be seen alive
WORK = 0.01  # seconds of processor time after which it rests as long
LATEST = 1.0  # seconds for which answers wait to be sent, about
COLLECTED = 250_000  # bytes of answers after which they are sent
GROWTH = 256_000_000  # bytes that the process may take beyond what it takes with its model loaded
OUT_OF_MEMORY, NOT_LOADED = 71, 72  # exit statuses
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl
_LIMIT = Path("/sys/fs/cgroup/cpu.stat")

_log = logging.getLogger("serving")


def answer_in_shadow(carried: Carried, channel: socket.socket, common: Shadowed, supervisor: int) -> None:
    """Answer what arrives on the channel until it is closed. Runs as a separate process, a child of `supervisor`."""
    give_way(supervisor)
    try:
        predictor = load_predictor(carried.challenger)
    except BundleError as error:
        _log.error("the challenger cannot answer in the shadow: %s", error)
        os._exit(NOT_LOADED)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the writer has ended
        Shadow(carried, predictor, channel, common).run()


def give_way(supervisor: int) -> None:
    """Let everything else on this machine go first, and end with the process that started this one."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # they may reach all processes; its supervisor ends it
    os.nice(19)
    with contextlib.suppress(OSError, AttributeError):  # only Linux has all of this, and a container may forbid it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # the first to go when memory is short
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # even where the challenger hangs
    if os.getppid() != supervisor:
        os._exit(0)  # it died just before


class Shadow:
    """The challenger, asked row by row what callers asked A."""

    def __init__(self, carried: Carried, predictor: Predictor, channel: socket.socket, common: Shadowed):
        contract = carried.challenger.contract
        self._salt, self._share = carried.experiment.name, carried.experiment.share
        self._predictor, self._channel = predictor, channel
        self._pulse, self._numbers = common.pulse, common.numbers
        self._decoder, self._writer = Decoder(contract), AnswerWriter(contract)
        self._encode = msgspec.json.Encoder().encode
        self._records: list[tuple] = []
        self._size = 0  # bytes of these records
        self._answered = self._failed = self._done = 0  # rows since the last were sent
        self._sent = time.monotonic()
        self._rest = Rest(self._beat)
        self._most = _limit_memory()

    def run(self) -> None:
        """Answer until the channel is closed; raises OSError when it breaks."""
        self._beat()
        buffer = bytearray()
        while piece := self._channel.recv(READ):
            buffer += piece
            for _, frame in arrived(buffer):
                for record in records_of([frame]):
                    self._take(record)
                self._send()

    def _take(self, record: Prediction) -> None:
        if record.role == "served" and position(self._salt, record.request_id) < self._share:
            try:
                self._answer(record)
            except (NoAnswer, RowError) as error:
                self._failed += record.rows
                if isinstance(error.__cause__, MemoryError):
                    self._out_of_memory()
        self._done += record.rows
        self._beat()
        if self._size > COLLECTED or time.monotonic() - self._sent > LATEST:
            self._send()
        self._rest.take()

    def _answer(self, record: Prediction) -> None:
        rows = self._decoder.logged(record.features)
        began = time.perf_counter()
        if len(rows) == 1:
            answers = b"[%b]" % self._encode(self._predictor.predict_one(rows[0]))
        else:
            answers = b"[%b]" % b",".join(self._pieces(rows))
        latency = (time.perf_counter() - began) * 1000
        self._records.append(tuple(record._replace(role="shadow", latency_ms=latency, answers=answers)))
        self._size += len(record.features) + len(answers)
        self._answered += record.rows

    def _pieces(self, rows: Sequence[Row]) -> Iterator[bytes]:
        for start in range(0, len(rows), AT_ONCE):
            yield self._writer.write(self._predictor.predict(rows[start : start + AT_ONCE]))[1:-1]
            self._beat()
            self._rest.take()

    def _send(self) -> None:
        """Send the answers back, however long the writer takes, and count them."""
        if self._records:
            rest = memoryview(packed(PREDICTIONS + CHALLENGER, frame_of(self._records)))
            self._channel.settimeout(LATEST)
            while rest:
                with contextlib.suppress(TimeoutError):
                    rest = rest[self._channel.send(rest) :]
                self._beat()
            self._channel.settimeout(None)
        self._numbers[ANSWERED] += self._answered
        self._numbers[FAILED] += self._failed
        self._pulse[DONE] += self._done
        self._records, self._size, self._sent = [], 0, time.monotonic()
        self._answered = self._failed = self._done = 0
        if _memory() > self._most:
            self._out_of_memory()

    def _beat(self) -> None:
        self._pulse[BEAT] += 1

    def _out_of_memory(self) -> None:
        _log.error(
            "the challenger takes %d MB more memory than at its start, so it is started again", GROWTH // 1_000_000
        )
        os._exit(OUT_OF_MEMORY)


class Rest:
    """Sleeps as long as the process has worked, and longer where a limit of processor time holds the whole service back."""

    def __init__(self, beat: Callable[[], None]):
        self._beat = beat
        self._worked, self._looked, self._throttled = time.process_time(), time.monotonic(), throttled()

    def take(self) -> None:
        """Rest, if it is time to."""
        worked = time.process_time() - self._worked
        if worked < WORK:
            return
        if time.monotonic() - self._looked > LATEST:
            before, self._throttled, self._looked = self._throttled, throttled(), time.monotonic()
            # A container's limit counts this process as well: what it takes in one moment, callers may lack in the next.
            worked += 5 * LATEST if self._throttled > before else 0
        while worked > 0:
            time.sleep(min(worked, LATEST))
            worked -= LATEST
            self._beat()
        self._worked = time.process_time()


def throttled(source: Path = _LIMIT) -> int:
    """How often this container has used up the processor time that it may use in a while; 0 where nothing says so."""
    try:
        found = dict(line.split() for line in source.read_text(encoding="ascii").splitlines())
        return int(found.get("nr_throttled", 0))
    except (OSError, ValueError):
        return 0


def _limit_memory() -> int:
    """Let the process take GROWTH bytes more than now at most; returns its bytes from which it is to end by itself, a bit less."""
    now = _memory()
    if now:
        resource.setrlimit(resource.RLIMIT_DATA, (now + GROWTH, now + GROWTH))
    return now + GROWTH * 7 // 8


def _memory() -> int:
    """The bytes of this process that RLIMIT_DATA limits, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0
