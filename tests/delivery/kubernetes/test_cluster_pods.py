"""The double's pods are real: they start, become ready, respond, fail and stop like the processes behind them."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.delivery.kubernetes.cluster_objects import KEY, autoscaler, deployment, service


@pytest.fixture
def through(cluster, namespace):
    """The base URL of a `kubectl proxy` to the test's namespace."""
    with cluster.start("proxy", "--port=0") as proxy:
        port = re.search(r":(\d+)", proxy.stdout.readline()).group(1)
        yield f"http://127.0.0.1:{port}/api/v1/namespaces/{namespace}"
        proxy.terminate()


@pytest.fixture
def golden(pod_bundle):
    """The golden rows of the bundle, and their answers."""
    known = json.loads((pod_bundle / "golden.json").read_text(encoding="utf-8"))
    return known["inputs"], known["expected"]


def pods(get) -> list[dict]:
    """The pods of the test's namespace that are not being deleted."""
    return [pod for pod in get("pods")["items"] if "deletionTimestamp" not in pod["metadata"]]


def until(holds, seconds: float = 60):
    """Wait until a condition holds; returns its value."""
    ends = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < ends, "it never came to be"
        time.sleep(0.1)
    return found


def reasons(get, kind: str = "Pod") -> set[str]:
    """The reasons of the events about objects of a kind."""
    return {one["reason"] for one in get("events")["items"] if one["involvedObject"]["kind"] == kind}


def waits(get) -> set[str]:
    """The waiting reasons of the containers."""
    states = [state for pod in pods(get) for state in pod["status"].get("containerStatuses", [])]
    return {state["state"].get("waiting", {}).get("reason", "") for state in states}


def predict(url: str, rows: list) -> list[requests.Response]:
    """Send each row to a pod or a service."""
    return [requests.post(f"{url}/proxy/predict", json={"features": row}, headers=KEY, timeout=20) for row in rows]


def test_deployment_becomes_pods_that_predict(cluster, apply, rolled_out, get, through, golden, pod_bundle):
    """After its rollout, each pod and the Service, in turn, give the bundle's golden answers."""
    apply(deployment(cluster.image(pod_bundle), 2), service())
    assert "successfully rolled out" in rolled_out()
    rows, expected = golden
    names = [pod["metadata"]["name"] for pod in pods(get)]
    urls = [*(f"{through}/pods/{name}:8000" for name in names), f"{through}/services/model:80"]
    answers = [answer.json()["label"] for url in urls for answer in predict(url, rows[:4])]
    assert len(names) == 2 and answers == [one["label"] for one in expected[:4]] * 3
    counted = [requests.get(f"{url}/proxy/metrics", headers=KEY, timeout=20).text for url in urls[:2]]
    assert ['slipway_requests_total{path="/predict",status="200"} 6.0' in text for text in counted] == [True, True]
    found = get("deployment", "model")
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    assert {"Scheduled", "Pulled", "Started"} <= reasons(get) and "ScalingReplicaSet" in reasons(get, "Deployment")


def test_update_never_has_fewer_pods_than_allowed(cluster, apply, kubectl, get, through, golden, pod_bundle):
    """With maxUnavailable 0 a new image takes over pod by pod, and the Service responds all the time."""
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    apply(deployment(cluster.image(pod_bundle), 2, strategy=rolling), service())
    kubectl("rollout", "status", "deployment/model", "--timeout=80s")
    apply(deployment(cluster.image(pod_bundle, "wrong-answers"), 2, strategy=rolling))
    least, statuses = 2, set()
    while (found := get("deployment", "model")["status"]).get("updatedReplicas", 0) < 2 or found["replicas"] > 2:
        least = min(least, found.get("availableReplicas", 0))
        statuses |= {answer.status_code for answer in predict(f"{through}/services/model:80", golden[0][:2])}
    assert (least, statuses) == (2, {200})


