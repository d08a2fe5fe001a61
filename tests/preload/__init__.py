"""A Python for the verbs of forks, with the heavy imports made once for all tests of a process: server.py forks, client.py asks."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What the verbs set before they import these libraries (pipeline/registry/mlflow_server.py, pipeline/data/expectations.py).
BEFORE = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR", "GX_ANALYTICS_ENABLED": "false"}
# Several tests run at once: where each fits its small models on all cores, the threads mostly wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

ROOM = (
    "x" * 4096
)  # in the memory where the system looks for a command line or an environment, for those of what is forked


@cache
def python() -> str:
    """The program to run a verb with; this Python itself where processes cannot be forked or watched as on Linux."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="slipway-python-"))
    socket, program = folder / "socket", folder / "python"
    server = subprocess.Popen(
        [sys.executable, HERE / "server.py", socket, ROOM],
        cwd=folder,
        env=os.environ | BEFORE | ONE_THREAD | {"ROOM": ROOM * 8},
        stdin=subprocess.PIPE,  # once it is closed, by us or because we were killed, the server ends
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout and server.stdout.readline() == "ready\n", "tests/preload/server.py did not start"
    atexit.register(_end, server, folder)
    text = (HERE / "client.py").read_text(encoding="utf-8")
    here = text.replace('PYTHON, SOCKET = "", ""', f'PYTHON, SOCKET = "{sys.executable}", "{socket}"')
    program.write_text(f"#!{sys.executable} -IS\n{here}", encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def _end(server: subprocess.Popen, folder: Path) -> None:
    server.communicate()
    shutil.rmtree(folder, ignore_errors=True)
