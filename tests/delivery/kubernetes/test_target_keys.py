"""API keys of an environment: the Secrets that the target creates, finds and refuses."""

import hashlib
import json
import subprocess
import time

import pytest
import requests

from delivery.targets.kubernetes import target
from pipeline.errors import DeployError
from serving.access.keys import make_key
from tests.delivery.kubernetes.target_world import new_world

KEYS, OURS, METRICS = "model-api-keys", "model-pipeline-key", "model-metrics-key"


@pytest.fixture(scope="module")
def world(cluster, tmp_path_factory):
    """A model with version 1 in production, where nobody had configured keys."""
    with new_world(cluster, tmp_path_factory.mktemp("world")) as made:
        made.deploy(1)
        yield made


@pytest.fixture
def empty(cluster, tmp_path, monkeypatch):
    """A model that is not deployed yet."""
    monkeypatch.delenv("SLIPWAY_KEY", raising=False)
    with new_world(cluster, tmp_path / "world") as made:
        yield made


def hashed(key: str) -> str:
    """A key's hash, as the service stores it."""
    return hashlib.sha256(key.encode()).hexdigest()


def make_secret(world, name: str, entry: str, text: str, environment: str = "production") -> None:
    """Create a Secret in the environment's namespace, as a person would."""
    space = world.namespace(environment)
    if world.cluster.run("get", "namespace", space).returncode:
        world.cluster.kubectl("create", "namespace", space)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {entry: text}}
    world.kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(secret), environment=environment
    )


def test_first_release_creates_keys_for_delivery_and_prometheus(world):
    """Three Secrets: the lines with hashes, which pods mount, and each plain key by itself, in no pod."""
    pipeline, metrics = world.secret(OURS, "key"), world.secret(METRICS, "key")
    assert world.secret(KEYS, "keys").splitlines() == [
        f"pipeline predict,metrics {hashed(pipeline)}",
        f"prometheus metrics {hashed(metrics)}",
    ]
    for pod in world.get("pods")["items"]:
        mounted = {one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one}
        assert mounted == {KEYS}
        text = json.dumps(pod)
        assert pipeline not in text and metrics not in text


def test_keys_are_required_and_limited_by_scope(world):
    """401 without a key; Prometheus' key reads /metrics and cannot predict."""
    bearer = {"Authorization": f"Bearer {world.secret(METRICS, 'key')}"}
    with target.reach("production", world.settings) as url:
        assert requests.post(f"{url}/predict", json={}, timeout=10).status_code == 401
        assert requests.get(f"{url}/metrics", timeout=10).status_code == 401
        # The API server's proxy drops Authorization, so the key is in the other header.
        shown = {"X-API-Key": bearer["Authorization"]}
        assert requests.get(f"{url}/metrics", headers=shown, timeout=10).status_code == 200
        assert requests.post(f"{url}/predict", json={}, headers=shown, timeout=10).status_code == 403


def test_next_release_reads_its_key_from_the_cluster(world, capsys):
    """Without settings, canary, smoke test and integration tests use the key, and no output contains it."""
    key = world.secret(OURS, "key")
    world.deploy(2)
    assert world.serving().version == "2" and world.secret(OURS, "key") == key
    assert target.key("production", world.settings) == key
    said = capsys.readouterr()
    assert key not in said.out + said.err


def test_printed_command_reads_the_key_from_the_cluster(world):
    """In a shell, the printed line gives the key."""
    words = target.key_in_shell("production", world.settings)
    done = subprocess.run(["sh", "-c", f'printf %s "{words}"'], capture_output=True, text=True, timeout=60)
    assert done.stdout == world.secret(OURS, "key")


def test_keys_change_in_running_pods(world):
    """A line added to the Secret is accepted by running pods, and a removed one no longer."""
    lines, (key, line) = world.secret(KEYS, "keys"), make_key("billing", "predict")
    row = json.loads((world.release(1).bundle / "golden.json").read_text(encoding="utf-8"))["inputs"][0]
    before = {pod["metadata"]["name"] for pod in world.get("pods")["items"]}
    with target.reach("production", world.settings) as url:
        for text, wanted in ((f"{lines}{line}\n", 200), (lines, 401)):
            make_secret(world, KEYS, "keys", text)
            deadline = time.monotonic() + 60
            while (
                requests.post(
                    f"{url}/predict", json={"features": row}, headers={"X-API-Key": key}, timeout=10
                ).status_code
                != wanted
            ):
                assert time.monotonic() < deadline, f"it never answered {wanted}"
                time.sleep(0.2)
    # No pod is new; those of a finished canary may have ended meanwhile.
    after = {pod["metadata"]["name"] for pod in world.get("pods")["items"]}
    assert after and after <= before


