"""The closed loop with a real service, a real log and a real MLflow: alarm, retraining, new version, alarm closed."""

import os
import re
import subprocess
import sys

from pipeline.artifacts import ROOT


def test_the_drill_closes_the_loop():
    """`make drill` ends well: one alarm, one retraining for its reason, version 2, no alarm, and no second retraining."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.drill"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    story = [line[9:] for line in told.splitlines() if re.match(r"day +\d", line)]
    beginnings = (
        "version 1 serves", "callers ask", "the monitor has looked at", "from now on", "ALARM", "the issue would say", "load() adds", "the monitor decides",
        "version 2", "the alarm is closed: ok", "no second retraining",
    )  # fmt: skip
    assert len(story) == len(beginnings)
    assert [line for line, begin in zip(story, beginnings, strict=True) if not line.startswith(begin)] == []
    assert told.rstrip().endswith("The loop is closed.")
