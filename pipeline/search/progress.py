"""How far a search is, on standard error: one line that changes on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EVERY = 10.0  # seconds between lines where there is no terminal


class Progress:
    """Counts what is finished, and knows what to say of it."""

    def __init__(self, what: str, total: int, seconds: float, bar: Any = None):
        self.what, self.total, self.seconds, self.bar = what, total, seconds, bar
        self.began = self.told = time.monotonic()
        self.done = 0
        self.task = bar.add_task(what, total=total, said="") if bar else None

    def step(self, said: str = "") -> None:
        """One more is finished; `said` is the best so far, in words."""
        self.done += 1
        now = time.monotonic()
        words = ", ".join(part for part in (said, self._left(now)) if part)
        if self.bar:
            self.bar.update(self.task, completed=self.done, said=words)
        elif now - self.told >= EVERY or self.done == self.total:
            self.told = now
            print(
                f"{self.what}: {self.done} of {self.total}{', ' if words else ''}{words}", file=sys.stderr, flush=True
            )

    def _left(self, now: float) -> str:
        """How long the rest will take at this pace, or until the time limit."""
        if self.done >= self.total:
            return ""
        pace = (now - self.began) / self.done * (self.total - self.done)
        rest = min(pace, max(0.0, self.seconds - (now - self.began)))
        return f"{clock(rest)} left" + (" by the time limit" if rest < pace else "")


def clock(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def shown(what: str, total: int, seconds: float) -> Iterator[Progress]:
    """Show the progress of so many steps, with a limit of so many seconds."""
    if not sys.stderr.isatty():
        yield Progress(what, total, seconds)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TextColumn("{task.fields[said]}")
    with Bar(*columns, console=Console(stderr=True)) as bar:
        yield Progress(what, total, seconds, bar)