def test_missing_delivery_key_is_refused_with_the_line_to_add(empty):
    """If somebody created the Secret by hand, the message comes before anything is applied; once the line is added, delivery continues."""
    _, line = make_key("billing", "predict")
    make_secret(empty, KEYS, "keys", f"{line}\n", "staging")
    with pytest.raises(DeployError) as raised:
        empty.deploy(1, environment="staging")
    key = empty.secret(OURS, "key", "staging")
    wanted = f"pipeline predict,metrics {hashed(key)}"
    assert f"add this line to it: {wanted}" in raised.value.then and key not in str(raised.value)
    assert not empty.get("deployments,services", environment="staging")["items"]
    make_secret(empty, KEYS, "keys", f"{line}\n{wanted}\n", "staging")
    assert empty.deploy(1, environment="staging").version == "1"
    assert empty.secret(KEYS, "keys", "staging") == f"{line}\n{wanted}\n"


def test_delivery_key_without_scopes_is_refused(empty):
    """Delivery reads metrics: a line that allows only predictions is named."""
    key, line = make_key("pipeline", "predict")
    make_secret(empty, OURS, "key", key, "staging")
    make_secret(empty, KEYS, "keys", line, "staging")
    with pytest.raises(DeployError, match="lacks the scope metrics in Secret model-api-keys"):
        empty.deploy(1, environment="staging")


def test_run_killed_between_two_secrets_is_continued(empty):
    """An existing plain key is kept, and its hash is written."""
    key, _ = make_key("pipeline", "predict")
    make_secret(empty, OURS, "key", key, "staging")
    empty.deploy(1, environment="staging")
    assert hashed(key) in empty.secret(KEYS, "keys", "staging")


def test_key_from_the_environment_is_used(empty, monkeypatch):
    """With SLIPWAY_KEY, whose line is in the Secret, no Secret for delivery is created."""
    key, line = make_key("ci", "predict,metrics")
    make_secret(empty, KEYS, "keys", line, "staging")
    monkeypatch.setenv("SLIPWAY_KEY", key)
    empty.deploy(1, environment="staging")
    assert OURS not in [one["metadata"]["name"] for one in empty.get("secrets", environment="staging")["items"]]


def test_secret_store_must_have_the_lines_first(empty):
    """With the component api-keys we create only the two plain keys, and print the lines that the store needs."""
    empty.edit("overlays/staging/addresses.yaml", ": set-me", ": filled-in")
    empty.edit("overlays/staging/kustomization.yaml", "# - ../../components/api-keys", "- ../../components/api-keys")
    with pytest.raises(DeployError, match="come from your secret store") as raised:
        empty.deploy(1, environment="staging")
    lines = [
        f"pipeline predict,metrics {hashed(empty.secret(OURS, 'key', 'staging'))}",
        f"prometheus metrics {hashed(empty.secret(METRICS, 'key', 'staging'))}",
    ]
    assert all(line in raised.value.then for line in lines)
    names = {one["metadata"]["name"] for one in empty.get("secrets", environment="staging")["items"]}
    assert {OURS, METRICS} <= names and KEYS not in names
    make_secret(empty, KEYS, "keys", "\n".join(lines), "staging")  # as External Secrets would
    assert empty.deploy(1, environment="staging").version == "1"
    assert empty.get("externalsecret", KEYS, environment="staging")["metadata"]


@pytest.mark.parametrize("name", [KEYS, OURS])
def test_malformed_secret_is_named(empty, name):
    """A Secret without the expected text is named."""
    make_secret(empty, name, "something", "else", "staging")
    with pytest.raises(DeployError, match=f"Secret {name} in namespace {empty.namespace('staging')} has no text under"):
        empty.deploy(1, environment="staging")


def test_command_on_the_log_is_shown_to_be_run(world):
    """Delivery does not execute commands in pods; the message has the whole command with the subject quoted."""
    with pytest.raises(DeployError) as raised:
        target.on_log("production", world.settings, ["serving.log.store", "delete-subject", "--subject=a customer; rm"])
    assert (
        f"--namespace {world.namespace()} exec --stdin deployment/model -- python -m serving.log.store delete-subject "
        "'--subject=a customer; rm'" in raised.value.then
    )
