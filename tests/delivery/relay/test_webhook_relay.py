"""The relay between MLflow's webhook and GitHub: what it accepts, refuses and starts."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from delivery.relay.metrics import Metrics
from delivery.relay.worker import Worker
from pipeline.processes import free_port
from pipeline.registry.webhooks import Seen, sign
from tests.delivery.relay.relays import (
    QUICK,
    SECRET,
    TOKEN,
    Relay,
    event,
    metric,
    registry,
    relay_to,
    server,
    signed,
    wait,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def github():
    """A GitHub API that accepts every request."""
    with server(204) as made:
        yield made


@pytest.fixture
def mlflow():
    """An MLflow with version 3 in production."""
    with server(200, registry(production="3", staging="4")) as made:
        yield made


@pytest.fixture
def relay(github, mlflow):
    """A relay between the two."""
    with relay_to(github, mlflow.url) as made:
        yield made


def test_moved_alias_starts_the_workflow(relay, github, mlflow, capsys):
    """A signed delivery gets 202 at once; then the registry is read, and promote.yml is dispatched with the token."""
    github.seconds = 1
    began = time.monotonic()
    answer = relay.send()
    assert (answer.status_code, relay.deliveries("accepted")) == (202, 1) and time.monotonic() - began < 0.8
    assert answer.json()["detail"].startswith("understood: production of cars")
    relay.settled()
    ((method, path, headers, body),) = github.got
    assert (method, path) == ("POST", "/repos/octo/cars/actions/workflows/promote.yml/dispatches")
    assert body == {"ref": "main"} and headers["Authorization"] == f"Bearer {TOKEN}"
    assert mlflow.got[0][1] == "/api/2.0/mlflow/registered-models/get?name=cars"
    assert relay.promotions("started") == 1
    assert time.time() - relay.metric("slipway_relay_last_success_timestamp_seconds") < 10
    assert "production is on version 3, staging is on version 4" in capsys.readouterr().out


@pytest.mark.parametrize("alias", ["production", "staging"])
@pytest.mark.parametrize("action", ["created", "deleted"])
def test_every_alias_event_counts(relay, github, alias, action):
    """Set, moved or removed: `make reconcile` decides what it means."""
    assert relay.send(event(alias, action=action)).status_code == 202
    wait(lambda: relay.promotions("started") == 1)
    assert len(github.got) == 1


REFUSED = {
    "wrong signature": ({"signature": "v1,AAAA"}, 401, "signature"),
    "another scheme": ({"signature": "v2,AAAA"}, 401, "signature"),
    "no base64": ({"signature": "v1,ä"}, 401, "signature"),
    "another secret": ({"secret": "another-secret-of-16"}, 401, "signature"),
    "no signature": ({"signature": None}, 401, "unsigned"),
    "empty signature": ({"signature": ""}, 401, "unsigned"),
    "old": ({"timestamp": str(int(time.time()) - 3600)}, 401, "timestamp"),
    "six minutes old": ({"timestamp": str(int(time.time()) - 360)}, 401, "timestamp"),
    "from the future": ({"timestamp": str(int(time.time()) + 3600)}, 401, "timestamp"),
    "no number": ({"timestamp": "yesterday"}, 401, "timestamp"),
    "a number without end": ({"timestamp": "9" * 4000}, 401, "timestamp"),
    "long id": ({"delivery": "x" * 200}, 401, "signature"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsigned_or_old_delivery_is_refused(relay, github, mlflow, case):
    """401 with a message, counted by reason; neither MLflow nor GitHub gets a request."""
    changed, status, reason = REFUSED[case]
    headers = signed(event(), **changed)
    headers = {name: value.encode() for name, value in headers.items()}
    answer = requests.post(f"{relay.url}/webhook", data=event(), headers=headers, timeout=20)
    assert (answer.status_code, relay.deliveries("refused", reason)) == (status, 1)
    assert answer.json()["detail"] and SECRET not in answer.text
    relay.settled(0.4)
    assert not github.got and not mlflow.got and relay.promotions("started") == 0


@pytest.mark.parametrize("missing", ["signature", "timestamp", "delivery"])
def test_each_signature_header_is_required(relay, missing):
    """A delivery without one of the three is refused."""
    headers = signed(event())
    del headers[
        {"signature": "X-MLflow-Signature", "timestamp": "X-MLflow-Timestamp", "delivery": "X-MLflow-Delivery-Id"}[
            missing
        ]
    ]
    assert requests.post(f"{relay.url}/webhook", data=event(), headers=headers, timeout=20).status_code == 401
    assert relay.deliveries("refused", "unsigned") == 1


def test_signature_covers_body_time_and_id(relay, github):
    """A signed delivery with any of the three changed is refused."""
    headers = signed(event())
    for name, other in (("X-MLflow-Timestamp", str(int(time.time()) - 1)), ("X-MLflow-Delivery-Id", "another")):
        assert (
            requests.post(
                f"{relay.url}/webhook", data=event(), headers={**headers, name: other}, timeout=20
            ).status_code
            == 401
        )
    assert requests.post(f"{relay.url}/webhook", data=event("staging"), headers=headers, timeout=20).status_code == 401
    assert relay.deliveries("refused", "signature") == 3 and not github.got


def test_replay_starts_nothing(relay, github):
    """The same delivery again gets 200 and is counted as a duplicate."""
    assert relay.send(delivery="one").status_code == 202
    relay.settled(0.4)
    answer = relay.send(delivery="one")
    assert (answer.status_code, relay.deliveries("duplicate"), relay.deliveries("accepted")) == (200, 1, 1)
    relay.settled(0.4)
    assert len(github.got) == 1


def test_a_thousand_duplicates_start_one_workflow(relay, github, mlflow):
    """However often a delivery comes, one workflow is started."""
    body = event()
    headers = signed(body)

    def many(number: int) -> set[int]:
        with requests.Session() as session:
            return {
                session.post(f"{relay.url}/webhook", data=body, headers=headers, timeout=60).status_code
                for _ in range(number)
            }

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(many, [250] * 4)) == {200, 202}
    relay.settled(0.4)
    assert (relay.deliveries("accepted"), relay.deliveries("duplicate")) == (1, 999)
    assert len(github.got) == len(mlflow.got) == relay.promotions("started") == 1


def test_three_events_of_one_click_start_one_workflow(github, mlflow):
    """What MLflow's page sends for one click, within the quiet time (here a second), is one promotion."""
    with relay_to(github, mlflow.url, replace(QUICK, quiet=1)) as relay:
        for alias, action in (("production", "created"), ("staging", "created"), ("staging", "deleted")):
            assert relay.send(event(alias, action=action)).status_code == 202
            time.sleep(0.15)
        relay.settled(1.2)
        assert relay.deliveries("accepted") == 3 and len(github.got) == relay.promotions("started") == 1