def test_undo_restores_the_previous_revision(cluster, apply, kubectl, rolled_out, get, pod_bundle):
    """`kubectl rollout undo` restores the earlier image as a new revision."""
    first = cluster.image(pod_bundle)
    apply(deployment(first))
    rolled_out()
    apply(deployment(cluster.image(pod_bundle, "wrong-answers")))
    rolled_out()
    kubectl("rollout", "undo", "deployment/model")
    rolled_out()
    found = get("deployment", "model")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == first
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_rollout_without_progress_fails_at_its_deadline(cluster, apply, refused, get, pod_bundle):
    """Pods that never become ready end the rollout in time, with the probe's response in the events."""
    apply(deployment(cluster.image(pod_bundle, "never-ready"), progressDeadlineSeconds=20))
    said = refused("rollout", "status", "deployment/model", "--timeout=80s")
    assert "exceeded its progress deadline" in said
    progressing = {one["type"]: one for one in get("deployment", "model")["status"]["conditions"]}["Progressing"]
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    deadline, messages = time.monotonic() + 30, []
    while not any("statuscode: 503" in message for message in messages) and time.monotonic() < deadline:
        messages = [one["message"] for one in get("events")["items"] if one["reason"] == "Unhealthy"]
        time.sleep(0.5)
    assert any("statuscode: 503" in message for message in messages)


def test_images_listed_at_once_are_all_there(cluster, pod_bundle):
    """Tests list images from several threads, and none is lost."""
    with ThreadPoolExecutor(8) as pool:
        images = list(
            pool.map(lambda number: cluster.catalogue(f"team/model@sha256:{number:064}", pod_bundle), range(1, 65))
        )
    assert {image.rpartition("@")[2] for image in images} <= {
        file.stem for file in (cluster.folder / "catalogue").iterdir()
    }


def test_unpushed_image_is_not_pulled(apply, get):
    """An unknown digest ends in ImagePullBackOff, and events say that it was not found."""
    image = "127.0.0.1:5050/nobody/nothing@sha256:" + "0" * 64
    apply(deployment(image))
    until(lambda: waits(get) == {"ImagePullBackOff"})
    failed = [one["message"] for one in get("events")["items"] if one["reason"] == "Failed"]
    assert any("not found" in message and image in message for message in failed)


def test_crashing_pod_restarts_with_back_off(cluster, apply, kubectl, get, pod_bundle):
    """A container that exits is restarted with back-off; the log of its last run can be read."""
    apply(deployment(cluster.image(pod_bundle, "crash")))
    until(
        lambda: "CrashLoopBackOff" in waits(get) and pods(get)[0]["status"]["containerStatuses"][0]["restartCount"] > 1
    )
    assert "cannot be loaded" in kubectl("logs", "deployment/model")
    assert "BackOff" in reasons(get)


@pytest.fixture
def one_pod(cluster, apply, rolled_out, get, through, pod_bundle):
    """Start one pod with a fault; returns its URL."""

    def start(fault: str) -> str:
        apply(deployment(cluster.image(pod_bundle, fault)))
        rolled_out()
        (pod,) = pods(get)
        return f"{through}/pods/{pod['metadata']['name']}:8000"

    return start


def test_wrong_answers_come_from_a_ready_pod(one_pod, golden):
    """The fault wrong-answers shows in the predictions only."""
    rows, expected = golden
    labels = [answer.json()["label"] for answer in predict(one_pod("wrong-answers"), rows[:5])]
    assert not any(label == right["label"] for label, right in zip(labels, expected, strict=False))


def test_errors_are_returned_and_counted(one_pod, golden):
    """The fault errors fails every twentieth prediction with 500, and the service's own metrics count it."""
    url = one_pod("errors")
    statuses = [answer.status_code for answer in predict(url, (golden[0] * 2)[:40])]
    assert statuses.count(500) == 2
    text = requests.get(f"{url}/proxy/metrics", headers=KEY, timeout=20).text
    assert 'slipway_requests_total{path="/predict",status="500"} 2.0' in text


def test_slow_answers_are_measured(one_pod, golden):
    """The fault slow adds 30 ms to each prediction in the service's own histogram."""
    url = one_pod("slow")
    predict(url, golden[0][:10])
    text = requests.get(f"{url}/proxy/metrics", headers=KEY, timeout=20).text
    seconds = float(re.search(r'slipway_request_seconds_sum{path="/predict"} (\S+)', text).group(1))
    assert 0.3 <= seconds < 3


def test_slow_start_is_waited_for(cluster, apply, rolled_out, get, pod_bundle):
    """A pod that starts slowly becomes ready without a restart."""
    apply(deployment(cluster.image(pod_bundle, "slow-start:3"), progressDeadlineSeconds=600))
    rolled_out()
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods(get)] == [0]


