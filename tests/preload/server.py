"""A Python that has made the heavy imports. Verbs of forks are processes forked from it, so that tests pay for imports once.

    python tests/preload/server.py SOCKET ROOM     # until its standard input ends

Only modules of others are imported here: a fork's own are imported by each verb, from the fork. client.py asks. What a verb
leaves running (MLflow, services, their proxies, heartbeats) is forked from here as well, and gets the command line and the
environment by which it is known: the long words ROOM on our own command line and in our environment are the room for them.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing import process, util
from pathlib import Path
from types import ModuleType

SOCKET = sys.argv[1]
MAX_REQUEST = 1 << 20  # bytes
THEIRS = ("PYTHONHASHSEED", "PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONUTF8")  # read when Python itself starts
IMPORTED = (
    "uvicorn",  # before MLflow's server, which looks whether it runs in one
    "docker",
    "fastapi",
    "great_expectations",
    "great_expectations.expectations",
    "jinja2",
    "httptools",
    "matplotlib.pyplot",
    "mlflow.data.pandas_dataset",
    "mlflow.server.fastapi_app",
    "mlflow.sklearn",
    "mlflow.tracking",
    "msgspec",
    "onnxruntime",
    "pandas",
    "prometheus_client",
    "psycopg",
    "pytest",
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
    "uvloop",
)


def main() -> None:
    """Answer requests; in a forked process, run the command that was asked for and end as it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, whose end ends this
    for name in IMPORTED:
        importlib.import_module(name)
    _learn()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(SOCKET)
        listener.listen(64)
        print("ready", flush=True)
        command = _serve(listener)
    if command:
        os._exit(_ended(command))  # not by return: some libraries wait for threads that a forked process does not have


def _learn() -> None:
    """Have the libraries find out what they find out once in a process: which packages there are, and how long texts are."""
    from matplotlib import pyplot
    from mlflow.utils import requirements_utils

    requirements_utils._init_packages_to_modules_map()
    figure, axes = pyplot.subplots(layout="constrained")
    axes.plot([0, 1], label="0123456789.")
    axes.legend()
    figure.savefig(io.BytesIO())
    pyplot.close(figure)


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
                request, files = b"", []
                with contextlib.suppress(OSError):
                    request, files, *_ = socket.recv_fds(connection, MAX_REQUEST, 3)
                if not request:
                    connection.close()
                    continue
                asked = json.loads(request)
                pid = os.fork()
                if not pid:
                    for _, ended, asking in {key.data for key in running.get_map().values() if key.data}:
                        os.close(ended)
                        if asking:
                            asking.close()
                    running.close()
                    connection.close()
                    return _become(asked, files)
                for file in files:
                    os.close(file)
                with contextlib.suppress(OSError):  # who asked may have been killed
                    connection.send(str(pid).encode())
                ended = os.pidfd_open(pid)
                if asked["stays"]:
                    connection.close()
                    running.register(ended, selectors.EVENT_READ, (pid, ended, None))
                    continue
                running.register(ended, selectors.EVENT_READ, (pid, ended, connection))
                running.register(connection, selectors.EVENT_READ, (pid, ended, connection))
            elif key.data and key.fd in running.get_map():
                pid, ended, connection = key.data
                if key.fileobj is connection:  # who asked was killed
                    os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                running.unregister(ended)
                os.close(ended)
                if connection:
                    running.unregister(connection)
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
    if request["stays"]:
        os.setsid()
        _show([sys.executable, *request["command"]], request["environment"])
        sys.path[1:1] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
        _read_environment()
        if request["command"][:2] == ["-m", "serving"]:
            # The service asks for one thread by OMP_NUM_THREADS, which OpenMP reads when it is loaded; with more, its workers hang.
            import threadpoolctl

            threadpoolctl.threadpool_limits(1)
    else:
        sys.executable = request["client"]  # the verbs that it starts come here, too
        util.spawnv_passfds = _fork_server
        subprocess.Popen = _Popen  # type: ignore[misc]
    return request["command"]


def _read_environment() -> None:
    """Have those parts of MLflow's server read the environment that do so when they are imported."""
    from mlflow.store.model_registry.dbmodels.models import SqlWebhook

    for name in ("mlflow.server", "mlflow.server.fastapi_app"):
        sys.modules.pop(name)
    SqlWebhook.__table__.c.secret.type.__init__()  # the key of webhooks' secrets


def _show(command: list[str], environment: dict[str, str]) -> None:
    """Have the system show this command and this environment as this process's own."""
    # /proc/self/stat, fields 48 to 51; before the third is a name in brackets, which may hold anything.
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[45:49]
    command_at, command_end, environment_at, environment_end = map(int, fields)
    for start, end, words in (
        (command_at, command_end, command),
        (environment_at, environment_end, [f"{key}={value}" for key, value in environment.items()]),
    ):
        shown = b"".join(os.fsencode(word) + b"\0" for word in words)
        if len(shown) >= end - start:
            raise ValueError(f"{len(shown)} bytes to show, and room for {end - start}")
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, shown, len(shown))


class _Popen(subprocess.Popen):
    """Starts processes as ever, but forks a Python that is to outlive the verb from the server."""

    def __init__(self, args, *others, **options):
        environment = options.get("env") or dict(os.environ)
        python = isinstance(args, list) and args[:2] == [sys.executable, "-m"]
        if not (python and options.get("start_new_session")) or set(THEIRS) & environment.keys():
            super().__init__(args, *others, **options)
            return
        self.args, self.returncode, self._child_created = args, 0, False  # whoever starts it does not wait for it
        self.stdin = self.stdout = self.stderr = None
        self.pid = _ask(args[1:], environment, options)


def _ask(command: list[str], environment: dict[str, str], options: dict) -> int:
    """Have the server fork a process that stays; its number."""
    os.umask(umask := os.umask(0))
    request = {"command": command, "environment": environment, "umask": umask, "stays": True}
    request["folder"] = str(options.get("cwd") or Path.cwd())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server, Path(os.devnull).open("rb") as nothing:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_REQUEST)
        server.connect(SOCKET)
        files = [nothing.fileno(), options["stdout"].fileno(), options["stderr"].fileno()]
        socket.send_fds(server, [json.dumps(request).encode()], files)
        return int(server.recv(32))


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