def test_event_before_a_retry_is_covered_by_it(relay, github):
    """An event during the pause after a failed start needs no other start: the workflow reads the registry afterwards."""
    github.statuses, github.headers = [500], {"Retry-After": "1"}
    relay.send()
    wait(lambda: relay.promotions("retried") == 1)
    relay.send()
    relay.settled(1)
    assert len(github.got) == 2 and relay.promotions("started") == 1


def test_events_during_a_run_start_one_more(relay, github):
    """Ten events during a start cause one more start afterwards, never two at once."""
    github.seconds = 1
    relay.send()
    wait(lambda: len(github.got) == 1)
    for _ in range(10):
        assert relay.send().status_code == 202
    assert relay.metric("slipway_relay_pending") == 1 and len(github.got) == 1
    relay.settled()
    time.sleep(0.5)
    assert len(github.got) == relay.promotions("started") == 2


@pytest.mark.parametrize("chunked", [False, True])
def test_too_long_body_is_not_read(relay, github, chunked):
    """1 MB gets 413 before all of it was sent, with or without a declared length."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=10)
    connection.putrequest("POST", "/webhook")
    for name, value in signed(b"").items():
        connection.putheader(name, value)
    if chunked:
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"14000\r\n" + b"x" * 0x14000 + b"\r\n")  # 80 KB, and the rest never comes
    else:
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and b"longer than 65536 bytes" in answer.read()
    connection.close()
    assert relay.deliveries("refused", "size") == 1 and not github.got


def test_megabyte_body_is_refused(relay):
    """A client that sends its megabyte at once gets 413, or is disconnected."""
    with suppress(requests.ConnectionError):
        assert relay.send(b"x" * 1_000_000).status_code == 413
    assert relay.deliveries("refused", "size") == 1


def test_missing_body_times_out(github, mlflow, monkeypatch):
    """A client that declares a body and sends none is refused."""
    monkeypatch.setattr("delivery.relay.app.BODY_SECONDS", 0.3)
    with relay_to(github, mlflow.url) as relay:
        connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=10)
        connection.putrequest("POST", "/webhook")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        assert connection.getresponse().status == 408
        connection.close()
        assert relay.deliveries("refused", "slow") == 1


IGNORED = {
    "model": event(model="example"),
    "alias": event("champion"),
    "event": event(entity="model_version"),
}


@pytest.mark.parametrize("reason", IGNORED)
def test_unrelated_events_are_ignored(relay, github, mlflow, reason):
    """Another model, alias or event gets 202, so that MLflow does not retry, and starts nothing."""
    answer = relay.send(IGNORED[reason])
    assert (answer.status_code, relay.deliveries("ignored", reason)) == (202, 1)
    relay.settled(0.4)
    assert not github.got and not mlflow.got


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"entity": "model_version_alias", "action": "created"}',
     b'{"entity": "model_version_alias", "action": "created", "data": {"name": 1, "alias": []}}', b"[" * 60_000],
    ids=lambda body: body[:20],
)  # fmt: skip
def test_signed_but_invalid_body_gets_400(relay, github, body):
    """Not a 5xx, because MLflow would send the same body again."""
    answer = relay.send(body)
    assert (answer.status_code, relay.deliveries("refused", "malformed")) == (400, 1) and answer.json()["detail"]
    relay.settled(0.4)
    assert not github.got


def test_github_failures_are_retried(relay, github):
    """Two 500 and then success: started once, retried twice."""
    github.statuses = [500, 502]
    assert relay.send().status_code == 202
    wait(lambda: relay.promotions("started") == 1)
    assert len(github.got) == 3 and (relay.promotions("retried"), relay.promotions("failed")) == (2, 0)


def test_github_retries_are_limited(relay, github, capsys):
    """After six tries the promotion counts as failed, in metrics and log; the next event begins anew."""
    github.status, github.body = 500, {"message": "Server Error"}
    assert relay.send().status_code == 202
    relay.settled(0.4)
    assert len(github.got) == 6 and (relay.promotions("failed"), relay.promotions("retried")) == (1, 5)
    assert relay.promotions("started") == 0 and "GitHub answers 500: Server Error" in capsys.readouterr().out
    github.status = 204
    relay.send()
    wait(lambda: relay.promotions("started") == 1)


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "is wrong or has expired"), (403, "Actions: write on octo/cars"), (404, "has no workflow promote.yml"),
     (422, "SLIPWAY_RELAY_REF"), (301, "renamed")],
)  # fmt: skip
def test_permanent_github_errors_are_not_retried(relay, github, capsys, status, words):
    """One try, and advice in the message; the token is nowhere."""
    github.status, github.body = status, {"message": "Resource not accessible by personal access token"}
    github.headers = {"Location": "/elsewhere"}
    assert relay.send().status_code == 202
    relay.settled(0.4)
    said = capsys.readouterr().out
    assert len(github.got) == 1 and (relay.promotions("failed"), relay.promotions("retried")) == (1, 0)
    assert f"GitHub answers {status}" in said and words in said and TOKEN not in said


@pytest.mark.parametrize("status", [429, 403])
def test_github_retry_after_is_obeyed_within_limits(relay, github, status):
    """The relay waits for Retry-After, but not longer than its limit (here half a second)."""
    github.statuses, github.headers = [status], {"Retry-After": "3600"}
    began = time.monotonic()
    relay.send()
    wait(lambda: relay.promotions("started") == 1)
    assert 0.5 <= time.monotonic() - began < 5 and len(github.got) == 2


def test_github_timeouts_are_retried(github, mlflow, monkeypatch):
    """A timeout is retried like an error, as often and no more."""
    from delivery.relay import remote

    monkeypatch.setattr(remote, "dispatch", lambda *given, real=remote.dispatch: real(*given, seconds=0.2))
    github.seconds = 0.6
    with relay_to(github, mlflow.url) as relay:
        relay.send()
        wait(lambda: relay.promotions("failed") == 1)
        assert relay.promotions("retried") == 5 and relay.promotions("started") == 0


def test_failures_are_reported_to_the_webhook(relay, github, monkeypatch):
    """SLIPWAY_WEBHOOK gets a message about a promotion that was not started."""
    github.status = 403
    with server(200) as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", f"{chat.url}/hunter2")
        relay.send()
        wait(lambda: chat.got)
        (_, _, _, said) = chat.got[0]
    assert "a promotion failed: GitHub answers 403" in said["text"] and TOKEN not in said["text"]


def test_mlflow_outage_is_waited_for(github):
    """The event stays pending until MLflow is back; then one workflow is started."""
    port = free_port()
    with relay_to(github, f"http://127.0.0.1:{port}") as relay:
        assert relay.send().status_code == 202
        wait(lambda: relay.metric("slipway_relay_registry_reads_failed_total") >= 3)
        relay.send()
        assert relay.metric("slipway_relay_pending") == 1 and not github.got
        with server(500, registry(production="3"), port) as mlflow:
            wait(lambda: len(mlflow.got) >= 2)
            assert relay.metric("slipway_relay_pending") == 1 and not github.got
            mlflow.status = 200
            wait(lambda: relay.promotions("started") == 1)
            relay.settled(0.5)
    assert len(github.got) == 1


def test_pauses_grow_to_thirty_seconds():
    """The default pauses double from one second, each reduced by up to half, up to thirty."""
    from delivery.relay.server import PACE

    waits = Worker(lambda: None, lambda: None, print, Metrics().promotions, PACE)._waits()
    given = [next(waits) for _ in range(12)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(given, [1, 2, 4, 8, 16] + [30] * 7, strict=True))


def test_unknown_model_starts_nothing(relay, github, mlflow, capsys):
    """A 404 from MLflow is an answer, and is not retried."""
    mlflow.status = 404
    assert relay.send().status_code == 202
    relay.settled(0.4)
    assert not github.got and len(mlflow.got) == 1 and "no such model" in capsys.readouterr().out
    assert (relay.promotions("started"), relay.promotions("failed")) == (0, 0)


@pytest.mark.parametrize(
    ("variables", "userinfo", "wanted"),
    [({"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "pw"}, "", "Basic bWU6cHc="),
     ({"MLFLOW_TRACKING_TOKEN": "abc"}, "", "Bearer abc"), ({}, "me:pw@", "Basic bWU6cHc="), ({}, "", None)],
)  # fmt: skip
def test_mlflow_s_own_variables_log_in(github, mlflow, monkeypatch, variables, userinfo, wanted):
    """User and password, or a token, or both in the URL."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with relay_to(github, mlflow.url.replace("//", f"//{userinfo}")) as relay:
        relay.send()
        wait(lambda: relay.promotions("started") == 1)
    assert mlflow.got[0][2].get("Authorization") == wanted


