"""Damaged state files of commands: messages that name file and remedy, never a traceback."""

import json
from datetime import UTC, datetime

import pytest
import requests

from delivery.targets import docker
from delivery.targets.kubernetes import lease, restore
from pipeline.errors import DeployError, RegistryError
from pipeline.registry import mlflow_server
from pipeline.registry.embedded import oci


@pytest.mark.parametrize("content", [b"\xff\xfe", "schlüssel".encode()])
def test_damaged_key_file_is_named(monkeypatch, tmp_path, content):
    """For an environment's generated key and MLflow's webhook key, the message has the remedy when they are not text."""
    monkeypatch.setattr(docker, "ROOT", tmp_path)
    monkeypatch.setattr(docker, "STATE", tmp_path / ".slipway")
    (tmp_path / ".slipway").mkdir()
    (tmp_path / ".slipway" / "staging.key").write_bytes(content)
    with pytest.raises(DeployError, match=r"\.slipway/staging\.key is damaged: it is not a key") as told:
        docker._generated("staging")
    assert "remove it" in told.value.then
    (tmp_path / "webhook.key").write_bytes(content)
    monkeypatch.setattr(mlflow_server, "ROOT", tmp_path)
    monkeypatch.setattr(mlflow_server, "KEY", tmp_path / "webhook.key")
    with pytest.raises(RegistryError, match=r"webhook\.key is damaged: it is not a key"):
        mlflow_server._webhook_key()


@pytest.mark.parametrize(
    "times",
    [
        {},
        {"renewTime": "soon", "leaseDurationSeconds": 60},
        {"renewTime": 7, "leaseDurationSeconds": 60},
        {"renewTime": "2026-01-01T00:00:00Z", "leaseDurationSeconds": 10**18},
        {"renewTime": "2026-01-01T00:00:00Z", "leaseDurationSeconds": "x"},
    ],
)
def test_lease_with_damaged_times_has_expired(times):
    """It may be taken over, once it was observed unchanged."""
    assert lease._free({"spec": {"holderIdentity": "somebody", **times}})


def test_renewed_lease_is_kept():
    """A live holder keeps it, with and without fractions of a second."""
    for moment in (datetime.now(UTC).strftime(lease.TIME), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")):
        spec = {"holderIdentity": "somebody", "renewTime": moment, "leaseDurationSeconds": 60}
        assert not lease._free({"spec": spec})


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"record": "{"},
        {"record": "[]", "objects": "[]"},
        {"record": "{}", "objects": "{}"},
        {"record": "{}", "objects": "[7]"},
        {"record": "[" * 100_000, "objects": "[]"},
    ],
)
def test_damaged_config_map_is_named(data):
    """The cluster's record with any other JSON is named, with the remedy."""
    config_map = {"metadata": {"namespace": "n", "name": restore.NAME}, "data": data}
    with pytest.raises(DeployError, match="ConfigMap slipway-release is damaged") as told:
        restore.read(json.loads(json.dumps(config_map)))
    assert "delete deployment/model" in told.value.then


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"layers": ["x"]},
        {"layers": [{"digest": 7, "size": 1}]},
        {"layers": [{"digest": "sha256:0", "size": "big"}]},
        {"layers": [{"digest": "sha256:0", "size": 1, "annotations": None}]},
        {"annotations": ["by"]},
    ],
)
def test_foreign_manifest_is_refused(monkeypatch, change):
    """A manifest under a tag of the embedded MLflow with other layers or annotations was not written by the pipeline."""
    manifest = json.loads(oci.manifest([{"digest": "sha256:0", "size": 1}], {"by": "x"}))

    def answers(content):
        answer = requests.Response()
        answer.status_code, answer._content = 200, json.dumps(content).encode()
        return lambda *_, **__: answer

    store = oci.Repository("127.0.0.1:1/nobody/mlflow")
    monkeypatch.setattr(store, "_manifest", answers(manifest))
    assert store.get("state")[1] == manifest
    monkeypatch.setattr(store, "_manifest", answers(manifest | change))
    with pytest.raises(RegistryError, match="holds something that was not put there by the pipeline"):
        store.get("state")


def test_manifest_is_put_again_while_another_run_uploads_its_blob(monkeypatch):
    """A registry may not know a blob for an instant; a manifest that is wrong in another way is not put again."""
    said = ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", ""]

    def request(*_, **__):
        code = said.pop(0)
        answer = requests.Response()
        answer.status_code, answer._content = 400 if code else 201, json.dumps({"errors": [{"code": code}]}).encode()
        return answer

    store = oci.Repository("127.0.0.1:1/nobody/mlflow", waits=(0, 0))
    monkeypatch.setattr(store.client.session, "request", request)
    store.put("state", b"{}")
    assert said == []
    said += ["MANIFEST_INVALID", ""]
    with pytest.raises(RegistryError, match="MANIFEST_INVALID"):
        store.put("state", b"{}")
    assert said == [""]
