"""The processes of a service: workers that answer, a writer for the prediction log, and this one, which supervises them.

The model is loaded once, before the workers are forked, so they share its memory. They also share the listening socket:
a connection stays in its queue until a worker accepts it, so none is refused while workers are replaced.
"""

import contextlib
import gc
import logging
import mmap
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.config import Config
from serving.experiment.tee import Shadowed, shared
from serving.http.fast_path import FastPath
from serving.log.clock import clock
from serving.log.prediction_log import LAST_TRY, OF_WORKER, PredictionLog, write
from serving.requests import request_ids
from serving.runtime.shadow_process import ShadowProcess
from serving.telemetry.metrics import IN_FLIGHT, LOG_LOST, LOG_QUEUE, RESTARTS, WORKERS

BACK_OFF = (0.0, 0.5, 1, 2, 5)  # seconds before a worker that keeps failing is started again
STEADY = 30  # seconds of uptime after which a worker's failures are forgotten
END = 23  # seconds for the workers to shut down, longer than anything they wait for; 30 with the writer
GARBAGE = 10_000  # allocations before the garbage collector runs; queued log records are not garbage
END_OF_WRITER = LAST_TRY + 2  # seconds that the writer of the log gets after the workers
SWITCH = (
    0.0005  # seconds that the thread for large bodies may hold the GIL while answers wait, unless C code takes longer
)
FAILED = 70  # exit status of a worker that failed with an exception

_log = logging.getLogger("serving")


@dataclass
class _Worker:
    row: int
    started: float = field(default_factory=time.monotonic)
    ready: bool = False
    leaving: bool = False


def processes(workers: int) -> int:
    """Rows of shared counters that this many workers need: one more for a replacement, and one for this process."""
    return workers + 2