def test_delivery_ids_are_kept_as_long_as_needed():
    """Memory is bounded: at its limit a new delivery gets 429, and an id is forgotten once its delivery would be too old."""
    from pipeline.registry.webhooks import Refusal

    seen = Seen(most=2)
    seen.add("a", 0)
    seen.add("b", 599)
    with pytest.raises(Refusal, match="try again") as caught:
        seen.add("c", 599)
    assert caught.value.status == 429 and "a" in seen
    seen.add("c", 600)
    assert "a" not in seen and "b" in seen and len(seen.until) == 2


def test_too_many_deliveries_get_429(github, mlflow):
    """MLflow retries after the relay's own 429."""
    with relay_to(github, mlflow.url, seen=Seen(most=3)) as relay:
        assert [relay.send().status_code for _ in range(4)] == [202, 202, 202, 429]
        assert relay.deliveries("refused", "full") == 1


def test_unexpected_error_does_not_stop_the_relay(github):
    """Whatever a start raises, the next event is handled, and the health check reports a live worker."""
    metrics, told, faults = Metrics(), [], [RuntimeError("x")]

    def start():
        if faults:
            raise faults.pop()

    with Relay(Worker(lambda: "", start, told.append, metrics.promotions, QUICK), metrics) as relay:
        relay.send()
        wait(lambda: relay.promotions("failed") == 1)
        relay.send()
        wait(lambda: relay.promotions("started") == 1)
        assert requests.get(f"{relay.url}/healthz", timeout=5).status_code == 200
    assert told == ["RuntimeError in the relay itself"]


