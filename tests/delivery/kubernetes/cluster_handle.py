"""The cluster for tests: the double, or the real one that KUBECONFIG and SLIPWAY_TEST_CONTEXT name."""

import contextlib
import hashlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.artifacts import write_json
from tests import preload

ROOT = Path(__file__).resolve().parents[3]
DOUBLE = Path(__file__).with_name("cluster")
START_SECONDS = 30


@dataclass(frozen=True)
class Cluster:
    """A cluster with two contexts; `folder` is the double's own, None when the cluster is real."""

    kubeconfig: Path
    staging: str
    production: str
    folder: Path | None = None
    pid: int | None = None  # of the double, for signals

    @property
    def double(self) -> bool:
        """Whether this is the double, which also has the contexts outsider, reader, tenant, expired and unreachable."""
        return self.folder is not None

    def environment(self) -> dict[str, str]:
        """The environment in which kubectl, and our commands, find the cluster."""
        mine = {"SLIPWAY_STAGING_CONTEXT": self.staging, "SLIPWAY_PRODUCTION_CONTEXT": self.production}
        return mine | {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.kubeconfig.parent / "cache")}

    def run(
        self, *arguments: str, context: str = "", stdin: str = "", timeout: float = 90
    ) -> subprocess.CompletedProcess:
        """Run kubectl in a context (default: staging)."""
        command = ["kubectl", f"--context={context or self.staging}", *arguments]
        environment = os.environ | self.environment()
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, env=environment)

    def kubectl(self, *arguments: str, context: str = "", stdin: str = "", timeout: float = 90) -> str:
        """Run a kubectl that must succeed; return its output."""
        done = self.run(*arguments, context=context, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str, context: str = "") -> subprocess.Popen:
        """Start a kubectl in the background, and return it."""
        command = ["kubectl", f"--context={context or self.staging}", *arguments]
        environment = os.environ | self.environment()
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    def json(self, *arguments: str, context: str = "") -> dict:
        """kubectl's parsed output with --output=json."""
        return json.loads(self.kubectl(*arguments, "--output=json", context=context))

    def refused(self, *arguments: str, context: str = "", stdin: str = "") -> str:
        """Run a kubectl that must fail; return its standard error."""
        done = self.run(*arguments, context=context, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def image(self, bundle: Path, fault: str = "", repository: str = "registry.example/team/model") -> str:
        """An image (REPOSITORY@sha256:...) that this cluster can pull: a bundle, and a fault of cluster_service.py.

        A real cluster needs real images: they are built and pushed to SLIPWAY_TEST_REGISTRY.
        """
        if self.double:
            digest = hashlib.sha256(f"{bundle.resolve()} {fault}".encode()).hexdigest()
            return self.catalogue(f"{repository}@sha256:{digest}", bundle, fault)
        from tests.delivery.kubernetes.cluster_real_images import build

        return build(bundle, fault)

    def catalogue(self, image: str, bundle: Path, fault: str = "") -> str:
        """Add an image to the double's catalogue, by its whole name with digest; returns the name."""
        if self.folder is None:
            pytest.skip("only the double takes a list for an image registry")
        # One file per image: tests add images from several threads, and none may be lost.
        file = self.folder / "catalogue" / f"{image.rpartition('@')[2]}.json"
        file.parent.mkdir(exist_ok=True)
        write_json(file, {"bundle": str(bundle.resolve()), "fault": fault})
        return image

    @property
    def requests(self) -> list[dict]:
        """The requests to the double so far: {time, user, method, path, query, status}."""
        if self.folder is None:
            pytest.skip("only the double keeps a list of what it was asked")
        lines = (self.folder / "requests.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@contextlib.contextmanager
def open_cluster() -> Iterator[Cluster]:
    """The real cluster if one is named, else a double that stops with this block or process."""
    context, kubeconfig = os.environ.get("SLIPWAY_TEST_CONTEXT"), os.environ.get("KUBECONFIG")
    if context and kubeconfig:
        yield Cluster(Path(kubeconfig), context, context)
        return
    with tempfile.TemporaryDirectory(prefix="slipway-cluster-") as folder, started(Path(folder)) as process:
        yield Cluster(_kubeconfig(process), "staging", "production", Path(folder), process.pid)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen]:
    """The double in a separate process; it exits when its standard input closes, so also when we are killed."""
    command = [sys.executable, str(DOUBLE), "--folder", str(folder), "--until-end-of-input"]
    pods = os.environ | {"SLIPWAY_TEST_PYTHON": preload.python()}  # which need not make the heavy imports again
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=pods)
    try:
        yield process
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _kubeconfig(process: subprocess.Popen) -> Path:
    """The path that the double prints when it is ready."""
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline().strip() if ready else ""
    assert line, f"the double did not start within {START_SECONDS} s"
    return Path(line)
