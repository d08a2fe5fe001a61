"""Prove the Kubernetes target on a real cluster: make one with kind, run the tests that else use a double, remove it.

    make kind
    make kind ARGS="-k canary"

Needs a Docker engine, kind and kubectl. Images go to a registry container beside the cluster, which is removed as well.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.artifacts import ROOT
from pipeline.errors import DeployError, edge
from pipeline.processes import free_port

CLUSTER = "slipway-tests"
REGISTRY = "slipway-tests-registry"
REGISTRY_IMAGE = "registry:2"
# Nodes look for images of localhost:PORT at the registry's own name on kind's network.
CONFIGURATION = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
  - |-
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
"""
HOSTS = '[host."http://{registry}:5000"]\n'


@edge
def main(argv: list[str] | None = None) -> int:
    """Exit with pytest's status; raises DeployError when a tool is missing or the cluster cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    _, further = parser.parse_known_args(argv)  # what is not ours is pytest's
    for tool in ("docker", "kind", "kubectl"):
        if shutil.which(tool) is None:
            raise DeployError(f"{tool} is not installed", f"install {tool}; `make test` needs no cluster")
    with (
        tempfile.TemporaryDirectory(prefix="slipway-tests-") as work,
        registry() as address,
        cluster(Path(work) / "kubeconfig", address) as kubeconfig,
    ):
        environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "SLIPWAY_TEST_CONTEXT": f"kind-{CLUSTER}",
            "SLIPWAY_TEST_REGISTRY": address,
        }
        command = [sys.executable, "-m", "pytest", "tests/delivery/kubernetes", "tests/e2e"]
        return subprocess.run([*command, *further], cwd=ROOT, env=environment).returncode


@contextmanager
def registry() -> Iterator[str]:
    """A registry on a free port of this machine, for as long as the tests run."""
    port = free_port()
    run("docker", "run", "--detach", "--rm", "--name", REGISTRY, "--publish", f"127.0.0.1:{port}:5000", REGISTRY_IMAGE)
    try:
        yield f"localhost:{port}"
    finally:
        run("docker", "rm", "--force", REGISTRY)


@contextmanager
def cluster(kubeconfig: Path, address: str) -> Iterator[Path]:
    """A kind cluster whose nodes pull from the registry; its kubeconfig is a file of its own."""
    there = ["--name", CLUSTER, "--kubeconfig", str(kubeconfig)]
    try:
        run("kind", "create", "cluster", *there, "--config", "-", "--wait", "180s", text=CONFIGURATION)
        run("docker", "network", "connect", "kind", REGISTRY)
        for node in run("kind", "get", "nodes", "--name", CLUSTER).split():
            folder = f"/etc/containerd/certs.d/{address}"
            write = f"mkdir -p {folder} && cat > {folder}/hosts.toml"
            run("docker", "exec", "--interactive", node, "sh", "-c", write, text=HOSTS.format(registry=REGISTRY))
        yield kubeconfig
    finally:
        run("kind", "delete", "cluster", *there)


def run(*command: str, text: str | None = None) -> str:
    """Run a tool and return what it printed; raises DeployError with its last words when it fails."""
    print("+", *command, flush=True)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=900)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise DeployError(f"`{' '.join(command[:3])}` failed: {said[-1] if said else done.returncode}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