def serve(app: FastPath, listener: socket.socket, config: Config, workers: int, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM or Ctrl-C; call `ready` when the first worker answers. The exit status is 0.

    SIGHUP replaces all workers, one after the other. A worker that exits by itself is replaced.
    """
    return _Minder(app, listener, config, workers, ready).run()


class _Minder:
    def __init__(self, app: FastPath, listener: socket.socket, config: Config, workers: int, ready: Callable[[], None]):
        self._app, self._listener, self._config = app, listener, config
        self._ready: Callable[[], None] | None = ready
        self._wanted = workers
        self._workers: dict[int, _Worker] = {}
        self._writer = 0
        self._writer_started = 0.0
        self._control: socket.socket | None = None
        self._failures = 0
        self._start_at = 0.0
        self._ending = False
        self._to_replace: list[int] = []
        self._own = app.metrics.numbers.row(workers + 1)
        self._told, self._tell = os.pipe()  # a worker writes its process id here when it answers
        # Shared with the workers: which of them accept connections, and in the last byte whether all are to shut down.
        self._accepting = mmap.mmap(-1, workers + 2)
        self._life = os.pipe()  # workers see its end closed when this process dies
        self._signals, wake = socket.socketpair()
        for end in (self._signals, wake):
            end.setblocking(False)
        self._wake = wake
        self._shadowed = _shadowed(app, self._own)
        self._shadow = ShadowProcess(self._fork, self._shadow_work, self._shadowed) if self._shadowed else None

    def run(self) -> int:
        if self._wanted > 1:
            _load(self._app)  # once for all workers, which share the memory
        gc.freeze()  # loaded objects stay for good, and scanning them would copy their memory pages in each process
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        while not self._ending:
            try:
                self._fill()
                self._replace()
            except OSError as error:  # no process or descriptor available at the moment; running ones continue
                _log.error("a process of the service cannot be started, trying again: %s", error.strerror)
                self._failed()
            if self._shadow and self._control and self._writer and self._ready is None:  # callers first
                self._shadow.look(self._control)
            self._wait(self._pause())
        return self._end()

    def _pause(self) -> float | None:
        missing = self._wanted > len(self._staying()) or (self._config.database and not self._writer)
        waiting = missing or (self._to_replace and time.monotonic() < self._start_at)
        pauses = [max(0.0, self._start_at - time.monotonic())] if waiting else []
        if self._shadow and self._writer and self._ready is None:
            pauses.append(self._shadow.pause())
        return min(pauses, default=None)

    def _wait(self, seconds: float | None) -> None:
        """Wait for a signal or for a worker that reports it is ready, and handle it."""
        watched: list[socket.socket | int] = [self._signals, self._told]
        readable, _, _ = select.select(watched, [], [], seconds)
        if self._told in readable:
            self._take_words()
        if self._signals in readable:
            given = set(self._signals.recv(4096))
            if given & {signal.SIGTERM, signal.SIGINT}:
                self._ending = True
            if signal.SIGHUP in given:
                self._to_replace = list(self._staying())
        self._reap()

    def _take_words(self) -> None:
        """Read the process ids, eight bytes each, of the workers that became ready."""
        words = os.read(self._told, 8 * 512)
        for start in range(0, len(words), 8):
            if worker := self._workers.get(int.from_bytes(words[start : start + 8], "little")):
                worker.ready = True
                if self._ready is not None:
                    self._ready()
                    self._ready = None

    def _staying(self) -> dict[int, _Worker]:
        return {pid: worker for pid, worker in self._workers.items() if not worker.leaving}

    def _fill(self) -> None:
        """Start missing processes."""
        if self._config.database and not self._writer and time.monotonic() >= self._start_at:
            self._start_writer()
        while len(self._staying()) < self._wanted and time.monotonic() >= self._start_at:
            self._start_worker()
            if self._failures:
                self._hold_back()

    def _replace(self) -> None:
        """Replace workers one by one: the next one stops once its successor is ready."""
        self._to_replace = [pid for pid in self._to_replace if pid in self._workers]
        unsettled = any(not worker.ready or worker.leaving for worker in self._workers.values())
        if not self._to_replace or unsettled or time.monotonic() < self._start_at:
            return
        if len(self._workers) <= self._wanted:
            self._start_worker()
            return
        leaving = self._to_replace.pop(0)
        if leaving in self._workers:
            self._workers[leaving].leaving = True
            os.kill(leaving, signal.SIGTERM)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid == self._writer:
                self._lost_writer(status)
            elif self._shadow and pid == self._shadow.pid:
                self._shadow.ended(_how(status))
            elif worker := self._workers.pop(pid, None):
                self._ended(pid, worker, status)

    def _ended(self, pid: int, worker: _Worker, status: int) -> None:
        numbers = self._app.metrics.numbers.row(worker.row)
        self._own[LOG_LOST] += numbers[LOG_QUEUE]  # records in its hands are lost
        numbers[IN_FLIGHT] = numbers[LOG_QUEUE] = 0
        self._accepting[worker.row] = 0
        self._own[WORKERS] = len(self._workers)
        if worker.leaving or self._ending:
            return
        self._own[RESTARTS] += 1
        if time.monotonic() - worker.started > STEADY:
            self._failures = 0
        self._failed()
        _log.error("worker %d ended %s and is replaced", pid, _how(status))

    def _failed(self) -> None:
        """Wait before the next start, longer after each failure in a row."""
        self._hold_back()
        self._failures += 1

    def _hold_back(self) -> None:
        self._start_at = time.monotonic() + BACK_OFF[min(self._failures, len(BACK_OFF) - 1)]

    def _lost_writer(self, status: int) -> None:
        """The log channels ended with the writer: start a new one, and replace the workers to give them new channels."""
        self._writer = 0
        self._own[LOG_LOST] += self._own[LOG_QUEUE]
        self._own[LOG_QUEUE] = 0
        if self._shadow:
            self._shadow.stop()  # its channel ended with the writer
        if not self._ending:
            if time.monotonic() - self._writer_started > STEADY:
                self._failures = 0
            self._failed()
            _log.error("the writer of the prediction log ended %s and is replaced, with its workers", _how(status))
            self._to_replace = list(self._staying())

    def _start_writer(self) -> None:
        if self._control is not None:
            self._control.close()
        ours, theirs = socket.socketpair()
        pid = self._fork()
        if pid == 0:
            ours.close()
            self._listener.close()
            _leave_with(lambda: write(self._config, self._app.sources, theirs, self._own, self._shadowed))
        theirs.close()
        self._writer, self._control, self._writer_started = pid, ours, time.monotonic()

    def _start_worker(self) -> None:
        self._app.callers.refresh()
        taken = {worker.row for worker in self._workers.values()}
        row = min(set(range(self._wanted + 1)) - taken)
        ours = theirs = None
        if self._control is not None:
            ours, theirs = socket.socketpair()
            with contextlib.suppress(OSError):  # if the writer has just died, it is noticed and replaced in a moment
                socket.send_fds(self._control, [OF_WORKER], [ours.fileno()])
            ours.close()
        pid = self._fork()
        if pid == 0:
            if self._control is not None:
                self._control.close()
            _leave_with(lambda: self._work(row, theirs))
        if theirs is not None:
            theirs.close()
        self._workers[pid] = _Worker(row)
        self._own[WORKERS] = len(self._workers)

    def _fork(self) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._life[1])
            self._signals.close()
            self._wake.close()
            os.close(self._told)
        return pid

    def _shadow_work(self, channel: socket.socket, supervisor: int) -> None:
        """Run as the challenger in the shadow."""
        self._listener.close()
        _leave_with(lambda: self._answer_in_shadow(channel, supervisor))

    def _answer_in_shadow(self, channel: socket.socket, supervisor: int) -> None:
        from serving.experiment.shadow import answer_in_shadow  # only where an experiment needs it

        answer_in_shadow(self._app.metrics.carried, channel, self._shadowed, supervisor)  # type: ignore[arg-type]

    def _work(self, row: int, channel: socket.socket | None) -> None:
        """Run as a worker."""
        import asyncio

        from serving.http.server import Server

        request_ids.begin_process()
        gc.freeze()
        gc.set_threshold(GARBAGE)
        sys.setswitchinterval(SWITCH)
        app = self._app
        app.metrics.count_as(row)
        if channel is not None:
            app.log = PredictionLog(channel, app.metrics.own, clock(self._config.log_clock), len(app.sources))

        def started() -> None:
            # The rest is loaded in a thread once predictions are answered, because it takes longer than everything
            # before it.
            asyncio.get_running_loop().run_in_executor(None, _load, app)
            # If the supervising process dies, nobody would stop this worker, so it shuts down as on SIGTERM.
            asyncio.get_running_loop().add_reader(self._life[0], orphaned)
            os.write(self._tell, os.getpid().to_bytes(8, "little"))

        def is_last() -> bool:
            self._accepting[row] = 0
            return bool(self._accepting[-1]) and not any(self._accepting[:-1])

        def orphaned() -> None:
            self._accepting[-1] = 1
            asyncio.get_running_loop().remove_reader(self._life[0])
            server.handle_exit(signal.SIGTERM, None)

        def ended() -> None:
            if app.log is not None:
                app.log.close()

        self._accepting[row] = 1
        server = Server(app, started, ended, is_last)
        # Set now because signals may come before the server installs its own handlers, and after: it re-raises them
        # when done.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        server.run(sockets=[self._listener])

    def _end(self) -> int:
        """Let the workers drain, then let the writer write the remaining records."""
        self._accepting[-1] = 1
        self._listener.close()
        if self._shadow:
            self._shadow.stop()
        end = time.monotonic() + END
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
        while self._workers and time.monotonic() < end:
            self._wait_a_moment()
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        if self._control is not None:
            self._control.close()
        end = time.monotonic() + END_OF_WRITER
        while self._writer and time.monotonic() < end:
            self._wait_a_moment()
        return 0

    def _wait_a_moment(self) -> None:
        select.select([self._signals], [], [], 1)
        with contextlib.suppress(BlockingIOError):
            given = set(self._signals.recv(4096))
            if signal.SIGINT in given:  # a second Ctrl-C: stop at once
                for pid in self._workers:
                    os.kill(pid, signal.SIGINT)
        self._reap()


def _shadowed(app: FastPath, numbers: "memoryview[float]") -> Shadowed | None:
    """What is shared about the challenger, where one answers in the shadow."""
    carried = app.metrics.carried
    return shared(numbers[app.metrics.shadow :]) if carried and carried.experiment.mode == "shadow" else None


def _load(app: FastPath) -> None:
    """Load the rest of the service, and exempt all loaded objects from garbage collection: they stay for good."""
    app.load_framework()
    gc.collect()
    gc.freeze()


def _leave_with(work: Callable[[], None]) -> None:
    """Run `work` in a forked process, then exit without the parent's cleanup."""
    status = FAILED
    try:
        work()
        status = 0
    except KeyboardInterrupt:
        status = 0
    except BaseException:
        _log.exception("a process of the service failed")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"with status {code}" if code >= 0 else f"by signal {signal.Signals(-code).name}"
