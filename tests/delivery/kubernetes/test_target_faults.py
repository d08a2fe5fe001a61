"""A release that is not fit for production is seen there, undone, and told with its reason; what served goes on serving."""

import _thread
import json
import re
import threading

import pytest

from delivery.targets.kubernetes import pods, rollout
from pipeline.errors import DeployError
from tests.delivery.kubernetes.target_world import new_world


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory):
    """A model whose version 1 is in production; every test leaves it so."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1)
        made.wait_for_pods(3)
        yield made


def refused(world, version: int, fault: str, **how) -> str:
    """Deploy what must fail; version 1 is restored in every respect. Returns the error's words."""
    with pytest.raises(DeployError) as raised:
        world.deploy(version, fault, **how)
    assert "version 1 was restored" in raised.value.what
    world.assert_at_rest(1)
    return raised.value.what


@pytest.mark.parametrize("at_once", [False, True])
def test_an_image_that_is_not_in_the_registry_is_named(world, at_once, capsys):
    """The digest that cannot be pulled is named, long before any deadline, whether there is a canary or not."""
    said = refused(world, 2, "absent", at_once=at_once)
    assert f"cannot get its image registry.example/team/model@sha256:{'0' * 64}: Err" in said
    assert "Pulling image" in capsys.readouterr().out


def test_a_release_that_is_never_ready_is_given_up(world, capsys):
    """After ready_seconds the pod is named, and gone; what its probe said is shown once, however often it was said."""
    hasty = world.with_ready_seconds(4)
    assert "was not ready within 4 s" in refused(hasty, 2, "never-ready")
    told = [line for line in capsys.readouterr().out.splitlines() if "Unhealthy: Startup probe failed" in line]
    assert told and len(told) == len(set(told))


def test_a_release_that_falls_over_is_given_up_with_its_last_words(world, capsys):
    """A pod that crashes again and again is given up at once, and what it wrote last is shown."""
    assert "falls over again and again" in refused(world, 2, "crash", at_once=True)
    assert "  | error: the model of this image cannot be loaded" in capsys.readouterr().out


def test_last_words_that_are_no_text_keep_nothing_from_being_restored(world, capsys):
    """A pod may write any bytes; what can be read of them is shown, and what served is restored."""
    assert "falls over again and again" in refused(world, 2, "crash-garbled", at_once=True)
    assert "  | broken: \ufffd" in capsys.readouterr().out


def test_what_cannot_be_shown_keeps_nothing_from_being_restored(world, monkeypatch):
    """Whatever goes wrong while a failure is explained, what served is restored, and the failure's own reason is told."""

    def fail(*_):
        raise ValueError("not a log")

    monkeypatch.setattr(pods, "explain", fail)
    assert "falls over again and again" in refused(world, 2, "crash", at_once=True)


@pytest.mark.parametrize("at_once", [False, True])
def test_wrong_answers_are_seen_at_the_first_pod(world, at_once, capsys):
    """The first pod that does not give the golden answers fails its smoke test, which names the row; no second one is made."""
    # Time passes ten times faster in the double's pods, not in this process.
    world.edit("base/deployment.yaml", "minReadySeconds: 5 ", "minReadySeconds: 100 ")
    said = refused(world.with_canary(steps=[10, 50]), 2, "wrong-answers", at_once=at_once)
    world.edit("base/deployment.yaml", "minReadySeconds: 100 ", "minReadySeconds: 5 ")
    assert "failed: rows as lists: row 0" in said
    told = capsys.readouterr().out
    assert "last lines of pod model-" in told
    assert told.partition("the release failed")[0].count(": Pulling: ") == 1


def test_a_slow_canary_is_aborted(world):
    """A canary that needs far longer for its answers is aborted for its latency."""
    said = refused(world.with_canary(latency_margin_ms=1.0), 2, "slow:0.03")
    assert "the canary was aborted" in said and "times as long on /predict as stable" in said