def test_autoscaler_keeps_its_target_within_bounds(cluster, apply, kubectl, get, pod_bundle):
    """A Deployment with too few or too many replicas is scaled to the nearest bound."""
    apply(deployment(cluster.image(pod_bundle, "crash")), autoscaler(2, 3))
    until(lambda: get("deployment", "model")["spec"]["replicas"] == 2)
    kubectl("scale", "deployment/model", "--replicas=5")
    until(lambda: get("deployment", "model")["spec"]["replicas"] == 3)
    assert "SuccessfulRescale" in reasons(get, "HorizontalPodAutoscaler")


def test_deleted_pod_is_replaced(cluster, apply, rolled_out, kubectl, get, pod_bundle):
    """The ReplicaSet creates another pod, and the old process stops within its grace period."""
    apply(deployment(cluster.image(pod_bundle)))
    rolled_out()
    (old,) = pods(get)
    kubectl("delete", "pod", old["metadata"]["name"], "--wait")
    new = until(lambda: pods(get))
    rolled_out()
    assert old["metadata"]["name"] not in {pod["metadata"]["name"] for pod in new}


def test_stopping_pod_responds_during_its_pre_stop(cluster, apply, rolled_out, kubectl, through, get, pod_bundle):
    """From its deletion on a pod is out of its Service, but it responds until preStop is over."""
    wanted = deployment(cluster.image(pod_bundle))
    sleep = {"preStop": {"sleep": {"seconds": 25}}}
    wanted["spec"]["template"]["spec"]["containers"][0]["lifecycle"] = sleep
    apply(wanted, service())
    rolled_out()
    (pod,) = pods(get)
    name = pod["metadata"]["name"]
    kubectl("scale", "deployment/model", "--replicas=0")
    until(lambda: pods(get) == [])
    assert requests.get(f"{through}/services/model:80/proxy/health", timeout=20).status_code == 503
    assert requests.get(f"{through}/pods/{name}:8000/proxy/health", timeout=20).status_code == 200
    kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=60s")


def test_dependents_of_a_deployment_are_deleted(cluster, apply, kubectl, get, pod_bundle):
    """Deleting a Deployment deletes its ReplicaSets and pods; orphans stay, and the next one with that selector adopts them."""
    apply(deployment(cluster.image(pod_bundle, "crash")))
    (orphan,) = until(lambda: pods(get))
    kubectl("delete", "deployment", "model", "--cascade=orphan")
    until(lambda: "ownerReferences" not in get("replicasets")["items"][0]["metadata"])
    apply(deployment(cluster.image(pod_bundle, "crash")))
    until(lambda: get("deployment", "model")["status"].get("replicas") == 1)
    assert [pod["metadata"]["name"] for pod in pods(get)] == [orphan["metadata"]["name"]]
    kubectl("delete", "deployment", "model", "--cascade=foreground", "--wait")
    until(lambda: get("replicasets")["items"] == get("pods")["items"] == [])


def test_no_ready_pod_gives_503(cluster, apply, through, get, pod_bundle):
    """A Service without ready pods, and a port that no container has, return a Status 503."""
    apply(deployment(cluster.image(pod_bundle, "never-ready")), service())
    (pod,) = until(lambda: pods(get))
    answers = [f"{through}/services/model:80/proxy/", f"{through}/pods/{pod['metadata']['name']}:9/proxy/"]
    said = [requests.get(url, timeout=20).json() for url in answers]
    assert [one["code"] for one in said] == [503, 503]
    assert said[0]["message"] == 'no endpoints available for service "model"'


def test_pod_needs_its_service_account(cluster, apply, get, pod_bundle):
    """No pod is created for a missing account, and an event says so."""
    wanted = deployment(cluster.image(pod_bundle))
    wanted["spec"]["template"]["spec"]["serviceAccountName"] = "absent"
    apply(wanted)
    until(lambda: "FailedCreate" in reasons(get, "ReplicaSet"))
    assert pods(get) == []


def test_pod_waits_for_its_secrets(cluster, apply, kubectl, get, rolled_out, pod_bundle):
    """A container with a missing Secret waits, an event says so, and it starts when the Secret is created."""
    wanted = deployment(cluster.image(pod_bundle))
    reference = {"secretKeyRef": {"name": "keys", "key": "first"}}
    wanted["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "KEY", "valueFrom": reference}]
    apply(wanted)
    until(lambda: waits(get) == {"CreateContainerConfigError"})
    assert 'Error: secret "keys" not found' in {one["message"] for one in get("events")["items"]}
    kubectl("create", "secret", "generic", "keys", "--from-literal=first=1")
    rolled_out()
