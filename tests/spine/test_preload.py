"""A verb that runs in a process forked from a prepared one begins and ends as if Python had been started for it."""

import signal
import subprocess
import sys

import pytest

from tests import preload

ENDS = {
    "by itself": "print('done')",
    "with a status": "raise SystemExit(3)",
    "with words": "raise SystemExit('no data')",
    "with nothing": "raise SystemExit",
    "with an exception": "raise ValueError('odd')",
    "at exit": "import atexit; atexit.register(print, 'at exit')",
    "in a thread": "import threading; threading.Timer(0.3, print, ['from a thread']).start()",
    "by a signal": "import os; os.kill(os.getpid(), 9)",
}


def run(python, code, **options):
    """What a command ends with, and what it wrote."""
    done = subprocess.run([python, "-c", code, "one", "two"], capture_output=True, text=True, timeout=300, **options)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1:]


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_python_does(end):
    """Exit status, output and the last line of errors are Python's own."""
    assert run(preload.python(), ENDS[end]) == run(sys.executable, ENDS[end])


def test_it_has_the_folder_the_environment_and_the_arguments_of_who_asks(tmp_path):
    """What a command learns of its surroundings is what Python would tell it."""
    code = "import os, sys; print(os.getcwd(), os.environ, sys.argv, sys.stdin.read())"
    given = {"cwd": tmp_path, "env": {"HOME": "/nowhere", "NAME": "größer"}, "input": "words"}
    assert run(preload.python(), code, **given) == run(sys.executable, code, **given)


def test_a_signal_reaches_it():
    """SIGTERM to the program that was started is for the command that it runs."""
    code = "import signal; signal.signal(15, lambda *_: exit(7)); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([preload.python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 7
