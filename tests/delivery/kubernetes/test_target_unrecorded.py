"""A running service without a record is neither replaced nor deleted; objects that must be kept stay."""

import json

import pytest

from delivery.targets.kubernetes import restore
from pipeline.errors import DeployError
from tests.delivery.kubernetes.target_world import new_world

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {key: secret}\n"


@pytest.mark.parametrize("at_once", [False, True])
def test_service_without_a_record_is_not_touched(world, at_once):
    """Without the ConfigMap a release is refused before any change: after a failure, nothing could be restored."""
    config = world.get("configmap", restore.NAME)
    world.kubectl("delete", "configmap", restore.NAME)
    uids = _uids(world)
    with pytest.raises(DeployError, match=f"a service without a record .* runs in namespace {world.namespace()}"):
        world.deploy(2, "wrong-answers", at_once=at_once)
    assert _uids(world) == uids and world.images() == {world.release(1).image}
    with pytest.raises(DeployError):
        world.deploy(2)
    world.kubectl("create", "--filename=-", stdin=json.dumps({**config, "metadata": {"name": restore.NAME}}))
    world.assert_at_rest(1)


def test_advice_for_a_damaged_record_works(cluster, tmp_path):
    """With a damaged ConfigMap, and then without it, following the messages leads to a working release."""
    with new_world(cluster, tmp_path / "world") as made:
        made.deploy(1)
        made.kubectl("patch", "configmap", restore.NAME, "--type=merge", "--patch", '{"data": {"record": "{"}}')
        with pytest.raises(DeployError, match="is damaged") as raised:
            made.deploy(2)
        assert f"delete deployment/model configmap/{restore.NAME}" in raised.value.then
        made.kubectl("delete", "configmap", restore.NAME)
        with pytest.raises(DeployError, match="a service without a record") as raised:
            made.deploy(2)
        assert f"--namespace {made.namespace()} delete deployment model" in raised.value.then
        made.kubectl("delete", "deployment", "model", "--wait=true")
        assert made.deploy(2).version == "2"


def test_failed_first_release_may_be_retried(cluster, tmp_path):
    """Its remains are nobody's service, and its Secrets are never deleted."""
    with new_world(cluster, tmp_path / "world") as made:
        (made.root / "k8s" / "overlays" / "staging" / "keys.yaml").write_text(SECRET, encoding="utf-8")
        made.edit("overlays/staging/kustomization.yaml", "addresses.yaml]", "addresses.yaml, keys.yaml]")
        with pytest.raises(DeployError, match="staging served nothing before, so the release was removed"):
            made.deploy(2, "wrong-answers", environment="staging")
        assert not made.get("deployments", environment="staging")["items"]
        assert made.get("secret", "keys", environment="staging")["metadata"]
        assert made.serving("staging") is None
        assert made.deploy(1, environment="staging").version == "1"


def _uids(world) -> set[str]:
    return {item["metadata"]["uid"] for item in world.get("deployments,services,pods")["items"]}
