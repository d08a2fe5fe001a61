"""A release that is unfit for production is detected, undone and reported with its reason; the previous one continues."""

import _thread
import json
import re
import signal
import threading

import pytest

from delivery.targets.kubernetes import pods, rollout
from pipeline.errors import DeployError


def refused(world, version: int, fault: str, **how) -> str:
    """Deploy a version that must fail, and check that version 1 is restored completely. Returns the error message."""
    with pytest.raises(DeployError) as raised:
        world.deploy(version, fault, **how)
    assert "version 1 was restored" in raised.value.what
    world.assert_at_rest(1)
    return raised.value.what


@pytest.mark.parametrize("at_once", [False, True])
def test_missing_image_is_named(world, at_once, capsys):
    """The digest that cannot be pulled is named long before any deadline, with and without a canary."""
    said = refused(world, 2, "absent", at_once=at_once)
    assert f"cannot get its image registry.example/team/model@sha256:{'0' * 64}: Err" in said
    assert "Pulling image" in capsys.readouterr().out


def test_release_that_is_never_ready_times_out(world, capsys):
    """After ready_seconds the pod is named and removed; its probe's message is shown once."""
    hasty = world.with_ready_seconds(4)
    assert "was not ready within 4 s" in refused(hasty, 2, "never-ready")
    told = [line for line in capsys.readouterr().out.splitlines() if "Unhealthy: Startup probe failed" in line]
    assert told and len(told) == len(set(told))


def test_crashing_release_is_given_up_with_its_log(world, capsys):
    """A pod that crashes repeatedly is given up at once, and its last log lines are shown."""
    assert "crashes again and again" in refused(world, 2, "crash", at_once=True)
    assert "  | error: the model of this image cannot be loaded" in capsys.readouterr().out


def test_binary_log_does_not_prevent_restoring(world, capsys):
    """A pod may log any bytes; the readable part is shown, and the previous release restored."""
    assert "crashes again and again" in refused(world, 2, "crash-garbled", at_once=True)
    assert "  | broken: \ufffd" in capsys.readouterr().out


def test_failing_explanation_does_not_prevent_restoring(world, monkeypatch):
    """Whatever fails while a failure is explained, the previous release is restored, and the original reason reported."""

    def fail(*_):
        raise ValueError("not a log")

    monkeypatch.setattr(pods, "explain", fail)
    assert "crashes again and again" in refused(world, 2, "crash", at_once=True)


@pytest.mark.parametrize("at_once", [False, True])
def test_wrong_answers_are_found_at_the_first_pod(world, at_once, capsys):
    """The first pod without the golden answers fails its smoke test, which names the row; no second pod starts."""
    # Time passes ten times faster in the double's pods, not in this process.
    world.edit("base/deployment.yaml", "minReadySeconds: 5 ", "minReadySeconds: 100 ")
    said = refused(world.with_canary(steps=[10, 50]), 2, "wrong-answers", at_once=at_once)
    world.edit("base/deployment.yaml", "minReadySeconds: 100 ", "minReadySeconds: 5 ")
    assert "failed: rows as lists: row 0" in said
    told = capsys.readouterr().out
    assert "last lines of pod model-" in told
    assert told.partition("the release failed")[0].count(": Pulling: ") == 1


def test_slow_canary_is_aborted(world):
    """A canary with far longer response times is aborted for its latency."""
    said = refused(world.with_canary(latency_margin_ms=1.0), 2, "slow:0.03")
    assert "the canary was aborted" in said and "times as long on /predict as stable" in said


def test_failing_canary_is_aborted(world, monkeypatch):
    """A canary that fails 5 % of its requests fails its smoke test, or else is aborted for its error rate."""
    assert "/predict answered 500" in refused(world, 2, "errors:0.05")
    monkeypatch.setattr(rollout, "prove_pod", lambda *_: None)
    said = refused(world.with_canary(error_margin=0.01), 2, "errors:0.05")
    assert "the canary was aborted" in said and "times as often as stable" in said


def test_too_little_traffic_holds_and_then_aborts(world, capsys):
    """Without requests there is no verdict: the step holds, is aborted after hold_seconds, and all pods are restored."""
    world.kubectl("scale", "deployment/model", "--replicas=4")  # as the autoscaler does under load
    world.wait_for_pods(4)
    said = refused(world.with_canary(replay=0, hold_seconds=3), 2, "")
    assert world.get("deployment", "model")["status"]["availableReplicas"] == 4
    world.kubectl("scale", "deployment/model", "--replicas=3")
    assert re.search(r"still undecided after \d+ seconds", said)
    assert "  hold: fewer than 100 requests on one side" in capsys.readouterr().out


def test_crashing_canary_is_aborted(world, monkeypatch):
    """A canary whose pod crashes while it is judged is aborted, though the pod comes back."""
    real = pods.restarts
    monkeypatch.setattr(pods, "restarts", lambda pod: 1 if "canary" in pod["metadata"]["name"] else real(pod))
    assert "crashed" in refused(world, 2, "")


def test_ctrl_c_undoes_a_release(world, capsys):
    """Ctrl-C during the canary restores the previous release, and a message says so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    timer = threading.Timer(8, _thread.interrupt_main)
    timer.start()
    said = refused(world.with_canary(replay=0), 2, "")
    assert "stopped by the keyboard" in said


def test_aborted_canary_is_removed_even_if_restoring_fails(world, monkeypatch):
    """It was found unfit."""

    def gone(*_):
        raise DeployError("pod model-1 cannot get its image", "")

    monkeypatch.setattr(rollout, "settled", gone)
    with pytest.raises(DeployError, match="version 1 could not be restored: pod model-1 cannot get its image"):
        world.with_canary(replay=0, hold_seconds=2).deploy(2)
    monkeypatch.undo()
    assert [one["metadata"]["name"] for one in world.get("deployments")["items"]] == ["model"]
    world.deploy(1)
    world.assert_at_rest(1)


def test_manifests_are_restored_with_the_release(world):
    """When a release with changed manifests fails, the change is undone, too."""
    world.edit("base/deployment.yaml", "memory: 192Mi", "memory: 193Mi")
    refused(world, 2, "wrong-answers", at_once=True)
    world.edit("base/deployment.yaml", "memory: 193Mi", "memory: 192Mi")
    (container,) = world.get("deployment", "model")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["memory"] == "192Mi"


def test_restoring_without_the_bundle_checks_version_and_digest(world):
    """On a machine without the previous release's bundle, these two prove that it is back."""
    config = world.get("configmap", "slipway-release")
    record = json.loads(config["data"]["record"]) | {"bundle": "/on/another/machine"}
    world.kubectl(
        "patch", "configmap", "slipway-release", "--patch", json.dumps({"data": {"record": json.dumps(record)}})
    )
    assert world.serving().local_bundle is None
    refused(world, 2, "wrong-answers", at_once=True)


def test_failed_first_release_is_removed(world):
    """Without a previous release nothing remains, and the error says so."""
    with pytest.raises(DeployError, match="staging served nothing before, so the release was removed"):
        world.deploy(2, "wrong-answers", environment="staging")
    assert not world.get("deployments,services,hpa,pdb", environment="staging")["items"]
    assert world.serving("staging") is None