def test_health_fails_when_the_worker_has_died(relay):
    """A relay that accepts deliveries without handling them is not healthy."""
    assert requests.get(f"{relay.url}/healthz", timeout=5).json() == {"status": "ok"}
    relay.worker.ending.set()
    relay.worker.thread.join(5)
    assert requests.get(f"{relay.url}/healthz", timeout=5).status_code == 503


def test_every_error_has_a_detail(relay):
    """Also for unknown paths and methods."""
    for method, path, status in (("GET", "/", 404), ("GET", "/webhook", 405), ("GET", "/docs", 404)):
        answer = requests.request(method, relay.url + path, timeout=5)
        assert (answer.status_code, set(answer.json())) == (status, {"detail"})


RIGHT = {
    "SLIPWAY_RELAY_SECRET": SECRET,
    "SLIPWAY_RELAY_MODEL": "cars",
    "SLIPWAY_RELAY_REPOSITORY": "octo/cars",
    "SLIPWAY_RELAY_TOKEN": TOKEN,
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
}


def start(**environment: str | None) -> subprocess.Popen:
    """Start the real command."""
    given = {"PATH": os.environ["PATH"], **RIGHT, **environment}
    given = {name: value for name, value in given.items() if value is not None}
    command = [sys.executable, "-m", "scripts.mlflow.webhook_relay"]
    return subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"SLIPWAY_RELAY_SECRET": None}, "SLIPWAY_RELAY_SECRET"),
     ({"SLIPWAY_RELAY_SECRET": "tiny-1"}, "SLIPWAY_RELAY_SECRET"),
     ({"SLIPWAY_RELAY_SECRET": "change-me-change-me-1"}, "SLIPWAY_RELAY_SECRET"),
     ({"SLIPWAY_RELAY_SECRET": "a" * 40}, "SLIPWAY_RELAY_SECRET"),
     ({"SLIPWAY_RELAY_REPOSITORY": None, "SLIPWAY_RELAY_TOKEN": None}, "SLIPWAY_RELAY_REPOSITORY, SLIPWAY_RELAY_TOKEN"),
     ({"SLIPWAY_RELAY_TOKEN": ""}, "SLIPWAY_RELAY_TOKEN"),
     ({"MLFLOW_TRACKING_URI": None}, "MLFLOW_TRACKING_URI"),
     ({"SLIPWAY_RELAY_REPOSITORY": "../../user"}, "OWNER/NAME"),
     ({"SLIPWAY_RELAY_PORT": "eighty"}, "SLIPWAY_RELAY_PORT"),
     ({"GITHUB_API_URL": "http://ghe.example.com/api/v3"}, "GITHUB_API_URL is not an https address")],
)  # fmt: skip
def test_missing_setting_is_named_at_the_start(changed, named):
    """A missing or invalid setting is named, without repeating its value."""
    process = start(**changed)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and named in said and "Traceback" not in said
    assert not any(value in said for value in changed.values() if value and value != "eighty")


