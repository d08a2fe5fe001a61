"""kubectl with the kubeconfig that `make cluster` writes, as in a deploy job."""

import os
import subprocess
import sys

import pytest
import yaml

from tests.delivery.kubernetes.cluster_handle import ROOT
from tests.delivery.kubernetes.oidc_endpoint import endpoint


@pytest.fixture(autouse=True)
def only_the_double(cluster):
    """Skip on a real cluster, which has other users."""
    if not cluster.double:
        pytest.skip("the users are the double's own")


def keyless(cluster) -> str:
    """The double's kubeconfig with a staging user without credentials."""
    config = yaml.safe_load(cluster.kubeconfig.read_text(encoding="utf-8"))
    config["users"] = [{"name": "staging-deployer", "user": {}}]
    config["contexts"] = [one for one in config["contexts"] if one["name"] == "staging"]
    return yaml.safe_dump(config)


def make_cluster(text: str, folder, **environment: str) -> dict[str, str]:
    """Run `make cluster ENVIRONMENT=staging` as a job; return the environment of the job's later steps."""
    folder.mkdir(exist_ok=True)
    job = {"PATH": os.environ["PATH"], "HOME": str(folder), "RUNNER_TEMP": str(folder), "GITHUB_ACTIONS": "true"}
    job |= {"GITHUB_ENV": str(folder / "env"), "SLIPWAY_KUBECONFIG": text, **environment}
    done = subprocess.run(
        [sys.executable, "-m", "scripts.ci.cluster", "--environment", "staging"],
        cwd=ROOT, env=job, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (folder / "env").read_text(encoding="utf-8").splitlines()
    return job | {lines[at].split("<<")[0]: lines[at + 1] for at in range(0, len(lines), 3)}


def kubectl(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    """Run kubectl in a folder outside this repository."""
    command = ["kubectl", f"--context={environment['SLIPWAY_STAGING_CONTEXT']}", *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)


def test_kubeconfig_with_a_token_reaches_the_cluster(cluster, tmp_path):
    """The variables that it sets work in later steps."""
    later = make_cluster(cluster.kubeconfig.read_text(encoding="utf-8"), tmp_path / "job")
    done = kubectl(later, "get", "namespaces", "--output=name")
    assert done.returncode == 0 and "namespace/default" in done.stdout, done.stderr


def test_github_token_logs_in_without_a_key(cluster, tmp_path):
    """kubectl logs in with the job's OIDC token over TLS, and the cluster sees the right user."""
    with endpoint() as server:
        later = make_cluster(keyless(cluster), tmp_path / "job", **server.environment(), SLIPWAY_OIDC_AUDIENCE="double")
        done = kubectl(later, "get", "namespaces", "--output=name")
        assert done.returncode == 0 and "namespace/default" in done.stdout, done.stderr
        assert set(server.audiences) == {"double"}
    assert cluster.requests[-1]["user"] == "staging-deployer"


def test_untrusted_token_is_refused_by_the_cluster(cluster, tmp_path):
    """A wrong token fails like any wrong login."""
    with endpoint() as server:
        server.token = "token-of-a-stranger"
        later = make_cluster(keyless(cluster), tmp_path / "job", **server.environment())
        assert "must be logged in to the server" in kubectl(later, "get", "namespaces").stderr


def test_missing_token_is_explained_by_kubectl(cluster, tmp_path):
    """When GitHub refuses the token, kubectl prints its message and the needed permission."""
    with endpoint() as server:
        later = make_cluster(keyless(cluster), tmp_path / "job", **server.environment())
        server.faults = [403] * 20
        said = kubectl(later, "get", "namespaces").stderr
    assert "OIDC endpoint answered 403" in said and "id-token: write" in said
