"""Runs stages as forks of a process that has imported the heavy packages, so that a chain of stages imports them once.

It uses Python's own fork server, a process that only imports. Each stage is still a separate process and runs the very
command of its verb.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
from multiprocessing import forkserver
from pathlib import Path

# On macOS the libraries behind numpy do not survive a fork, so each stage imports them itself.
FORKS = sys.platform != "darwin"
# The imports of train.py, evaluate.py, register_model.py and delivery together; validation imports more, once, and by
# itself.
HEAVY = [
    "matplotlib.pyplot",
    "mlflow.data.pandas_dataset",
    "mlflow.sklearn",
    "pipeline.evaluation.plots",
    "pipeline.formats.onnx.forms",
    "pipeline.evaluation.report",
    "requests",
    "rich.table",
    "skl2onnx",
    "sklearn.linear_model",
    "skops.io",
]


def prepare() -> None:
    """Start importing in a separate process, and return at once."""
    if not FORKS:
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(HEAVY)
    forkserver.ensure_running()


def run(command: list[str], log: Path) -> int:
    """Run `python COMMAND` (a file, or -m and a module, with arguments) with its output in `log`; return its exit status.

    When this process is killed, the stage is, too.
    """
    if not FORKS:
        with log.open("wb") as output:
            python = [sys.executable, *command]
            return subprocess.run(python, stdin=subprocess.DEVNULL, stdout=output, stderr=output).returncode
    process = multiprocessing.get_context("forkserver").Process(target=_stage, args=(command, str(log)))
    process.start()
    process.join()
    return 1 if process.exitcode is None else process.exitcode


def _stage(command: list[str], log: str) -> None:
    threading.Thread(target=end_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end with it."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
