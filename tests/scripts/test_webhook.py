"""`make webhook` and its effects, with a fork's MLflow server and its real webhooks."""

import json
import re
import secrets
import time

import pytest

from pipeline.processes import free_port
from pipeline.registry.embedded import snapshot
from tests.delivery.relay.relays import relay_to, server, wait

NAME = "breast-cancer"
SECRET = secrets.token_hex(16)
ENVIRONMENT = {"SLIPWAY_RELAY_SECRET": SECRET, "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture(scope="module")
def mlflow(fork):
    """The fork's MLflow, with two versions of its model."""
    start(fork)
    client = fork.mlflow()
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, "s3://nowhere/model")
    return fork


@pytest.fixture
def relay(mlflow):
    """A relay to a GitHub that accepts everything; `github` has its requests."""
    with server(204) as github, relay_to(github, uri(mlflow), model=NAME, secret=SECRET) as made:
        made.github = github
        yield made


def start(fork, **environment: str) -> None:
    """Restart the fork's MLflow."""
    fork.ok("-m", "scripts.stop")
    fork.ok("-m", "scripts.mlflow.start_mlflow", **ENVIRONMENT, **environment)


def uri(fork) -> str:
    """Its URL."""
    return fork.json(".mlflow/server.json")["uri"]


def register(fork, url: str, **environment: str) -> str:
    """`make webhook`, which must succeed."""
    return fork.ok("-m", "scripts.mlflow.webhook", "--url", url, **(ENVIRONMENT | environment))


def refused(fork, url: str, **environment: str) -> str:
    """`make webhook`, which must fail with a message."""
    said = fork.refused("-m", "scripts.mlflow.webhook", "--url", url, **(ENVIRONMENT | environment))
    assert SECRET not in said and "next: " in said
    return said


def finding(fork, **environment: str) -> dict:
    """`make doctor`'s line about the webhook."""
    rows = json.loads(fork.run("-m", "scripts.doctor", "--json", **environment).stdout)
    return next(row for row in rows if row["what"] == "webhook")


def test_one_click_in_mlflow_starts_one_workflow(mlflow, relay, capsys):
    """From the registry's own server to GitHub: three aliases moved at once start one, and the version is MLflow's."""
    said = register(mlflow, f"{relay.url}/webhook")
    assert f"the webhook slipway-{NAME} on" in said and "answered 202" in said
    assert relay.deliveries("ignored", "model") == 1  # MLflow's test delivery is for a model of its own
    time.sleep(1.5)  # the server caches its list of webhooks for this long
    client = mlflow.mlflow()
    client.set_registered_model_alias(NAME, "Production", "1")
    began = time.monotonic()
    client.set_registered_model_alias(NAME, "production", "2")
    client.set_registered_model_alias(NAME, "staging", "2")
    client.delete_registered_model_alias(NAME, "Production")
    wait(lambda: relay.promotions("started") >= 1)
    seconds = time.monotonic() - began
    relay.settled(1)
    with capsys.disabled():
        print(f"\nfrom the alias to GitHub: {seconds:.2f} s", end=" ")
    assert relay.deliveries("accepted") == 2 and relay.deliveries("ignored", "alias") == 2
    assert len(relay.github.got) == relay.promotions("started") == 1
    assert "production is on version 2" in capsys.readouterr().out
    client.set_registered_model_alias(NAME, "production", "1")
    wait(lambda: relay.promotions("started") == 2)


def test_webhook_is_created_once_and_survives_a_restart(mlflow, relay):
    """A second call updates it, also to another URL; after a restart MLflow still lists it and signs with its secret."""
    register(mlflow, f"{relay.url}/webhook")
    assert register(mlflow, f"{relay.url}/webhook").startswith("updated")
    start(mlflow)
    client = mlflow.mlflow()
    (there,) = [hook for hook in client.list_webhooks() if hook.name == f"slipway-{NAME}"]
    assert (there.url, str(there.status)) == (f"{relay.url}/webhook", "ACTIVE")
    assert {str(event) for event in there.events} == {"model_version_alias.created", "model_version_alias.deleted"}
    relay.worker.read = lambda: {"production": "2"}  # the server has another port now
    client.set_registered_model_alias(NAME, "production", "2")
    wait(lambda: relay.promotions("started") == 1)


