"""Starts the process of a challenger that answers in the shadow, again after it ended, and ends it when it hangs.

Nothing here waits for that process, and nothing that it does reaches the workers: it has its own back-off, and its restarts are its own.
"""

import logging
import os
import signal
import socket
import time
from collections.abc import Callable

from serving.experiment.tee import BEAT, DONE, HANDED, Shadowed
from serving.log.prediction_log import OF_SHADOW
from serving.telemetry.metrics import SHADOW_RESTARTS

BACK_OFF = (1, 2, 5, 10, 30, 60)  # seconds before it is started again, if it keeps failing
STEADY = 300  # seconds of uptime after which its failures are forgotten
HANG = 60.0  # seconds without a sign of life, while it has work, after which it is ended
LOADING = 5  # times as long while it loads its model, for which it gets little of a busy processor

_log = logging.getLogger("serving")


class ShadowProcess:
    """The supervisor's view of that process."""

    def __init__(self, fork: Callable[[], int], work: Callable[[socket.socket, int], None], common: Shadowed):
        """`work` is what a forked process does with its channel, knowing its supervisor; it does not return."""
        self.pid = 0
        self._fork, self._work = fork, work
        self._pulse, self._numbers = common.pulse, common.numbers
        self._leaving = False  # whether it was ended for no fault of its own
        self._failures = 0
        self._start_at = self._started = 0.0
        self._seen: tuple[int, int] = 0, 0  # its pulse at the last look, and since when
        self._since = 0.0

    def pause(self) -> float:
        """Seconds until the next look."""
        return HANG / 6 if self.pid else max(0.0, self._start_at - time.monotonic())

    def look(self, control: socket.socket) -> None:
        """Start it when it is time to, through the writer of the log at the other end of `control`; end it when it hangs."""
        if self.pid:
            self._check()
        elif time.monotonic() >= self._start_at:
            try:
                self._start(control)
            except OSError as error:  # no process or descriptor at the moment, or the writer has just died
                _log.warning("the challenger in the shadow cannot be started, trying again: %s", error.strerror)
                self._hold_back()

    def ended(self, how: str) -> None:
        """It has ended, in these words, and is started again after a while."""
        self.pid = 0
        if self._leaving:
            return
        if time.monotonic() - self._started > STEADY:
            self._failures = 0
        self._numbers[SHADOW_RESTARTS] += 1
        self._hold_back()
        wait = self._start_at - time.monotonic()
        _log.error(
            "the challenger in the shadow ended %s and is started again in %.0f s; callers are answered", how, wait
        )

    def stop(self) -> None:
        """End it now, for no fault of its own; the next look starts it again."""
        if self.pid:
            self._leaving = True
            os.kill(self.pid, signal.SIGKILL)

    def _start(self, control: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        supervisor = os.getpid()
        with ours, theirs:
            socket.send_fds(control, [OF_SHADOW], [ours.fileno()])
            self._pulse[BEAT] = 0
            pid = self._fork()
            if pid == 0:
                ours.close()
                control.close()
                self._work(theirs, supervisor)
        self.pid, self._leaving = pid, False
        self._started = self._since = time.monotonic()
        self._seen = 0, 0

    def _check(self) -> None:
        seen, now = (self._pulse[BEAT], self._pulse[DONE]), time.monotonic()
        if seen != self._seen or self._pulse[HANDED] <= self._pulse[DONE]:
            self._seen, self._since = seen, now
        elif now - self._since > (HANG if seen[0] else HANG * LOADING):
            _log.error("the challenger in the shadow has not moved for %.0f s and is ended", now - self._since)
            os.kill(self.pid, signal.SIGKILL)
            self._since = now

    def _hold_back(self) -> None:
        self._start_at = time.monotonic() + BACK_OFF[min(self._failures, len(BACK_OFF) - 1)]
        self._failures += 1
