"""A model of its own in the tests' cluster: releases of it, with and without faults, and what the cluster says of them."""

import base64
import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from delivery.release import Release
from delivery.targets.kubernetes import canary, kubectl, lease, manifests, pods, rollout, target
from pipeline.settings import Settings, load_settings
from tests.delivery.kubernetes.cluster_handle import Cluster
from tests.serving.bundles import make_bundle, read

ROOT = Path(__file__).resolve().parents[3]
# Judged as soon as may be, and by less than production would want: these tests are about what follows from a verdict.
QUICK = {"steps": [50], "replay": 200, "min_requests": 100, "error_margin": 0.05, "latency_margin_ms": 10.0}


@dataclass(frozen=True)
class World:
    """A model by a name of its own, so in namespaces of its own; `root` holds its manifests and bundles."""

    cluster: Cluster
    root: Path
    settings: Settings

    def release(self, version: int, fault: str = "") -> Release:
        """A version of the model, as an image that the cluster can pull; with the fault "absent" it cannot."""
        folder = self.root / f"bundle-{version}"
        if not folder.exists():
            make_bundle("binary", folder, str(version))
        image = (
            f"registry.example/team/model@sha256:{'0' * 64}" if fault == "absent" else self.cluster.image(folder, fault)
        )
        about = read(folder, "release.json")
        return Release(about["name"], str(version), about["digest"], folder, image)

    def deploy(self, version: int, fault: str = "", environment: str = "production", at_once: bool = False) -> dict:
        """Put a version into an environment, as `make deploy` does once it has bundle and image."""
        return target.release(environment, self.release(version, fault), self.settings, at_once)

    def serving(self, environment: str = "production") -> dict | None:
        """What the target says that the environment serves."""
        return target.serving(environment, self.settings)

    def namespace(self, environment: str = "production") -> str:
        """Where the environment is."""
        return f"{self.settings.name}-{environment}"

    def secret(self, name: str, entry: str, environment: str = "production") -> str:
        """What a Secret of the environment holds."""
        return base64.b64decode(self.get("secret", name, environment=environment)["data"][entry]).decode()

    @property
    def key(self) -> dict[str, str]:
        """The header that shows delivery's key to production."""
        return {"X-API-Key": self.secret("model-pipeline-key", "key")}

    def kubectl(self, *arguments: str, stdin: str = "", environment: str = "production") -> str:
        """Run kubectl in the environment's namespace."""
        return self.cluster.kubectl("-n", self.namespace(environment), *arguments, stdin=stdin)

    def get(self, *arguments: str, environment: str = "production") -> dict:
        """An object or a list of the environment, as data."""
        return self.cluster.json("-n", self.namespace(environment), "get", *arguments)

    def images(self, environment: str = "production") -> set[str]:
        """The images of all pods that are not on their way out."""
        pods = self.get("pods", environment=environment)["items"]
        return {pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def assert_at_rest(self, version: int) -> None:
        """Production serves this version and nothing else, as after any finished run: no canary, the autoscaler free."""
        served = self.serving()
        assert served is not None and served["version"] == str(version) and "note" not in served
        assert self.images() == {served["image"]}
        assert [one["metadata"]["name"] for one in self.get("deployments")["items"]] == ["model"]
        scaler = self.get("hpa", "model")["spec"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
        assert not self.get("lease", "slipway-delivery")["spec"].get("holderIdentity")

    @contextlib.contextmanager
    def service(self) -> Iterator[str]:
        """The address of production's Service, for callers on this machine."""
        where = kubectl.Cluster("production", self.cluster.production, self.namespace())
        with kubectl.proxy(where) as api:
            yield f"{api}{pods.path(where, 'services', 'model', 80)}"

    def with_canary(self, **rules) -> "World":
        """The same world, with other rules for the canary."""
        return replace(
            self, settings=self.settings.model_copy(update={"canary": self.settings.canary.model_copy(update=rules)})
        )

    def with_ready_seconds(self, seconds: float) -> "World":
        """The same world, where a pod must be ready sooner or later."""
        deploy = self.settings.deploy.model_copy(update={"ready_seconds": seconds})
        return replace(self, settings=self.settings.model_copy(update={"deploy": deploy}))

    def wait_for_pods(self, number: int) -> None:
        """Wait until so many pods serve in production: the autoscaler is not there at once."""
        deadline = time.monotonic() + 90
        while self.get("deployment", "model").get("status", {}).get("availableReplicas") != number:
            assert time.monotonic() < deadline, f"there are not {number} pods"
            time.sleep(0.5)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a text in its manifests that must be there."""
        path = self.root / "k8s" / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


def quick(settings: Settings, name: str) -> Settings:
    """Settings of a model of that name, for tests that cannot wait."""
    rules = settings.canary.model_copy(update=QUICK)
    deploy = settings.deploy.model_copy(update={"ready_seconds": 20.0})
    return settings.model_copy(update={"name": name, "canary": rules, "deploy": deploy})


def patch(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, root: Path) -> None:
    """Have the target work in this cluster, with the manifests under `root`, and without long pauses."""
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(manifests, "render", partial(manifests.render, root=root))
    monkeypatch.setattr(canary, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(lease, "STILL_SECONDS", 1)


@contextlib.contextmanager
def new_world(cluster: Cluster, root: Path) -> Iterator[World]:
    """A world that lives for this block."""
    shutil.copytree(ROOT / "k8s", root / "k8s")
    settings = quick(load_settings(ROOT / "tests" / "example" / "pipeline.toml"), f"model-{uuid.uuid4().hex[:8]}")
    world = World(cluster, root, settings)
    with pytest.MonkeyPatch.context() as monkeypatch:
        patch(monkeypatch, cluster, root)
        try:
            yield world
        finally:
            names = [world.namespace(environment) for environment in ("staging", "production")]
            cluster.run("delete", "namespace", *names, "--ignore-not-found", "--wait=false")


def as_json(world: World) -> str:
    """A world for a process of its own."""
    return json.dumps(
        {
            "kubeconfig": str(world.cluster.kubeconfig),
            "root": str(world.root),
            "name": world.settings.name,
            "folder": str(world.cluster.folder),
        }
    )


def main() -> None:
    """Deploy to production in this process, which a test may kill: arguments are world, version, fault."""
    import sys

    given = json.loads(sys.argv[1])
    cluster = Cluster(Path(given["kubeconfig"]), "staging", "production", Path(given["folder"]))
    settings = quick(load_settings(ROOT / "tests" / "example" / "pipeline.toml"), given["name"])
    patch(pytest.MonkeyPatch(), cluster, Path(given["root"]))
    os.chdir(ROOT)
    World(cluster, Path(given["root"]), settings).deploy(int(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
