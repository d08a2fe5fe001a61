"""A verb in a forked, preloaded process behaves as in a new Python process."""

import os
import signal
import subprocess
import sys
import time

import psutil
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
    """A command's exit status and output."""
    done = subprocess.run([python, "-c", code, "one", "two"], capture_output=True, text=True, timeout=300, **options)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1:]


@pytest.mark.parametrize("end", ENDS)
def test_exit_is_python_s(end):
    """Exit status, output and the last line of errors are Python's own."""
    assert run(preload.python(), ENDS[end]) == run(sys.executable, ENDS[end])


def test_folder_environment_and_arguments_are_the_caller_s(tmp_path):
    """A command sees what it would see in a new process."""
    code = "import os, sys; print(os.getcwd(), os.environ, sys.argv, sys.stdin.read())"
    given = {"cwd": tmp_path, "env": {"HOME": "/nowhere", "NAME": "größer"}, "input": "words"}
    assert run(preload.python(), code, **given) == run(sys.executable, code, **given)


def test_signal_reaches_the_command():
    """SIGTERM to the started program is passed to the command that it runs."""
    code = "import signal; signal.signal(15, lambda *_: exit(7)); print('ready', flush=True); signal.pause()"
    with subprocess.Popen([preload.python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 7


STAYS = """
import os, subprocess, sys
with open("log", "wb") as log:
    command = [sys.executable, "-m", "stays", "größer"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=os.environ | {"HERE": "yes"})
print(child.pid)
"""


def test_background_process_looks_like_python_s(tmp_path):
    """It has its own command line, environment, folder and session, outlives the command, and leaves no zombie."""
    (tmp_path / "stays.py").write_text("import os, time; print(os.environ['HERE'], flush=True); time.sleep(60)")
    process = psutil.Process(int(run(preload.python(), STAYS, cwd=tmp_path)[1]))
    assert [word for word in process.cmdline() if word] == [sys.executable, "-m", "stays", "größer"]
    assert process.environ()["HERE"] == "yes" and process.cwd() == str(tmp_path)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    deadline = time.monotonic() + 60
    while (tmp_path / "log").read_text() != "yes\n" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "log").read_text() == "yes\n" and process.is_running()
    process.terminate()
    process.wait(60)
