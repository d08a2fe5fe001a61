"""Fixtures of the Kubernetes tests: a cluster, and a namespace for each test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import tools
from tests.delivery.kubernetes.cluster_handle import Cluster, open_cluster
from tests.delivery.kubernetes.target_world import World, new_world
from tests.serving.bundles import make_bundle


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster for all tests of a module: the double, or the real one that KUBECONFIG and SLIPWAY_TEST_CONTEXT name."""
    tools.require("kubectl")
    with open_cluster() as opened:
        yield opened


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory) -> Iterator[World]:
    """A model with version 1 in production, with all its pods; tests that change that restore it."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1)
        made.wait_for_pods(3)
        yield made


@pytest.fixture
def namespace(cluster) -> Iterator[str]:
    """A namespace for one test."""
    name = f"slipway-test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def pod_bundle(tmp_path_factory) -> Path:
    """A small real bundle for pods to serve."""
    return make_bundle("binary", tmp_path_factory.mktemp("pods") / "bundle")


@pytest.fixture
def apply(cluster, namespace):
    """Server-side apply of objects by a manager; returns kubectl's output."""

    def applied(*objects: dict, manager: str = "slipway", force: bool = True, validate: str = "true") -> str:
        forced = ["--force-conflicts"] if force else []
        options = ["--server-side", f"--field-manager={manager}", f"--validate={validate}", *forced, "--filename=-"]
        return cluster.kubectl("-n", namespace, "apply", *options, stdin=yaml.safe_dump_all(objects))

    return applied


@pytest.fixture
def kubectl(cluster, namespace):
    """Run kubectl in the test's namespace."""
    return lambda *arguments, **how: cluster.kubectl("-n", namespace, *arguments, **how)


@pytest.fixture
def get(cluster, namespace):
    """An object or a list of the test's namespace, parsed."""
    return lambda *arguments: cluster.json("-n", namespace, "get", *arguments)


@pytest.fixture
def refused(cluster, namespace):
    """Run a kubectl that must fail in the test's namespace."""
    return lambda *arguments, **how: cluster.refused("-n", namespace, *arguments, **how)


@pytest.fixture
def rolled_out(kubectl):
    """Wait for the Deployment's rollout."""
    return lambda: kubectl("rollout", "status", "deployment/model", "--timeout=80s")
