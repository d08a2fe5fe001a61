"""A model with its own namespaces in the tests' cluster: releases with and without faults, and the cluster's state."""

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

from delivery.release import CurrentRelease, Release
from delivery.targets.kubernetes import canary, kubectl, lease, manifests, pods, target
from pipeline.settings import Settings, load_settings
from tests.delivery.kubernetes.cluster_handle import Cluster
from tests.serving.bundles import make_bundle, read

ROOT = Path(__file__).resolve().parents[3]
# Verdicts come early, and on less data than in production: these tests are about their consequences.
QUICK = {"steps": [50], "replay": 200, "min_requests": 100, "error_margin": 0.05, "latency_margin_ms": 10.0}


@dataclass(frozen=True)
class World:
    """A model with a unique name, so with its own namespaces; `root` has its manifests and bundles."""

    cluster: Cluster
    root: Path
    settings: Settings

    def release(self, version: int, fault: str = "") -> Release:
        """A version of the model as an image that the cluster can pull; with the fault "absent" it cannot."""
        folder = self.root / f"bundle-{version}"
        if not folder.exists():
            make_bundle("binary", folder, str(version))
        image = (
            f"registry.example/team/model@sha256:{'0' * 64}" if fault == "absent" else self.cluster.image(folder, fault)
        )
        about = read(folder, "release.json")
        return Release(about["name"], str(version), about["digest"], folder, image)

    def deploy(
        self, version: int, fault: str = "", environment: str = "production", at_once: bool = False
    ) -> CurrentRelease:
        """Put a version into an environment, as `make deploy` does once it has bundle and image."""
        return target.release(environment, self.release(version, fault), self.settings, at_once)

    def serving(self, environment: str = "production") -> CurrentRelease | None:
        """The current release of the environment."""
        return target.serving(environment, self.settings)

    def namespace(self, environment: str = "production") -> str:
        """The environment's namespace."""
        return f"{self.settings.name}-{environment}"

    def secret(self, name: str, entry: str, environment: str = "production") -> str:
        """A value of a Secret in the environment."""
        return base64.b64decode(self.get("secret", name, environment=environment)["data"][entry]).decode()

    @property
    def key(self) -> dict[str, str]:
        """The header with delivery's key for production."""
        return {"X-API-Key": self.secret("model-pipeline-key", "key")}

    def kubectl(self, *arguments: str, stdin: str = "", environment: str = "production") -> str:
        """Run kubectl in the environment's namespace."""
        return self.cluster.kubectl("-n", self.namespace(environment), *arguments, stdin=stdin)

    def get(self, *arguments: str, environment: str = "production") -> dict:
        """An object or a list of the environment, parsed."""
        return self.cluster.json("-n", self.namespace(environment), "get", *arguments)

    def images(self, environment: str = "production") -> set[str]:
        """The images of all pods that are not being deleted."""
        pods = self.get("pods", environment=environment)["items"]
        return {pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}

    def assert_at_rest(self, version: int) -> None:
        """Assert the state after a finished run: production serves only this version, without canary, and the autoscaler is free."""
        served = self.serving()
        assert served is not None and served.version == str(version) and not served.note
        assert self.images() == {served.image}
        assert [one["metadata"]["name"] for one in self.get("deployments")["items"]] == ["model"]
        scaler = self.get("hpa", "model")["spec"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
        assert not self.get("lease", "slipway-delivery")["spec"].get("holderIdentity")

    @contextlib.contextmanager
    def service(self) -> Iterator[str]:
        """The URL of production's Service, for clients on this machine."""
        where = kubectl.Cluster("production", self.cluster.production, self.namespace())
        with kubectl.proxy(where) as api:
            yield f"{api}{pods.path(where, 'services', 'model', 80)}"

    def with_canary(self, **rules) -> "World":
        """The same world with other canary settings."""
        return replace(
            self, settings=self.settings.model_copy(update={"canary": self.settings.canary.model_copy(update=rules)})
        )

    def with_ready_seconds(self, seconds: float) -> "World":
        """The same world with another `ready_seconds`."""
        deploy = self.settings.deploy.model_copy(update={"ready_seconds": seconds})
        return replace(self, settings=self.settings.model_copy(update={"deploy": deploy}))

    def wait_for_pods(self, number: int) -> None:
        """Wait until production has this many ready pods: the autoscaler needs a moment."""
        deadline = time.monotonic() + 90
        while self.get("deployment", "model").get("status", {}).get("availableReplicas") != number:
            assert time.monotonic() < deadline, f"there are not {number} pods"
            time.sleep(0.5)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text in its manifests, which must be there."""
        path = self.root / "k8s" / file
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")


def quick(settings: Settings, name: str) -> Settings:
    """Settings for a model of that name with short waits."""
    rules = settings.canary.model_copy(update=QUICK)
    deploy = settings.deploy.model_copy(update={"ready_seconds": 20.0})
    return settings.model_copy(update={"name": name, "canary": rules, "deploy": deploy})


def patch(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, root: Path) -> None:
    """Make the target use this cluster and the manifests under `root`, without long pauses."""
    for name, value in cluster.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(manifests, "render", partial(manifests.render, root=root))
    monkeypatch.setattr(canary, "PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(lease, "STILL_SECONDS", 1)


@contextlib.contextmanager
def new_world(cluster: Cluster, root: Path) -> Iterator[World]:
    """A world that exists for this block."""
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
    """A world as JSON, for another process."""
    return json.dumps(
        {
            "kubeconfig": str(world.cluster.kubeconfig),
            "root": str(world.root),
            "name": world.settings.name,
            "folder": str(world.cluster.folder),
        }
    )


def main() -> None:
    """Deploy to production in this process, which a test may kill; arguments: world, version, fault."""
    import sys

    given = json.loads(sys.argv[1])
    cluster = Cluster(Path(given["kubeconfig"]), "staging", "production", Path(given["folder"]))
    settings = quick(load_settings(ROOT / "tests" / "example" / "pipeline.toml"), given["name"])
    patch(pytest.MonkeyPatch(), cluster, Path(given["root"]))
    os.chdir(ROOT)
    World(cluster, Path(given["root"]), settings).deploy(int(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
