"""The relay between Alertmanager and GitHub: which alerts start the monitor, how often, and what it answers to anything else."""

import http.client
import json
import re
import subprocess
import time

import pytest
import requests
import yaml

from delivery.relay import alerts
from delivery.relay.server import read
from pipeline.errors import SettingsError
from pipeline.processes import free_port
from tests import tools
from tests.delivery.relay.relays import BEARER, SECRET, TOKEN, event, registry, relay_to, server, wait
from tests.delivery.relay.test_webhook_relay import RIGHT, ROOT


@pytest.fixture
def github():
    """A GitHub API that accepts every request."""
    with server(204) as made:
        yield made


@pytest.fixture
def mlflow():
    """An MLflow with version 3 in production."""
    with server(200, registry(production="3")) as made:
        yield made


@pytest.fixture
def relay(github, mlflow):
    """A relay that knows Alertmanager's token."""
    with relay_to(github, mlflow.url) as made:
        yield made


def message(*firing: str | dict, version: str = "4", status: str = "firing") -> bytes:
    """What Alertmanager posts about alerts, each a name or labels."""
    labels = [{"alertname": one} if isinstance(one, str) else one for one in firing]
    listed = [{"status": status, "labels": one, "annotations": {"summary": "x"}} for one in labels]
    return json.dumps({"version": version, "groupKey": "{}", "status": status, "alerts": listed}).encode()


def send(relay, body: bytes, authorization: str | None = f"Bearer {BEARER}") -> requests.Response:
    """Post a message as Alertmanager does."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
    return requests.post(f"{relay.url}/alerts", data=body, headers=headers, timeout=20)


def heard(relay, result: str, reason: str = "") -> float:
    """Number of messages with this result."""
    return relay.metric("slipway_relay_alerts_total", result=result, reason=reason)


def monitors(relay, result: str) -> float:
    """Number of runs of the monitor with this result."""
    return relay.metric("slipway_relay_monitors_total", result=result)


def rested(relay) -> None:
    """Wait until nothing is pending."""
    time.sleep(0.4)
    wait(lambda: relay.metric("slipway_relay_monitor_pending") == 0)


def test_firing_alert_starts_the_monitor(relay, github, mlflow, capsys):
    """202 at once; then monitor.yml is dispatched with the relay's token. MLflow is not asked, and no promotion starts."""
    answer = send(relay, message("FeatureDrift"))
    assert (answer.status_code, heard(relay, "accepted")) == (202, 1)
    assert answer.json()["detail"] == "understood: FeatureDrift asks for the monitor"
    wait(lambda: monitors(relay, "started") == 1)
    ((method, path, headers, body),) = github.got
    assert (method, path) == ("POST", "/repos/octo/cars/actions/workflows/monitor.yml/dispatches")
    assert body == {"ref": "main"} and headers["Authorization"] == f"Bearer {TOKEN}"
    assert not mlflow.got and relay.promotions("started") == 0
    assert time.time() - relay.metric("slipway_relay_last_monitor_timestamp_seconds") < 10
    said = capsys.readouterr().out
    assert "started monitor.yml in octo/cars on main" in said and BEARER not in said and TOKEN not in said


@pytest.mark.parametrize("name", sorted(alerts.NAMES))
def test_each_alert_about_the_model_counts(name):
    """By its name, whatever else its labels say."""
    assert alerts.parse(message({"alertname": name, "severity": "warning", "feature": "age"}), "cars") == {name}


def test_names_are_those_of_the_rules():
    """Each name is an alert of monitoring/prometheus/rules/, and docs/promote-in-mlflow.md gives Alertmanager all of them."""
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "monitoring/prometheus/rules").glob("*.yml"))
    assert set(re.findall(r"- alert: (\w+)", rules)) >= alerts.NAMES
    page = (ROOT / "docs/promote-in-mlflow.md").read_text(encoding="utf-8")
    assert set(re.search(r'alertname =~ "([\w|]+)"', page)[1].split("|")) == alerts.NAMES