def test_port_in_use_is_reported():
    """Another program on the relay's port: one line with advice instead of the URL."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = start(SLIPWAY_RELAY_PORT=str(other.getsockname()[1]))
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 1 and "Address already in use" in said and "SLIPWAY_RELAY_PORT" in said
    assert "listening" not in said and "Traceback" not in said


def test_signal_stops_it_and_its_log_has_no_secret(github):
    """Stopped while MLflow is down, it reports pending work and who repairs it; secret, token and headers are nowhere."""
    port = free_port()
    process = start(SLIPWAY_RELAY_PORT=str(port), GITHUB_API_URL=github.url)
    url = f"http://127.0.0.1:{port}"
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout), daemon=True)
    reader.start()
    try:
        wait(lambda: _answers(url), 60)
        headers = {**signed(event()), "X-Other": "of-a-caller"}
        assert requests.post(f"{url}/webhook", data=event(), headers=headers, timeout=5).status_code == 202
        assert (
            requests.post(f"{url}/webhook", data=event(), headers=signed(event(), "another"), timeout=5).status_code
            == 401
        )
        wait(lambda: metric(url, "slipway_relay_registry_reads_failed_total") >= 1)
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    reader.join(5)
    log = "".join(said)
    assert process.returncode == 0 and time.monotonic() - began < 10
    assert "MLflow cannot be reached" in log and "schedule of promote.yml" in log
    assert not any(word in log for word in (SECRET, TOKEN, "of-a-caller", headers["X-MLflow-Signature"], "v1,"))


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=2).ok
    except requests.ConnectionError:
        return False


def test_settings_and_metrics_are_documented():
    """docs/promote-in-mlflow.md has a row for exactly the relay's variables and series."""
    page = (ROOT / "docs/promote-in-mlflow.md").read_text(encoding="utf-8")
    source = (ROOT / "delivery/relay/server.py").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(SLIPWAY_RELAY_[A-Z]+)` \|", page, re.M)
    assert sorted(listed) == sorted(set(re.findall(r"SLIPWAY_RELAY_[A-Z]+", source)))
    metrics = Metrics()
    metrics.delivery("accepted")
    metrics.alert("accepted")
    counted = re.findall(r"^# TYPE (\w+) (?:counter|gauge)$", metrics.text().decode(), re.M)
    assert set(re.findall(r"^\| `(slipway_relay_\w+)` \|", page, re.M)) == {
        name for name in counted if not name.endswith("_created")
    }


def test_signature_is_compatible_with_mlflow():
    """The relay verifies what MLflow's own code signs."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    body = '{"größe": "ü"}'
    assert sign(SECRET, "id", "1700000000", body.encode()) == _generate_hmac_signature(SECRET, "id", "1700000000", body)
