"""Two machines that deploy to one environment: whoever lost the lease changes nothing any more, and a live one is never taken."""

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
    """A model whose version 1 is in staging."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1, environment="staging")
        yield made


@pytest.fixture
def hurried(monkeypatch):
    """A lease that is good for two seconds."""
    monkeypatch.setattr(lease, "SECONDS", 2)


def hold(world, seconds_ago: float = 0) -> None:
    """Have somebody else hold the lease, renewed so long ago."""
    moment = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime(lease.TIME)
    spec = {"holderIdentity": "somebody else", "leaseDurationSeconds": 60, "acquireTime": moment, "renewTime": moment}
    change = json.dumps({"spec": spec})
    world.kubectl("patch", "lease", lease.NAME, "--type=merge", "--patch", change, environment="staging")


def spec(world) -> dict:
    """What the lease says."""
    return world.get("lease", lease.NAME, environment="staging")["spec"]


def give_back(world) -> None:
    """Have nobody hold the lease, and version 1 serve."""
    change = '{"spec": {"holderIdentity": ""}}'
    world.kubectl("patch", "lease", lease.NAME, "--type=merge", "--patch", change, environment="staging")
    world.deploy(1, environment="staging")


def failing(error: Exception, times: float):
    """A `_write` whose renewals fail with this error so many times."""
    real, left = lease._write, [times]

    def write(cluster, found, verb="replace", **changes):
        if set(changes) == {"renewTime"} and left[0] > 0:
            left[0] -= 1
            raise error
        return real(cluster, found, verb, **changes)

    return write


@pytest.mark.usefixtures("hurried")
def test_a_lease_that_is_lost_while_a_failure_is_undone_ends_that(world, monkeypatch):
    """What another run may have put there meanwhile is not replaced by what served before ours."""

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
def test_a_lease_that_could_not_be_renewed_in_time_is_not_ours(world, monkeypatch):
    """Once its time is over, by the clock on the wall, another run may have taken it: nothing is changed any more."""
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
def test_a_renewal_that_fails_is_tried_again(world, error, monkeypatch):
    """Whatever a renewal fails of, the next one keeps the lease."""
    where = kubectl.Cluster("staging", world.cluster.staging, world.namespace("staging"))
    monkeypatch.setattr(lease, "_write", failing(error, 1))
    with lease.held(where, "me") as still_ours:
        taken = spec(world)["renewTime"]
        time.sleep(3)
        still_ours()
        assert spec(world)["renewTime"] > taken


@pytest.mark.usefixtures("hurried")
def test_a_renewal_whose_answer_was_lost_is_our_own(world, monkeypatch):
    """The lease moved, but by us: it is kept."""
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


def test_a_lease_that_is_renewed_is_not_taken_however_old_it_looks(world):
    """A holder whose clock is two minutes behind ours is seen to be alive."""
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
