"""Standard output is a verb's result: what a library or the team's own code prints must not get into its JSON."""

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def kept_clean() -> Iterator[None]:
    """Send what is printed meanwhile to standard error: by this process, by its libraries in C, and by processes that it starts."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(before, 1)
        os.close(before)
