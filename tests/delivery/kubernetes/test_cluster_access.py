"""Permissions of the double, its start and its end; a real cluster has other users, so these tests are for the double."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from tests.delivery.kubernetes.cluster_handle import ROOT, open_cluster
from tests.delivery.kubernetes.cluster_objects import config, deployment

KILLED = """
import sys, time
from pathlib import Path
from tests.delivery.kubernetes.cluster_handle import open_cluster
from tests.delivery.kubernetes.cluster_objects import deployment
import yaml
with open_cluster() as cluster:
    image = cluster.image(Path(sys.argv[1]))
    cluster.kubectl("apply", "--server-side", "--filename=-", "-n", "default", stdin=yaml.safe_dump(deployment(image, 2)))
    cluster.kubectl("rollout", "status", "deployment/model", "-n", "default", "--timeout=60s")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def only_the_double(cluster):
    """Skip on a real cluster."""
    if not cluster.double:
        pytest.skip("the users and the process are the double's own")


def test_refusal_names_the_missing_permission(cluster, namespace):
    """It has user, verb, resource and namespace, as in Kubernetes."""
    said = cluster.refused("-n", namespace, "get", "pods", context="outsider")
    assert "(Forbidden)" in said
    assert f'User "outsider" cannot list resource "pods" in API group "" in the namespace "{namespace}"' in said
    options = ["-n", namespace, "apply", "--server-side", "--filename=-"]
    said = cluster.refused(*options, context="reader", stdin=yaml.safe_dump(deployment("r/a@sha256:" + "0" * 64)))
    assert 'deployments.apps "model" is forbidden: User "reader" cannot patch resource "deployments"' in said


def test_tenant_cannot_create_namespaces(cluster, namespace):
    """A user with all rights inside namespaces cannot create one."""
    cluster.kubectl("-n", namespace, "create", "configmap", "mine", context="tenant")
    assert "at the cluster scope" in cluster.refused("create", "namespace", "mine", context="tenant")


def test_auth_can_i(cluster, namespace):
    """`kubectl auth can-i` agrees with the permissions that are enforced."""
    asked = ["-n", namespace, "auth", "can-i", "create", "deployments.apps"]
    answers = [cluster.run(*asked, context=name).stdout.strip() for name in ("staging", "outsider", "reader", "tenant")]
    assert answers == ["yes", "no", "no", "yes"]


def test_invalid_token_is_refused(cluster):
    """An expired token is refused as such, and so is a missing one."""
    assert "must be logged in to the server" in cluster.refused("get", "namespaces", context="expired")


def test_unreachable_context(cluster):
    """The context unreachable fails like a cluster that is down."""
    assert "was refused" in cluster.refused("get", "namespaces", context="unreachable")


def test_requests_are_logged(cluster, namespace):
    """The log of requests has user, method, path and status of each."""
    cluster.kubectl(
        "-n", namespace, "create", "--filename=-", context="production", stdin=yaml.safe_dump(config(a="1"))
    )
    last = [one for one in cluster.requests if one["method"] == "POST"][-1]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert (last["user"], last["path"], last["status"]) == ("production-deployer", path, 201)


def test_deleting_a_namespace_deletes_its_contents(cluster, pod_bundle):
    """Its pods stop, and nothing new can be created in it meanwhile."""
    cluster.kubectl("create", "namespace", "short-lived")
    options = ["-n", "short-lived", "apply", "--server-side", "--filename=-"]
    cluster.kubectl(*options, stdin=yaml.safe_dump(deployment(cluster.image(pod_bundle))))
    cluster.kubectl("-n", "short-lived", "rollout", "status", "deployment/model", "--timeout=60s")
    cluster.kubectl("delete", "namespace", "short-lived", "--wait=false")
    assert "being terminated" in cluster.refused(*options, stdin=yaml.safe_dump(config(a="1")))
    cluster.kubectl("wait", "--for=delete", "namespace/short-lived", "--timeout=30s")
    left = cluster.json("get", "pods,deployments,configmaps", "--all-namespaces")["items"]
    assert not [one for one in left if one["metadata"]["namespace"] == "short-lived"]


def test_no_process_outlives_a_killed_test(pod_bundle):
    """When the process with the fixture is killed, the double exits, and its pods with it."""
    command = [sys.executable, "-c", KILLED, str(pod_bundle)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as test:
        assert test.stdout.readline() == "ready\n"
        family = psutil.Process(test.pid).children(recursive=True)
        services = [one for one in family if "cluster_service.py" in " ".join(one.cmdline())]
        assert len([one for one in services if one.parent() not in services]) == 2  # each may have child processes
        test.send_signal(signal.SIGKILL)
    gone(family)


def test_no_pod_outlives_the_double(pod_bundle):
    """When the double itself is killed, the processes of its pods exit by themselves."""
    with open_cluster() as cluster:
        image = cluster.image(pod_bundle)
        options = ["apply", "--server-side", "--filename=-", "-n", "default"]
        cluster.kubectl(*options, stdin=yaml.safe_dump(deployment(image, 2)))
        cluster.kubectl("rollout", "status", "deployment/model", "-n", "default", "--timeout=60s")
        double = psutil.Process(cluster.pid)
        assert len(double.children()) == 2
        processes = double.children(recursive=True)
        os.kill(cluster.pid, signal.SIGKILL)
        gone(processes)


def gone(family: list[psutil.Process]) -> None:
    """Wait until none of these processes exists."""
    ends = time.monotonic() + 10
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family):
        assert time.monotonic() < ends, family
        time.sleep(0.1)
