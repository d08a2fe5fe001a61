"""What a deployment refuses before it changes anything, and the messages."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from delivery.targets.kubernetes import target
from pipeline.errors import BusyError, DeployError, SlipwayError
from tests.delivery.kubernetes.target_world import new_world

LEASE = "slipway-delivery"


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory):
    """A model with version 1 in staging."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1, environment="staging")
        yield made


def refused(world, error: type[SlipwayError] = DeployError) -> SlipwayError:
    """Deploy version 2 to staging, which must be refused; staging still serves version 1."""
    with pytest.raises(error) as raised:
        world.deploy(2, environment="staging")
    return raised.value


@pytest.fixture
def double(cluster):
    """Skip on a real cluster: only the double has contexts with few permissions."""
    if not cluster.double:
        pytest.skip("only the double has these contexts")


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("context", "said"),
    [
        ("unreachable", "the cluster of context unreachable cannot be reached"),
        ("expired", "context expired is not logged in"),
        ("reader", 'cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "'),
        ("outsider", 'User "outsider" cannot create resource "leases"'),
    ],
)
def test_missing_access_is_explained(world, context, said, monkeypatch):
    """An unreachable cluster, an expired login and a missing permission are each named."""
    monkeypatch.setenv("SLIPWAY_STAGING_CONTEXT", context)
    assert said in refused(world).what
    monkeypatch.setenv("SLIPWAY_STAGING_CONTEXT", world.cluster.staging)
    assert world.serving("staging").version == "1"


@pytest.mark.usefixtures("double")
def test_permission_in_the_namespace_suffices(world, monkeypatch):
    """An account without any permission outside the namespace can deploy."""
    monkeypatch.setenv("SLIPWAY_STAGING_CONTEXT", "tenant")
    assert world.deploy(1, environment="staging").version == "1"


def test_namespace_of_the_other_environment_is_refused(world):
    """A namespace labelled for production is not used for staging."""
    name = world.namespace("staging")
    world.cluster.kubectl("label", "namespace", name, "slipway/environment=production", "--overwrite")
    try:
        assert f"namespace {name} in context {world.cluster.staging} is production, not staging" in refused(world).what
    finally:
        world.cluster.kubectl("label", "namespace", name, "slipway/environment=staging", "--overwrite")


def test_record_of_the_other_environment_is_refused(world):
    """If the label is not readable, the record names the environment."""
    config = world.get("configmap", "slipway-release", environment="staging")
    record = config["data"]["record"]
    _patch(
        world,
        "configmap",
        "slipway-release",
        {"data": {"record": json.dumps(json.loads(record) | {"environment": "production"})}},
    )
    try:
        assert "is production, not staging" in refused(world).what
    finally:
        _patch(world, "configmap", "slipway-release", {"data": {"record": record}})


def test_damaged_record_is_named(world):
    """The message names the remedy."""
    record = world.get("configmap", "slipway-release", environment="staging")["data"]["record"]
    _patch(world, "configmap", "slipway-release", {"data": {"record": "{"}})
    try:
        error = refused(world)
        assert (
            "ConfigMap slipway-release is damaged" in error.what and "delete deployment/model configmap" in error.then
        )
    finally:
        _patch(world, "configmap", "slipway-release", {"data": {"record": record}})


def test_foreign_objects_in_the_record_are_not_applied(world):
    """Write access to the ConfigMap cannot make the deploying account grant rights, or work in another namespace."""
    data = world.get("configmap", "slipway-release", environment="staging")["data"]
    objects = json.loads(data["objects"])
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "mine"}}
    away = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns", "namespace": "kube-system"}}
    for stranger, said in ((role, "RoleBinding mine"), (away, "Service dns")):
        _patch(world, "configmap", "slipway-release", {"data": {"objects": json.dumps([*objects, stranger])}})
        try:
            assert f"holds {said}, which no release created" in refused(world).what
        finally:
            _patch(world, "configmap", "slipway-release", {"data": data})
    assert world.images("staging") == {world.release(1).image}


def test_kind_that_cannot_be_restored_is_refused(cluster, tmp_path):
    """An overlay with a kind that no release may contain is refused by name before anything is changed."""
    with new_world(cluster, tmp_path / "world") as made:
        job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: once}\n"
        (made.root / "k8s" / "overlays" / "staging" / "job.yaml").write_text(job, encoding="utf-8")
        made.edit("overlays/staging/kustomization.yaml", "addresses.yaml]", "addresses.yaml, job.yaml]")
        with pytest.raises(DeployError, match="holds Job once, which a release may not bring"):
            made.deploy(1, environment="staging")
        assert not made.get("deployments,services", environment="staging")["items"]


def test_concurrent_deployments_are_kept_apart(world):
    """The second one's message names the holder and the time; the holder's work is not touched."""
    _hold(world, seconds_ago=5)
    error = refused(world, BusyError)
    assert "somebody else is deploying to staging since 20" in error.what and "run this again after" in error.then
    assert _lease(world)["holderIdentity"] == "somebody else"
    assert world.images("staging") == {world.release(1).image}


def test_expired_lease_is_taken_over(world):
    """After its duration a lease can be taken, and it is freed afterwards."""
    _hold(world, seconds_ago=120)
    assert world.deploy(1, environment="staging").version == "1"
    assert not _lease(world).get("holderIdentity")


def test_run_that_lost_its_lease_stops(world, monkeypatch):
    """A machine that slept while another took over does not undo the other's work."""
    monkeypatch.setattr("delivery.targets.kubernetes.lease.SECONDS", 2)
    rules = world.with_canary(replay=0)
    taken = []

    def take(*_):
        if not taken:
            _hold(world, seconds_ago=0)
            taken.append(True)

    monkeypatch.setattr("delivery.targets.kubernetes.rollout.prove_pod", take)
    monkeypatch.setattr("delivery.targets.kubernetes.rollout.complete", lambda _: False)
    error = refused(rules, BusyError)
    assert "another run took over staging" in error.what
    assert _lease(world)["holderIdentity"] == "somebody else"
    assert world.images("staging") >= {world.release(2).image}
    monkeypatch.undo()


def test_manifest_with_an_unknown_field_is_named(cluster, tmp_path):
    """And nothing remains of a first release with it."""
    with new_world(cluster, tmp_path / "world") as made:
        made.edit("base/deployment.yaml", "revisionHistoryLimit: 5", "revisionHistoryLimits: 5")
        with pytest.raises(DeployError, match=r"a manifest is not valid: .*revisionHistoryLimits") as raised:
            made.deploy(1, environment="staging")
        assert "k8s/" in raised.value.then
        assert target.serving("staging", made.settings) is None
        assert not made.get("deployments,services", environment="staging")["items"]


def _patch(world, kind: str, name: str, change: dict) -> None:
    world.kubectl("patch", kind, name, "--type=merge", "--patch", json.dumps(change), environment="staging")


def _lease(world) -> dict:
    return world.get("lease", LEASE, environment="staging")["spec"]


def _hold(world, seconds_ago: float) -> None:
    """Make another holder have the lease, renewed this long ago."""
    moment = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "somebody else", "leaseDurationSeconds": 60, "acquireTime": moment, "renewTime": moment}
    _patch(world, "lease", LEASE, {"spec": spec})
