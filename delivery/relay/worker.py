"""A thread that turns events into starts of a workflow: one at a time, and one more for all events that came meanwhile."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from delivery.relay.metrics import Starts
from delivery.relay.remote import RemoteError
from pipeline.errors import SlipwayError

NOT_WATCHED = "an alert did not start the monitor; its schedule does, or the next message of Alertmanager"
LATER = "a promotion was not finished; the schedule of promote.yml, or `make reconcile`, does it"
UNDONE = "a promotion was undone, and the previous release continues: move the alias again, or `make reconcile` if it is still there"


@dataclass(frozen=True)
class Pace:
    """Seconds: to collect the events of one click, between first tries, at most, and at most when a server asks for more.

    `end` is how long a promotion in progress may take at shutdown.
    """

    quiet: float = 0.2
    first: float = 1.0
    longest: float = 30.0
    after: float = 120.0
    end: float = 8.0  # an engine kills a container after ten
    tries: int = 6  # to start a promotion; reading the registry is retried without limit


def say(text: str) -> None:
    """Print a line with a timestamp."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}", flush=True)


class Worker:
    """On an event, reads what must be known and starts a workflow.

    `read` returns what it found in words, None when nothing is to be started, and raises SlipwayError when MLflow does not
    answer. `start` raises RemoteError when it may be retried, another error when not. `tell` reports failures. `cancel`
    interrupts `start` at shutdown, and `unfinished` says what that means.
    """

    def __init__(
        self,
        read: Callable[[], str | None],
        start: Callable[[], None],
        tell: Callable[[str], None],
        starts: Starts,
        pace: Pace,
        cancel: Callable[[], None] = lambda: None,
        unfinished: str = LATER,
    ):
        self.read, self.start, self.tell, self.cancel = read, start, tell, cancel
        self.unfinished = unfinished
        self.starts, self.pace = starts, pace
        self.heard = threading.Event()
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._work, name="starts", daemon=True)

    def hear(self) -> None:
        """Note an event; the thread handles it later."""
        self.starts.pending.set(1)
        self.heard.set()

    def stop(self) -> None:
        """Stop waiting, interrupt a start in progress, and give it time to end."""
        self.ending.set()
        self.cancel()
        self.thread.join(self.pace.end)
        if self.starts.is_pending():
            say(self.unfinished)

    def _work(self) -> None:
        while not self.ending.is_set():
            if self.heard.wait(0.1) and not self.ending.wait(self.pace.quiet):
                self.starts.pending.set(1)
                done = self._turn()
                self.starts.pending.set(int(self.heard.is_set() or not done))

    def _turn(self) -> bool:
        """Handle the event; return whether nothing is left to do."""
        try:
            if self._act():
                self.starts.count("started")
            return not self.ending.is_set()
        except Exception as error:
            if self.ending.is_set():
                return False
            self.starts.count("failed")
            what = error.what if isinstance(error, SlipwayError) else f"{type(error).__name__} in the relay itself"
            say(f"failed: {what}")
            self.tell(what)
            return True

    def _act(self) -> bool:
        """Start the workflow if needed; return whether it was started. Raises the error when it fails."""
        found = self._read()
        if self.ending.is_set():
            return False
        if found is None:
            say("MLflow has no such model: nothing is started")
            return False
        say(found)
        return self._start()

    def _read(self) -> str | None:
        """Read, retrying until MLflow answers or the relay stops; then None."""
        waits = self._waits()
        while not self.ending.is_set():
            self.heard.clear()  # events before this reading are covered by it; later ones need another
            try:
                return self.read()
            except SlipwayError as error:
                pause = next(waits)
                say(f"{error.what}; asking again in {pause:.1f} s")
                self.ending.wait(pause)
        return None

    def _start(self) -> bool:
        waits = self._waits()
        for left in reversed(range(self.pace.tries)):
            self.heard.clear()  # the started command reads the registry after this
            try:
                self.start()
                return True
            except RemoteError as answer:
                if not answer.passing or not left:
                    raise
                self.starts.count("retried")
                pause = max(next(waits), self._asked(answer))
                say(f"{answer.what}; trying again in {pause:.1f} s, {left} more times")
                if self.ending.wait(pause):
                    return False
        return False

    def _waits(self):
        """Exponential back-off with jitter, so that two relays do not retry at the same moments."""
        pause = self.pace.first
        while True:
            yield random.uniform(pause / 2, pause)
            pause = min(2 * pause, self.pace.longest)

    def _asked(self, answer: RemoteError) -> float:
        """The seconds that a server asks us to wait, up to our limit."""
        asked = answer.after or ""
        return min(float(asked[:9]), self.pace.after) if asked.isascii() and asked.isdecimal() else 0.0
