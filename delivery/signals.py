"""Keeps signals from stopping what must be finished once it was begun."""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ignored(why: str) -> Iterator[None]:
    """Answer Ctrl-C, a cancelled job and a closed terminal with these words, and go on; what nobody reads is dropped."""
    with contextlib.redirect_stdout(_Unheard(sys.stdout)):
        if threading.current_thread() is threading.main_thread():
            with _answered(why):
                yield
        else:
            yield


@contextlib.contextmanager
def _answered(why: str) -> Iterator[None]:
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


class _Unheard(io.TextIOBase):
    """Standard output that may be closed at any time, as with its terminal: from then on it goes to nobody."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        with self._unbroken():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unbroken():
            self.stream.flush()

    @contextlib.contextmanager
    def _unbroken(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # What is still buffered needs a place to go, or every later flush would fail again.
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, self.stream.fileno())
            os.close(nobody)