@pytest.mark.parametrize(
    "labels",
    [{"alertname": "Own", "slipway_monitor": "true"}, {"alertname": "ClassesShifted", "model": "cars"},
     {"alertname": "ClassesShifted", "environment": "production"}],
)  # fmt: skip
def test_label_makes_any_alert_one_of_the_model_s(labels):
    """A rule of your own counts with slipway_monitor: "true"; model and environment may be named."""
    assert alerts.parse(message(labels), "cars") == {labels["alertname"]}


@pytest.mark.parametrize(
    "body",
    [message("ServiceDown"), message("FeatureDrift", status="resolved"), message(), message({"alertname": "Own"}),
     message({"alertname": "FeatureDrift", "model": "trucks"}),
     message({"alertname": "FeatureDrift", "environment": "staging"}),
     message({"alertname": "Own", "slipway_monitor": "false"})],
)  # fmt: skip
def test_other_alerts_start_nothing(relay, github, body):
    """Resolved alerts, those about the service, another model or staging get 202 and are counted as ignored."""
    assert send(relay, body).status_code == 202 and heard(relay, "ignored") == 1
    rested(relay)
    assert not github.got


def test_alert_that_keeps_firing_starts_once_an_hour(relay, github):
    """A repeated message gets 200; another alert starts anew, and so does the same one an hour later."""
    assert send(relay, message("FeatureDrift", "ClassesShifted")).status_code == 202
    rested(relay)
    assert [send(relay, message("FeatureDrift")).status_code for _ in range(3)] == [200, 200, 200]
    assert heard(relay, "duplicate") == 3 and len(github.got) == 1
    assert send(relay, message("FeatureDrift", "DataBroken")).json()["detail"].startswith("understood: DataBroken asks")
    rested(relay)
    assert len(github.got) == 2
    relay.heard.told["FeatureDrift"] -= alerts.EVERY_SECONDS
    assert send(relay, message("FeatureDrift")).status_code == 202
    rested(relay)
    assert len(github.got) == monitors(relay, "started") == 3


def test_failed_start_is_tried_again_by_the_next_message(relay, github, monkeypatch):
    """What GitHub refuses is told to the chat, with advice, and does not count as started."""
    github.status, github.body = 404, {"message": "Not Found"}
    with server(200) as chat:
        monkeypatch.setenv("SLIPWAY_WEBHOOK", chat.url)
        assert send(relay, message("PerformanceLow")).status_code == 202
        wait(lambda: chat.got)
        (_, _, _, said) = chat.got[0]
    assert "the monitor was not started" in said["text"] and "has no workflow monitor.yml" in said["text"]
    github.status = 204
    assert send(relay, message("PerformanceLow")).status_code == 202
    wait(lambda: monitors(relay, "started") == 1)
    assert monitors(relay, "failed") == 1


def test_passing_failure_is_retried(relay, github):
    """Two 500 and then success: started once, retried twice."""
    github.statuses = [500, 502]
    send(relay, message("DataBroken"))
    wait(lambda: monitors(relay, "started") == 1)
    assert len(github.got) == 3 and monitors(relay, "retried") == 2


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [(None, "unsigned"), ("", "unsigned"), ("Bearer wrong", "token"), (BEARER, "token"), (f"Basic {BEARER}", "token"),
     (f"Bearer {SECRET}", "token"), (f"Bearer {BEARER}x", "token"), ("Bearer \xe4", "token")],
)  # fmt: skip
def test_message_without_the_token_is_refused(relay, github, authorization, reason):
    """401 before the body is read, with a message that does not repeat the token."""
    header = {"Authorization": authorization.encode("latin-1")} if authorization is not None else {}
    answer = requests.post(f"{relay.url}/alerts", data=message("DataBroken"), headers=header, timeout=20)
    assert (answer.status_code, heard(relay, "refused", reason)) == (401, 1) and BEARER not in answer.text
    rested(relay)
    assert not github.got


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"", "malformed"), (b"[]", "malformed"), (b"{}", "malformed"), (b"\xff", "malformed"), (b"[" * 100_000, "malformed"),
     (event(), "malformed"), (b'{"version": "4", "alerts": 3}', "malformed"),
     (b'{"version": "4", "alerts": [{"status": "firing", "labels": {}}]}', "malformed"),
     (b'{"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": ["x"]}}]}', "malformed"),
     (b'{"version": "4", "alerts": [{"status": "firing", "labels": {"alertname": 3, "slipway_monitor": "true"}}]}', "malformed"),
     (message("DataBroken", version="1"), "version")],
)  # fmt: skip
def test_invalid_body_gets_400(relay, github, body, reason):
    """What Alertmanager does not send is refused in words and counted, and starts nothing."""
    answer = send(relay, body)
    assert (answer.status_code, heard(relay, "refused", reason)) == (400, 1) and answer.json()["detail"]
    assert not github.got