def test_webhook_key_stays_on_this_machine(mlflow, tmp_path):
    """The key that encrypts the webhooks' secrets is private, and not part of the snapshot."""
    key = mlflow.root / ".mlflow/webhook.key"
    assert key.stat().st_mode & 0o777 == 0o600
    parts = snapshot.snapshot(mlflow.root / ".mlflow", tmp_path)
    paths = [path for files in parts.values() for path in files.values()]
    assert paths and key not in paths
    assert not any(word in path.read_bytes() for path in paths for word in (key.read_bytes(), SECRET.encode()))


def test_relay_with_another_secret_is_reported(mlflow, relay):
    """The relay's 401 becomes a message about the secret."""
    said = refused(mlflow, f"{relay.url}/webhook", SLIPWAY_RELAY_SECRET="f" * 8 + "0123456789ab")
    assert "it has another secret" in said and relay.deliveries("refused", "signature") == 1


def test_unreachable_relay_is_reported(mlflow):
    """The webhook is created, and the message says what is wrong."""
    said = refused(mlflow, f"http://127.0.0.1:{free_port()}/webhook")
    assert "MLflow did not reach it: nothing listens there" in said and "is the relay running" in said


def test_another_program_instead_of_the_relay_is_reported(mlflow, relay):
    """A page of another server is not a relay."""
    assert "answered 404" in refused(mlflow, f"{relay.url}/elsewhere")


@pytest.mark.parametrize(
    ("environment", "url", "words"),
    [({"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https"}, "http://127.0.0.1:9/webhook", "MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https"),
     ({"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "false"}, "http://127.0.0.1:9/webhook", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true"),
     ({"MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "false"}, "http://relay.invalid/webhook", "cannot find that host")],
    ids=["scheme", "private", "unknown host"],
)  # fmt: skip
def test_mlflow_refusals_have_advice(mlflow, environment, url, words):
    """For a scheme, a private address and an unknown host, the message names the server's variable."""
    start(mlflow, **environment)
    assert words in refused(mlflow, url)
    start(mlflow)


def test_server_with_a_changed_key_is_reported(mlflow, relay):
    """MLflow cannot list its webhooks any more: both commands name the variable."""
    register(mlflow, f"{relay.url}/webhook")
    other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    start(mlflow, MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=other)
    assert "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" in refused(mlflow, f"{relay.url}/webhook")
    found = finding(mlflow)
    assert found["state"] == "note" and "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" in found["says"]
    start(mlflow)


def test_doctor_describes_the_webhook(mlflow, relay):
    """Active and accepted, another secret, unreachable, disabled, or missing: a sentence each, and nothing is started."""
    register(mlflow, f"{relay.url}/webhook")
    assert finding(mlflow) == {
        "what": "webhook",
        "state": "ok",
        "says": f"MLflow notifies {relay.url}/webhook, and the relay accepts it",
    }
    remote = finding(mlflow, MLFLOW_TRACKING_URI=uri(mlflow))
    assert remote["state"] == "ok" and "the relay accepts it" in remote["says"]
    assert not relay.github.got
    client = mlflow.mlflow()
    (there,) = client.list_webhooks()
    client.update_webhook(there.webhook_id, secret="another secret of the server")
    other = finding(mlflow)
    assert (
        other["state"] == "note" and "it has another secret; give both the same SLIPWAY_RELAY_SECRET" in other["says"]
    )
    client.update_webhook(there.webhook_id, url=f"http://127.0.0.1:{free_port()}/webhook")
    assert "MLflow did not reach it: nothing listens there" in finding(mlflow)["says"]
    client.update_webhook(there.webhook_id, status="DISABLED")
    assert "is switched off in MLflow" in finding(mlflow)["says"]
    client.delete_webhook(there.webhook_id)
    assert finding(mlflow)["says"].startswith("schedule only: ")


def test_doctor_does_not_start_mlflow(mlflow):
    """Without a running MLflow it mentions the schedule only, and still none runs afterwards."""
    mlflow.ok("-m", "scripts.stop")
    found = finding(mlflow)
    assert found["state"] == "ok" and re.match("schedule only: ", found["says"])
    assert not (mlflow.root / ".mlflow/server.json").exists()
    start(mlflow)


def test_secret_and_url_are_required(mlflow):
    """Without them MLflow gets no request, and the message names what is missing."""
    assert "SLIPWAY_RELAY_SECRET" in refused(mlflow, "https://relay.example.com/webhook", SLIPWAY_RELAY_SECRET="")
    assert "URL is needed" in refused(mlflow, "")
    assert "does not begin with https:// or http://" in refused(mlflow, "ftp://relay/webhook")
