"""Stages that are forked from a process with the imports made, or started afresh where that is not safe."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import preload

SCRIPT = (
    "import sys\nprint('said', sys.argv[1:])\nprint('and on the other', file=sys.stderr)\nsys.exit(int(sys.argv[1]))\n"
)


@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.parametrize("status", [0, 3])
def test_stage_runs_as_its_command_would(tmp_path, monkeypatch, forks, status):
    """Arguments, both outputs and the exit status are those of the command, forked or not."""
    monkeypatch.setattr(preload, "FORKS", forks)
    monkeypatch.setattr(preload, "HEAVY", [])
    preload.prepare()
    (tmp_path / "stage.py").write_text(SCRIPT)
    assert preload.run([str(tmp_path / "stage.py"), str(status)], tmp_path / "log") == status
    said = (tmp_path / "log").read_text()
    assert f"said ['{status}']" in said and "and on the other" in said


def test_module_is_run_by_its_name(tmp_path):
    """`-m` and a module works like a file."""
    assert preload.run(["-m", "scripts.gate", "--help"], tmp_path / "log") == 0
    assert "usage: " in (tmp_path / "log").read_text()


def test_stage_ends_with_the_process_that_started_it(tmp_path):
    """When the chain is killed, the stage under way does not go on by itself."""
    (tmp_path / "stage.py").write_text(
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    (tmp_path / "chain.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom pipeline import preload\n"
        f"if __name__ == '__main__':\n    preload.HEAVY = []\n    preload.run([{str(tmp_path / 'stage.py')!r}], Path({str(tmp_path / 'log')!r}))\n"
    )
    chain = subprocess.Popen(
        [sys.executable, str(tmp_path / "chain.py")], env=os.environ | {"PYTHONPATH": str(Path.cwd())}
    )
    stage = _when(lambda: int((tmp_path / "pid").read_text() or 0) if (tmp_path / "pid").exists() else 0)
    chain.send_signal(signal.SIGKILL)
    chain.wait()
    assert _when(lambda: not psutil.pid_exists(stage) or psutil.Process(stage).status() == psutil.STATUS_ZOMBIE)


def _when(condition):
    """The condition's value once it is true, or its last one after 20 seconds."""
    deadline = time.monotonic() + 20
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value
