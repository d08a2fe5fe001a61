"""Keeps signals from stopping what must be finished once it was begun."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ignored(why: str) -> Iterator[None]:
    """Answer Ctrl-C, a cancelled job and a closed terminal with these words, and go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A function, for what is ignored outright would be ignored by the programs that we start, too.
    before = {number: signal.signal(number, lambda *_: _tell(why)) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _tell(what: str) -> None:
    """Write on standard error at once: print may be in the middle of a line."""
    with contextlib.suppress(OSError):
        os.write(2, f"{what}\n".encode())


def say(what: str) -> None:
    """Print a line; where nobody can read it, as after a closed terminal, that and all that follows is said to nobody."""
    try:
        print(what, flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
