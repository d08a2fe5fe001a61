"""Releases on a cluster: the first one, the next through the canary under load, and the rollback."""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import requests

from delivery.targets.kubernetes import target
from tests.delivery.kubernetes.target_world import ROOT


def test_first_release_creates_its_namespace(world):
    """The namespace has its environment's label, version 1 serves by digest, and the record says so."""
    namespace = world.cluster.json("get", "namespace", world.namespace())
    assert namespace["metadata"]["labels"]["slipway/environment"] == "production"
    expected = world.release(1)
    served = world.serving()
    assert (served.name, served.version, served.digest) == (expected.name, "1", expected.digest)
    assert (served.image, served.local_bundle) == (expected.image, expected.bundle)
    assert served.url == f"http://model.{world.namespace()}"
    record = json.loads(world.get("configmap", "slipway-release")["data"]["record"])
    assert record["version"] == "1" and record["environment"] == "production"
    assert target.serving("staging", world.settings) is None
    world.assert_at_rest(1)


def test_integration_tests_pass_through_the_api_server(world):
    """A URL of this machine leads to a pod, and every integration test passes through it."""
    with target.reach("production", world.settings) as url:
        assert requests.get(f"{url}/model/info", timeout=5).json()["version"] == "1"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/integration"],
            cwd=ROOT,
            env=os.environ
            | {"SLIPWAY_URL": url, "SLIPWAY_BUNDLE": str(world.release(1).bundle)}
            | {"SLIPWAY_KEY": target.key("production", world.settings)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/readyz", timeout=5)


def test_clients_continue_when_pods_are_replaced(world):
    """The clients' URL leads to whatever pods exist, also after all the first ones are gone."""
    with target.reach("production", world.settings, as_callers=True) as url:
        world.kubectl("delete", "pods", "-l", "slipway/track=stable", "--wait=true")
        world.wait_for_pods(3)
        assert requests.get(f"{url}/model/info", timeout=5).json()["version"] == "1"


def test_next_release_takes_over_step_by_step(world, capsys):
    """Under constant load, version 2 gets 1 of 4 pods, 2 of 4, then all; every request gets 200 with one of the two versions."""
    stepwise = world.with_canary(steps=[10, 50])
    answers, seen, ended = Counter(), set(), threading.Event()
    with world.service() as url:
        callers = [threading.Thread(target=_call, args=(url, world, answers, ended)) for _ in range(2)]
        watcher = threading.Thread(target=_watch_scaler, args=(world, seen, ended))
        for thread in (*callers, watcher):
            thread.start()
        try:
            served = stepwise.deploy(2)
        finally:
            ended.set()
            for thread in (*callers, watcher):
                thread.join()
    said = capsys.readouterr().out
    assert "version 2 gets 1 of 4 pods, 25 %" in said and "version 2 gets 2 of 4 pods, 50 %" in said
    assert said.count("  go: ") == 2 and "version 2 gets all pods" in said
    assert served.version == "2"
    assert set(answers) == {(200, "1"), (200, "2")}, answers
    assert answers[200, "1"] > 50 and answers[200, "2"] > 50
    # During the steps the autoscaler was held at the number of stable pods.
    assert {(3, 3), (2, 2)} <= seen
    world.assert_at_rest(2)


def _call(url: str, world, answers: Counter, ended: threading.Event) -> None:
    row = json.loads((world.release(1).bundle / "golden.json").read_text())["inputs"][0]
    key = world.key
    with requests.Session() as session:
        while not ended.is_set():
            answer = session.post(f"{url}/predict", json={"features": row}, headers=key, timeout=30)
            answers[answer.status_code, answer.json().get("model_version")] += 1
            time.sleep(0.05)


def _watch_scaler(world, seen: set, ended: threading.Event) -> None:
    while not ended.wait(0.5):
        spec = world.get("hpa", "model")["spec"]
        seen.add((spec["minReplicas"], spec["maxReplicas"]))


def test_rollback_is_immediate(world, capsys):
    """It takes no steps: the pods are replaced and tested, and the record says version 1."""
    served = world.deploy(1, at_once=True)
    assert served.version == "1" and "canary" not in capsys.readouterr().out
    world.assert_at_rest(1)


def test_same_release_again_restarts_nothing(world, capsys):
    """With the same image there is nothing to compare, and the pods stay."""
    before = sorted(
        pod["metadata"]["name"] for pod in world.get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]
    )
    world.deploy(1)
    assert "canary" not in capsys.readouterr().out
    assert before == sorted(
        pod["metadata"]["name"] for pod in world.get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]
    )


def test_staging_takes_no_steps(world, capsys):
    """It gets all pods at once, and each event is shown once."""
    world.deploy(1, environment="staging")
    capsys.readouterr()
    assert world.deploy(2, environment="staging").version == "2"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert any("Pulling image" in line for line in lines)
    assert len(lines) == len(set(lines))


def test_object_removed_from_the_manifests_is_deleted(world):
    """With the next release."""
    world.edit("base/kustomization.yaml", "  - pdb.yaml\n", "")
    world.deploy(1, at_once=True)
    assert not world.get("pdb")["items"]
    world.edit("base/kustomization.yaml", "  - hpa.yaml\n", "  - hpa.yaml\n  - pdb.yaml\n")
    world.deploy(1, at_once=True)
    assert [one["metadata"]["name"] for one in world.get("pdb")["items"]] == ["model"]
