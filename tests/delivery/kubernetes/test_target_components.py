"""Components that change how a release takes over: exact weights by a route, and Argo Rollouts."""

import json
import threading

import pytest

from pipeline.errors import DeployError
from tests.delivery.kubernetes.target_world import new_world


@pytest.fixture
def world(cluster, tmp_path):
    """A model that is not deployed yet, for a cluster with known addresses."""
    with new_world(cluster, tmp_path / "world") as made:
        made.edit("overlays/production/addresses.yaml", ": set-me", ": model.example.com")
        yield made


def switch_on(world, component: str) -> None:
    """Uncomment a component in production's overlay."""
    world.edit(
        "overlays/production/kustomization.yaml", f"# - ../../components/{component}", f"- ../../components/{component}"
    )


def weights(world) -> dict[str, int]:
    """The share of requests of each Service in the route."""
    (rule,) = world.get("httproute", "model")["spec"]["rules"]
    return {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}


def test_route_gives_the_canary_its_exact_share(world, capsys):
    """With the component gateway all stable pods stay; the route gives 10 % to the canary, and nothing afterwards."""
    switch_on(world, "gateway")
    assert world.deploy(1).url == "https://model.example.com"
    world.wait_for_pods(3)
    seen, ended = set(), threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            stable = world.get("deployment", "model")["spec"]["replicas"]
            seen.add((*sorted(weights(world).items()), stable))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        world.with_canary(steps=[10]).deploy(2)
    finally:
        ended.set()
        watcher.join()
    assert "canary: version 2 gets 10 % of the requests to 1 pods" in capsys.readouterr().out
    assert (("model-canary", 10), ("model-stable", 90), 3) in seen
    assert weights(world) == {"model-canary": 0, "model-stable": 100}
    world.assert_at_rest(2)


def test_aborted_canary_gets_no_requests(world):
    """After an abort the route leads to the stable pods alone."""
    switch_on(world, "gateway")
    world.deploy(1)
    world.wait_for_pods(3)
    with pytest.raises(DeployError, match=r"still undecided after \d+ seconds.*version 1 was restored"):
        world.with_canary(replay=0, hold_seconds=2).deploy(2)
    assert weights(world) == {"model-canary": 0, "model-stable": 100}
    world.assert_at_rest(1)


def test_argo_decides_if_enabled(world, capsys):
    """With argo-rollouts our own steps are skipped: a healthy Rollout is recorded, a degraded one undone."""
    switch_on(world, "argo-rollouts")
    good, bad, ended = world.release(2), world.release(3), threading.Event()
    paused: set[str] = set()  # images that stop at a step until all steps are skipped

    def argo() -> None:
        """The status that its controller would write: good for some images, bad for one."""
        while not ended.wait(0.5):
            found = world.cluster.run(
                "-n", world.namespace(), "get", "rollout/model", "deployment/model", "--output=json"
            )
            if found.returncode:
                continue
            rollout, deployment = json.loads(found.stdout)["items"]
            image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
            waits = image in paused and not rollout.get("status", {}).get("promoteFull")
            status = {
                "observedGeneration": str(rollout["metadata"]["generation"]),
                "workloadObservedGeneration": str(deployment["metadata"]["generation"]),
                "phase": "Degraded"
                if image == bad.image
                else "Healthy"
                if there(deployment) and not waits
                else "Progressing",
                "message": "RolloutAborted: metric errors failed" if image == bad.image else "",
                "readyReplicas": 3,
                "currentPodHash": "new",
                "stableRS": "old" if waits else "new",
            }
            change = json.dumps({"status": status})
            world.kubectl("patch", "rollout", "model", "--subresource=status", "--type=merge", "--patch", change)

    def there(deployment: dict) -> bool:
        status = deployment.get("status", {})
        numbers = {status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")}
        return numbers == {deployment["spec"]["replicas"]}

    controller = threading.Thread(target=argo)
    controller.start()
    try:
        world.deploy(1)
        world.deploy(2)
        assert world.serving().image == good.image
        assert "canary" not in capsys.readouterr().out
        with pytest.raises(DeployError, match=r"RolloutAborted: metric errors failed; version 2 was restored"):
            world.deploy(3)
        assert world.images() == {good.image}
        assert world.serving().version == "2"
        paused.add(world.release(1).image)
        assert world.deploy(1, at_once=True).version == "1"
        assert world.get("rollout", "model")["status"]["promoteFull"] is True
    finally:
        ended.set()
        controller.join()