def test_a_canary_that_errs_is_aborted(world, monkeypatch):
    """A canary that fails 5 % of its requests fails its smoke test; were it to pass that, its error rate aborts it."""
    assert "/predict answered 500" in refused(world, 2, "errors:0.05")
    monkeypatch.setattr(rollout, "prove_pod", lambda *_: None)
    said = refused(world.with_canary(error_margin=0.01), 2, "errors:0.05")
    assert "the canary was aborted" in said and "times as often as stable" in said


def test_too_little_traffic_holds_and_then_aborts(world, capsys):
    """Without golden requests and callers a step cannot be judged: it holds, is aborted after hold_seconds, and all pods are back."""
    world.kubectl("scale", "deployment/model", "--replicas=4")  # as the autoscaler does under load
    world.wait_for_pods(4)
    said = refused(world.with_canary(replay=0, hold_seconds=3), 2, "")
    assert world.get("deployment", "model")["status"]["availableReplicas"] == 4
    world.kubectl("scale", "deployment/model", "--replicas=3")
    assert re.search(r"still undecided after \d+ seconds", said)
    assert "  hold: fewer than 100 requests on one side" in capsys.readouterr().out


def test_a_canary_that_dies_at_its_step_is_aborted(world, monkeypatch):
    """A canary whose pod falls over while it is judged is aborted, though the pod comes back."""
    real = pods.restarts
    monkeypatch.setattr(pods, "restarts", lambda pod: 1 if "canary" in pod["metadata"]["name"] else real(pod))
    assert "fell over" in refused(world, 2, "")


def test_the_keyboard_stops_a_release_and_undoes_it(world, capsys):
    """Ctrl-C while the canary is judged puts back what served before, and says so."""
    timer = threading.Timer(8, _thread.interrupt_main)
    timer.start()
    said = refused(world.with_canary(replay=0), 2, "")
    assert "stopped by the keyboard" in said


def test_a_canary_that_was_aborted_goes_even_when_what_served_does_not_come_back(world, monkeypatch):
    """When restoring fails, the canary is taken away all the same: it was found unfit."""

    def gone(*_):
        raise DeployError("pod model-1 cannot get its image", "")

    monkeypatch.setattr(rollout, "settled", gone)
    with pytest.raises(DeployError, match="version 1 could not be restored: pod model-1 cannot get its image"):
        world.with_canary(replay=0, hold_seconds=2).deploy(2)
    monkeypatch.undo()
    assert [one["metadata"]["name"] for one in world.get("deployments")["items"]] == ["model"]
    world.deploy(1)
    world.assert_at_rest(1)


def test_manifests_come_back_with_the_release(world):
    """A release that fails with changed manifests takes the change away with it."""
    world.edit("base/deployment.yaml", "memory: 192Mi", "memory: 193Mi")
    refused(world, 2, "wrong-answers", at_once=True)
    world.edit("base/deployment.yaml", "memory: 193Mi", "memory: 192Mi")
    (container,) = world.get("deployment", "model")["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["memory"] == "192Mi"


def test_a_bundle_that_is_not_here_is_told_by_version_and_digest(world):
    """On a machine that lacks the bundle of what served before, going back is proven by version and digest."""
    config = world.get("configmap", "slipway-release")
    record = json.loads(config["data"]["record"]) | {"bundle": "/on/another/machine"}
    world.kubectl(
        "patch", "configmap", "slipway-release", "--patch", json.dumps({"data": {"record": json.dumps(record)}})
    )
    assert world.serving()["bundle"] is None
    refused(world, 2, "wrong-answers", at_once=True)


def test_a_first_release_that_fails_is_taken_away(world):
    """Where nothing served before, nothing is left behind, and the error says so."""
    with pytest.raises(DeployError, match="staging served nothing before, so it was taken away again"):
        world.deploy(2, "wrong-answers", environment="staging")
    assert not world.get("deployments,services,hpa,pdb", environment="staging")["items"]
    assert world.serving("staging") is None
