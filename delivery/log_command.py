"""A command of serving/ that works on a prediction log, run on this machine."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import IO

from pipeline.artifacts import ROOT
from pipeline.errors import DeployError

VARIABLE = "SLIPWAY_DATABASE_URL"


def run(
    environment: str, database: str, arguments: Sequence[str], given: bytes = b"", into: IO[bytes] | None = None
) -> bytes:
    """Run `python -m` with these arguments on the log of an environment, and return what it prints; raises DeployError.

    It reads `given` from its standard input. What it prints goes into the file `into`, if there is one, instead of memory. What
    it says on standard error meanwhile is shown.
    """
    command, surroundings = (
        [sys.executable, "-m", *arguments],
        {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: database},
    )
    said: list[str] = []
    with tempfile.TemporaryFile() as source:
        source.write(given)
        source.seek(0)
        with subprocess.Popen(
            command, cwd=ROOT, env=surroundings, stdin=source, stdout=into or subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            listener = threading.Thread(target=listen, args=(process.stderr, said), daemon=True)
            listener.start()
            try:
                printed = process.stdout.read() if process.stdout else b""
                process.wait()
            except BaseException:
                process.kill()
                raise
            listener.join()
    return checked(environment, process.returncode, printed, said)


def listen(lines: Iterable[bytes], said: list[str]) -> None:
    """Keep what a command says on standard error, and show it but for its error."""
    for raw in lines:
        line = raw.decode(errors="replace").rstrip()
        said.append(line)
        if not line.startswith("error: "):
            print(line, file=sys.stderr, flush=True)


def checked(environment: str, status: int | None, printed: bytes, said: Sequence[str]) -> bytes:
    """What a command printed; raises DeployError with its last words on standard error when it failed."""
    if status != 0:
        words = said[-1].removeprefix("error: ") if said else f"the command ended with status {status}"
        raise DeployError(f"the prediction log of {environment}: {words}", "run this again when it can be used")
    return printed
