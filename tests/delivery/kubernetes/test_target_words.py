"""kubectl's failures are explained, with advice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delivery.targets.kubernetes import kubectl, target
from delivery.targets.kubernetes.kubectl import Cluster
from pipeline.errors import DeployError
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = """
apiVersion: v1
kind: Config
current-context: current
clusters: [{name: gone, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: here, context: {cluster: gone, user: me}}, {name: current, context: {cluster: gone, user: me}}]
users: [{name: me, user: {token: t}}]
"""
SAID = {
    'Error from server (Forbidden): pods is forbidden: User "ci" cannot list resource "pods" in API group "" in the namespace "n"': (
        "Forbidden",
        'no permission in context here: pods is forbidden: User "ci" cannot list resource "pods"',
        "docs/kubernetes.md lists",
    ),
    "error: You must be logged in to the server (Unauthorized)": (
        "Unauthorized",
        "context here is not logged in",
        "log in",
    ),
    "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout": (
        "Unreachable",
        "the cluster of context here cannot be reached: Unable to connect",
        "kubectl --context here",
    ),
    'Error from server (BadRequest): error when creating "STDIN": Deployment in version "v1" cannot be handled as a '
    'Deployment: strict decoding error: unknown field "spec.replica"': (
        "BadRequest",
        'a manifest is not valid: error when creating "STDIN": Deployment in version "v1"',
        "correct it in k8s/",
    ),
    'The Deployment "model" is invalid: spec.replicas: Invalid value: -1': (
        "Invalid",
        "is invalid: spec.replicas",
        "k8s/",
    ),
    'error: resource mapping not found for name: "model": no matches for kind "Rollout" in version "argoproj.io/v1alpha1"': (
        "BadRequest",
        'no matches for kind "Rollout"',
        "needs its operator in the cluster",
    ),
    'Error from server (Conflict): Operation cannot be fulfilled on leases "x"': (
        "Conflict",
        "cannot be fulfilled",
        "again",
    ),
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A kubeconfig with two contexts and an unreachable cluster."""
    (tmp_path / "config").write_text(NOWHERE, encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SLIPWAY_STAGING_CONTEXT", "here")
    monkeypatch.setenv("SLIPWAY_PRODUCTION_CONTEXT", "here")
    monkeypatch.setenv("IMAGE_REPOSITORY", "registry.example/team/model")
    return Cluster("staging", "here", "n")


@pytest.fixture
def settings():
    """The shipped settings."""
    return load_settings(ROOT / "tests" / "example" / "pipeline.toml")


@pytest.mark.parametrize("said", SAID)
def test_refusal_has_reason_and_advice(said):
    """Missing permissions, a missing login and invalid objects are each named, with the next step."""
    reason, what, then = SAID[said]
    error = kubectl.in_words(said, Cluster("staging", "here", "n"))
    assert error.reason == reason and what in error.what and then in error.then


def test_unreachable_cluster_is_reported_quickly(nowhere, settings):
    """Reading the current release names the context that does not respond, within seconds."""
    began = time.monotonic()
    with pytest.raises(DeployError, match="the cluster of context here cannot be reached") as raised:
        target.serving("staging", settings)
    assert time.monotonic() - began < 10
    assert "kubectl --context here" in raised.value.then


def test_current_context_is_never_used(nowhere, settings, monkeypatch):
    """Production without its variable is refused, though the kubeconfig has a current context."""
    monkeypatch.delenv("SLIPWAY_PRODUCTION_CONTEXT")
    assert target.unavailable(settings) == "SLIPWAY_PRODUCTION_CONTEXT not set"
    with pytest.raises(DeployError, match="SLIPWAY_PRODUCTION_CONTEXT is not set, and the current context"):
        target.serving("production", settings)


def test_missing_context_is_refused_by_name(nowhere, settings, monkeypatch):
    """The message lists the contexts that the kubeconfig has."""
    monkeypatch.setenv("SLIPWAY_PRODUCTION_CONTEXT", "prodction")
    with pytest.raises(DeployError, match="is prodction, which is no context") as raised:
        target.serving("production", settings)
    assert "current, here" in raised.value.then


def test_damaged_kubeconfig_is_named(nowhere, settings, tmp_path):
    """A kubeconfig that is not YAML is not taken for one without contexts."""
    (tmp_path / "config").write_text("contexts: [\n", encoding="utf-8")
    with pytest.raises(DeployError, match=r"the kubeconfig cannot be read: .*config"):
        target.serving("staging", settings)


def test_target_needs_contexts_registry_and_kubectl(nowhere, settings, monkeypatch):
    """It says what is missing without contacting the cluster; with all three it can be used."""
    assert target.unavailable(settings) is None
    monkeypatch.delenv("IMAGE_REPOSITORY")
    assert target.unavailable(settings) == "IMAGE_REPOSITORY not set"
    monkeypatch.setenv("IMAGE_REPOSITORY", "registry.example/team/model")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert target.unavailable(settings) == "kubectl is not installed"
    with pytest.raises(DeployError, match="kubectl is not on this machine"):
        target.serving("staging", settings)
    monkeypatch.delenv("SLIPWAY_STAGING_CONTEXT")
    assert target.unavailable(settings) == "SLIPWAY_STAGING_CONTEXT not set"


def test_kubectl_proxy_stops_even_if_we_are_killed(nowhere):
    """The process of `kubectl proxy` exits with the one that started it."""
    code = (
        "import os, time; from delivery.targets.kubernetes import kubectl; from delivery.targets.kubernetes.kubectl import Cluster\n"
        "with kubectl.proxy(Cluster('staging', 'here', 'n')) as api:\n    print(api, flush=True); time.sleep(60)"
    )
    opener = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    port = int(opener.stdout.readline().rpartition(":")[2])
    assert _listens(port)
    opener.kill()
    opener.wait()
    deadline = time.monotonic() + 5
    while _listens(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _listens(port)


def test_kubectl_proxy_leads_to_our_pods_alone(cluster, namespace):
    """Other users of this machine cannot reach secrets or other namespaces through it."""
    where = Cluster("staging", cluster.staging, namespace)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in cluster.environment().items():
            patched.setenv(name, value)
        with kubectl.proxy(where) as api:
            assert _status(api, f"/api/v1/namespaces/{namespace}/pods/model-1:8000/proxy/readyz") == 404
            for path in (
                "/api/v1/namespaces",
                f"/api/v1/namespaces/{namespace}/secrets",
                f"/api/v1/namespaces/{namespace}/pods/model-1",
                "/api/v1/namespaces/other/pods/model-1:8000/proxy/readyz",
                f"/apis/x/api/v1/namespaces/{namespace}/pods/model-1:8000/proxy/readyz",
                f"/api/v1/namespaces/{namespace}/pods/model-1:8000/proxy/../../../secrets",
            ):
                # 301: to the path without the dots, which is refused.
                assert _status(api, path) == (301 if ".." in path else 403), path


def test_kubectl_proxy_survives_many_errors(tmp_path, monkeypatch):
    """More errors than fit into a pipe do not block it, and those of a proxy that never started are shown."""
    program = tmp_path / "kubectl"
    program.write_text(
        "#!/bin/sh\necho 'Starting to serve on 127.0.0.1:1'\n"
        f"head -c 300000 /dev/zero >&2\necho done >{tmp_path}/done\nexec sleep 30\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with kubectl.proxy(Cluster("staging", "here", "n")) as api:
        assert api == "http://127.0.0.1:1"
        deadline = time.monotonic() + 5
        while not (tmp_path / "done").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (tmp_path / "done").exists()
    program.write_text("#!/bin/sh\necho 'error: context \"here\" does not exist' >&2\nexit 1\n")
    with pytest.raises(DeployError, match="does not exist"), kubectl.proxy(Cluster("staging", "here", "n")):
        pass


def _status(api: str, path: str) -> int:
    """The status for a raw path: requests would remove its dots."""
    import http.client

    connection = http.client.HTTPConnection(api.removeprefix("http://"), timeout=10)
    connection.request("GET", path)
    return connection.getresponse().status


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_stop_leaves_the_cluster_alone(nowhere, settings):
    """`make stop` stops what runs on this machine, and does not contact a cluster."""
    assert target.stop("production") is False
    assert os.environ["SLIPWAY_PRODUCTION_CONTEXT"] == "here"
