"""A deployment that is killed leaves the cluster in an intermediate state; the next run repairs it first."""

import json
import signal
import subprocess
import time

import pytest

from tests import preload
from tests.delivery.kubernetes.target_world import ROOT, as_json, new_world


def killed(world, version: int, at: str, after: float = 0) -> None:
    """Deploy in a separate process, and kill it `after` seconds from the line that starts with `at`."""
    command = [preload.python(), "-m", "tests.delivery.kubernetes.target_world", as_json(world), str(version), ""]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(at):
            break
    else:
        pytest.fail("".join(said))
    time.sleep(after)
    process.kill()
    process.wait()
    process.stdout.close()
    lease = world.get("lease", "slipway-delivery")["spec"]
    assert lease["holderIdentity"], "it ended before it was killed"
    # A minute passes.
    old = json.dumps({"spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}})
    world.kubectl("patch", "lease", "slipway-delivery", "--type=merge", "--patch", old)


@pytest.mark.parametrize(
    ("at", "after", "left"),
    [
        ("canary: version 2 gets 2 of 4", 1, "canary pods"),
        ("canary: version 2 gets all pods", 2, "a half-finished rollout"),
    ],
)
def test_next_run_repairs_a_killed_one(world, at, after, left, capsys):
    """Wherever it was killed, the current release has a note; the next run restores version 1, and then does its own work."""
    killed(world, 2, at, after)
    served = world.serving()
    assert served.version == "1" and "was interrupted" in served.note
    capsys.readouterr()
    world.deploy(1)
    said = capsys.readouterr().out
    assert "an earlier run was interrupted and left" in said and left in said
    assert said.index("going back to version 1 first") < said.index("applying version 1")
    world.assert_at_rest(1)
    world.wait_for_pods(3)


def test_rollback_needs_no_repair(world, capsys):
    """It directly replaces a half-finished canary, which is gone at the end."""
    killed(world, 2, "  go: ")
    assert "canary pods" in world.serving().note
    world.deploy(3, at_once=True)
    assert "going back to version 1 first" not in capsys.readouterr().out
    world.wait_for_pods(3)
    world.assert_at_rest(3)
    world.deploy(1, at_once=True)


@pytest.mark.parametrize("closed", [False, True], ids=["again", "closed"])
def test_undoing_cannot_be_interrupted(world, closed):
    """Once Ctrl-C has stopped a release, neither another Ctrl-C nor a closed terminal prevents the restoring of version 1."""
    command = [preload.python(), "-m", "tests.delivery.kubernetes.target_world", as_json(world), "2", ""]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _read_until(process, "  go: ")
    process.send_signal(signal.SIGINT)
    _read_until(process, "going back to version 1")
    if closed:
        process.stdout.close()
    else:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=90)
    assert "stopped by the keyboard or a signal; version 1 was restored" in told
    assert ("the previous release is being restored" in told) is not closed
    world.assert_at_rest(1)


def _read_until(process: subprocess.Popen, at: str) -> None:
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(at):
            return
    pytest.fail("".join(said))


def test_release_after_a_repair_uses_the_canary(world, capsys):
    """After a run that was killed while it held the autoscaler, it is compared with the restored release as usual."""
    killed(world, 2, "  go: ")
    world.deploy(3)
    said = capsys.readouterr().out
    assert "an autoscaler with fixed bounds" in said
    assert said.index("going back to version 1 first") < said.index("canary: version 3 gets 2 of 4 pods, 50 %")
    world.assert_at_rest(3)
    world.deploy(1, at_once=True)


def test_killed_first_release_blocks_nobody(cluster, tmp_path):
    """Without a previous release, the next run deploys as if it were the first."""
    with new_world(cluster, tmp_path / "world") as made:
        killed(made, 1, "applying version 1", 1)
        assert made.serving() is None
        assert made.deploy(2).version == "2"
        made.wait_for_pods(3)
        made.assert_at_rest(2)
