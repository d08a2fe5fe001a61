"""Concurrent deployments to one environment: a run that lost the lease changes nothing, and a live lease is never taken."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from delivery.targets.kubernetes import kubectl, lease, pods, rollout
from delivery.targets.kubernetes.kubectl import KubectlError
from pipeline.errors import BusyError
from tests.delivery.kubernetes.target_world import new_world


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory):
    """A model with version 1 in staging."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1, environment="staging")
        yield made


@pytest.fixture
def hurried(monkeypatch):
    """A lease that lasts two seconds."""
    monkeypatch.setattr(lease, "SECONDS", 2)


def hold(world, seconds_ago: float = 0) -> None:
    """Make another holder have the lease, renewed this long ago."""
    moment = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime(lease.TIME)
    spec = {"holderIdentity": "somebody else", "leaseDurationSeconds": 60, "acquireTime": moment, "renewTime": moment}
    change = json.dumps({"spec": spec})
    world.kubectl("patch", "lease", lease.NAME, "--type=merge", "--patch", change, environment="staging")


def spec(world) -> dict:
    """The lease's specification."""
    return world.get("lease", lease.NAME, environment="staging")["spec"]


def give_back(world) -> None:
    """Free the lease, and make version 1 serve."""
    change = '{"spec": {"holderIdentity": ""}}'
    world.kubectl("patch", "lease", lease.NAME, "--type=merge", "--patch", change, environment="staging")
    world.deploy(1, environment="staging")


def failing(error: Exception, times: float):
    """A `_write` whose renewals fail this many times with this error."""
    real, left = lease._write, [times]

    def write(cluster, found, verb="replace", **changes):
        if set(changes) == {"renewTime"} and left[0] > 0:
            left[0] -= 1
            raise error
        return real(cluster, found, verb, **changes)

    return write


@pytest.mark.usefixtures("hurried")
def test_losing_the_lease_stops_the_undoing(world, monkeypatch):
    """What another run may have deployed meanwhile is not replaced by our previous release."""

    def sleep(*_):
        hold(world)
        time.sleep(2)

    monkeypatch.setattr(pods, "explain", sleep)
    with pytest.raises(BusyError, match="another run took over staging"):
        world.deploy(2, "wrong-answers", environment="staging")
    assert spec(world)["holderIdentity"] == "somebody else"
    deployment = world.get("deployment", "model", environment="staging")["spec"]["template"]["spec"]
    assert deployment["containers"][0]["image"] == world.release(2, "wrong-answers").image
    monkeypatch.undo()
    give_back(world)


@pytest.mark.usefixtures("hurried")
def test_lease_not_renewed_in_time_is_lost(world, monkeypatch):
    """After its duration by wall-clock time, another run may have taken it: nothing is changed any more."""
    gone = KubectlError("the cluster cannot be reached", "", "Unreachable")
    monkeypatch.setattr(lease, "_write", failing(gone, float("inf")))
    monkeypatch.setattr(rollout, "complete", lambda _: False)
    with pytest.raises(BusyError, match=r"ran out: not renewed for \d+ s \(the cluster cannot be reached\)"):
        world.deploy(2, environment="staging")
    monkeypatch.undo()
    give_back(world)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "error", [ValueError("half an answer"), KubectlError("kubectl: no answer", "", "Unreachable")], ids=["bug", "net"]
)
def test_failed_renewal_is_retried(world, error, monkeypatch):
    """Whatever the error, the next renewal keeps the lease."""
    where = kubectl.Cluster("staging", world.cluster.staging, world.namespace("staging"))
    monkeypatch.setattr(lease, "_write", failing(error, 1))
    with lease.held(where, "me") as still_ours:
        taken = spec(world)["renewTime"]
        time.sleep(3)
        still_ours()
        assert spec(world)["renewTime"] > taken


@pytest.mark.usefixtures("hurried")
def test_renewal_with_a_lost_response_counts(world, monkeypatch):
    """The lease changed, but by us: it is kept."""
    where, real = kubectl.Cluster("staging", world.cluster.staging, world.namespace("staging")), lease._write
    lost = []

    def write(cluster, found, verb="replace", **changes):
        written = real(cluster, found, verb, **changes)
        if set(changes) == {"renewTime"} and not lost:
            lost.append(True)
            raise KubectlError("kubectl: no answer", "", "Unreachable")
        return written

    monkeypatch.setattr(lease, "_write", write)
    with lease.held(where, "me") as still_ours:
        time.sleep(3)
        still_ours()
    assert lost


def test_renewed_lease_is_not_taken(world):
    """A holder whose clock is two minutes behind ours is recognised as alive."""
    hold(world, seconds_ago=120)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.3):
            hold(world, seconds_ago=120)

    holder = threading.Thread(target=renew)
    holder.start()
    try:
        with pytest.raises(BusyError, match="somebody else is deploying to staging"):
            world.deploy(2, environment="staging")
    finally:
        ended.set()
        holder.join()
    assert spec(world)["holderIdentity"] == "somebody else"
    assert world.images("staging") == {world.release(1).image}
    give_back(world)
