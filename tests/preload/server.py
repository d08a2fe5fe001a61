"""A Python that has made the heavy imports. Verbs of forks are processes forked from it, so that tests pay for imports once.

    python tests/preload/server.py SOCKET     # until its standard input ends

Only modules of others are imported here: a fork's own are imported by each verb, from the fork. client.py asks.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
from multiprocessing import process, util
from pathlib import Path
from types import ModuleType

MAX_REQUEST = 1 << 20  # bytes
IMPORTED = (
    "docker",
    "great_expectations",
    "great_expectations.expectations",
    "jinja2",
    "matplotlib.pyplot",
    "mlflow.data.pandas_dataset",
    "mlflow.sklearn",
    "mlflow.tracking",
    "onnxruntime",
    "pandas",
    "requests",
    "rich.live",
    "rich.table",
    "scipy.stats",
    "skl2onnx",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.inspection",
    "sklearn.linear_model",
    "skops.io",
)


def main() -> None:
    """Answer requests; in a forked process, run the command that was asked for and end as it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, whose end ends this
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print("ready", flush=True)
        command = _serve(listener)
    if command:
        os._exit(_ended(command))  # not by return: some libraries wait for threads that a forked process does not have


def _serve(listener: socket.socket) -> list[str] | None:
    """Fork for each request; returns its command in the forked process, and None in this one once standard input ends."""
    running = selectors.DefaultSelector()
    running.register(listener, selectors.EVENT_READ, None)
    running.register(0, selectors.EVENT_READ, None)
    while True:
        for key, _ in running.select():
            if key.fileobj == 0:
                return None
            if key.fileobj is listener:
                connection, _ = listener.accept()
                request, files, *_ = socket.recv_fds(connection, MAX_REQUEST, 3)
                if not request:
                    connection.close()
                    continue
                pid = os.fork()
                if not pid:
                    running.close()
                    connection.close()
                    return _become(json.loads(request), files)
                for file in files:
                    os.close(file)
                connection.send(str(pid).encode())
                ended = os.pidfd_open(pid)
                running.register(ended, selectors.EVENT_READ, (pid, ended, connection))
                running.register(connection, selectors.EVENT_READ, (pid, ended, connection))
            elif isinstance(key.data, tuple) and key.fd in running.get_map():
                pid, ended, connection = key.data
                if key.fileobj is connection:  # who asked was killed
                    os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                running.unregister(ended)
                running.unregister(connection)
                os.close(ended)
                with contextlib.suppress(OSError):
                    connection.send(str(status).encode())
                connection.close()


def _become(request: dict, files: list[int]) -> list[str]:
    """Take over the files, folder and environment of who asked; returns the command."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    process.ORIGINAL_DIR = request["folder"]
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(
        open(1, "wb", closefd=False),  # noqa: SIM115
        encoding="utf-8",
        line_buffering=os.isatty(1),
        write_through=bool(os.environ.get("PYTHONUNBUFFERED")),
    )
    import numpy

    numpy.random.seed()
    sys.executable = request["client"]  # the verbs that it starts come here, too
    util.spawnv_passfds = _fork_server
    return request["command"]


def _ended(command: list[str]) -> int:
    """Run a command as Python would, with what it does at its end; returns the exit status."""
    status = 1
    try:
        _run(command)
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _run(command: list[str]) -> None:
    sys.modules["__main__"] = ModuleType("__main__")
    if command[0] == "-m":
        sys.path[0] = str(Path.cwd())
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.path[0] = str(Path(command[0]).resolve().parent)
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


_spawn = util.spawnv_passfds


def _fork_server(path, arguments, kept) -> int:
    """Start Python's own fork server as a copy of this process, which has imported most of what it would import."""
    if "multiprocessing.forkserver" not in arguments[-1]:
        return _spawn(path, arguments, kept)
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        lowest = 3
        for file in sorted(kept):
            os.closerange(lowest, file)
            lowest = file + 1
        os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
        util.spawnv_passfds = _spawn
        exec(arguments[-1], {"__name__": "__main__"})
        status = 0
    except SystemExit:
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