def test_long_message_is_taken_up_to_its_limit(relay):
    """Hundreds of alerts are taken; over a megabyte gets 413 by its declared length."""
    many = [{"alertname": "FeatureDrift", "feature": f"{number:0900}"} for number in range(800)]
    assert 700_000 < len(body := message(*many)) < alerts.MAX_BODY and send(relay, body).status_code == 202
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=10)
    connection.putrequest("POST", "/alerts")
    connection.putheader("Authorization", f"Bearer {BEARER}")
    connection.putheader("Content-Length", str(alerts.MAX_BODY + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413 and heard(relay, "refused", "size") == 1


def test_too_many_different_alerts_get_429(relay):
    """What is remembered is limited."""
    relay.heard.told.update({f"other {number}": time.time() for number in range(alerts.MOST)})
    assert send(relay, message("DataBroken")).status_code == 429 and heard(relay, "refused", "full") == 1


def test_relay_without_the_token_takes_no_alerts(github, mlflow):
    """404 that names the variable; MLflow's webhook works as before."""
    with relay_to(github, mlflow.url, bearer="") as relay:
        answer = send(relay, message("DataBroken"))
        assert answer.status_code == 404 and "SLIPWAY_RELAY_BEARER is not set" in answer.json()["detail"]
        assert relay.send().status_code == 202
        wait(lambda: relay.promotions("started") == 1)


@pytest.mark.parametrize(
    ("bearer", "reconciles", "named"),
    [("tiny-1", False, "SLIPWAY_RELAY_BEARER can be guessed"), ("change-me-change-me-1", False, "SLIPWAY_RELAY_BEARER"),
     (BEARER, True, "SLIPWAY_RELAY_BEARER is for alerts that start a workflow")],
)  # fmt: skip
def test_useless_token_is_named_at_the_start(bearer, reconciles, named):
    """One that can be guessed, or one for a relay that starts no workflow; its value is not repeated."""
    with pytest.raises(SettingsError, match=named) as refused:
        read(RIGHT | {"SLIPWAY_RELAY_BEARER": bearer}, reconciles)
    assert bearer not in str(refused.value.what)


@pytest.mark.needs("alertmanager")
def test_real_alertmanager_reaches_the_relay(relay, github, tmp_path):
    """The snippet of docs/promote-in-mlflow.md, with other addresses: a firing alert starts the monitor once."""
    page = (ROOT / "docs/promote-in-mlflow.md").read_text(encoding="utf-8")
    snippet = page.split("### Alerts that start the monitor")[1].split("```yaml")[1].split("```")[0]
    (tmp_path / "token").write_text(BEARER, encoding="utf-8")
    snippet = snippet.replace("https://relay.example.com", relay.url).replace(
        "/etc/alertmanager/slipway-relay", str(tmp_path / "token")
    )
    settings = yaml.safe_load(snippet)
    settings["route"]["routes"][0] |= {"group_wait": "0s"}
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    port = free_port()
    command = [
        tools.alertmanager(),
        f"--config.file={tmp_path}/alertmanager.yml",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/api/v2"
    try:
        wait(lambda: _ready(url), 30)
        alert = {"labels": {"alertname": "FeatureDrift", "environment": "production", "feature": "age"}}
        other = {"labels": {"alertname": "ServiceDown", "environment": "production"}}
        for _ in range(2):
            assert requests.post(f"{url}/alerts", json=[alert, other], timeout=5).ok
        wait(lambda: monitors(relay, "started") == 1)
        rested(relay)
    finally:
        process.terminate()
        process.wait(20)
    assert [path for _, path, *_ in github.got] == ["/repos/octo/cars/actions/workflows/monitor.yml/dispatches"]


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/status", timeout=2).ok
    except requests.ConnectionError:
        return False
