"""`make up`, then `make ship`: the service runs beside MLflow, Prometheus scrapes it, and every panel of the dashboard has data."""

import json
import math
import time

import pytest
import requests

from tests.conftest import forked
from tests.delivery.relay.relays import wait
from tests.e2e.one_host import Host

pytestmark = pytest.mark.needs("engine", "compose")

A_DAY_LATER = "Shift against the day before"  # the panel without data on the first day
PATIENCE = 150  # seconds: a rate needs two scrapes, and a machine may be busy


@pytest.fixture(scope="module")
def host(engine, tmp_path_factory):
    """A host on which `make up` and then `make ship` have run."""
    with forked(tmp_path_factory.mktemp("up")) as fork:
        for name in ("scrape", "evaluation"):
            fork.edit("monitoring/prometheus/prometheus.yml", f"{name}_interval: 15s", f"{name}_interval: 2s")
        made = Host(fork)
        try:
            made.up()
            made.ship()
            yield made
        finally:
            made.remove()


@pytest.fixture(scope="module")
def answers(host):
    """Prometheus' results for each query of the dashboard, by panel and legend, under traffic."""
    panels = json.loads((host.fork.root / "monitoring/grafana/dashboards/service.json").read_text())["panels"]
    queries = {
        (panel["title"], target["legendFormat"]): target["expr"]
        for panel in panels
        if panel["title"] != A_DAY_LATER
        for target in panel.get("targets", [])
    }
    deadline = time.monotonic() + PATIENCE
    while True:
        send(host)
        # Every panel at one instant: a scrape between two queries would let them disagree.
        now = time.time()
        found = {key: ask(host, query, now) for key, query in queries.items()}
        # A status that first appeared in the newest scrape has no rate yet, or one of zero.
        statuses = values(found["Requests by status", "{{status}}"], "status")
        if (all(found.values()) and statuses.get("422", 0) > 0) or time.monotonic() > deadline:
            return found
        time.sleep(2)


def send(host) -> None:
    """Send some predictions, single and in batches, and one request that is refused."""
    url = host.production()
    rows = host.fork.json("build/bundle/golden.json")["inputs"]
    for row in rows[:20]:
        assert requests.post(f"{url}/predict", json={"features": row}, timeout=10).ok
    assert requests.post(f"{url}/predict/batch", json={"features": rows}, timeout=10).ok
    assert requests.post(f"{url}/predict", json={"features": []}, timeout=10).status_code == 422


def ask(host, query: str, at: float | None = None) -> list[dict]:
    """The series of a query at a time (seconds since 1970, now by default), without those whose value is not a number."""
    query = query.replace("$environment", "production").replace("$__rate_interval", "1m")
    params = {"query": query, "time": time.time() if at is None else at}
    said = requests.get(f"{host.url('prometheus')}/api/v1/query", params=params, timeout=10).json()
    assert said["status"] == "success", (query, said)
    return [one for one in said["data"]["result"] if math.isfinite(float(one["value"][1]))]


def values(series: list[dict], label: str) -> dict[str, float]:
    """The value of each series by one of its labels."""
    return {one["metric"][label]: float(one["value"][1]) for one in series}


def test_every_panel_has_data(answers):
    """Each query of the dashboard returns numbers without an error, but for rules, which the model does not have."""
    assert len(answers) >= 25
    assert {key[0] for key, series in answers.items() if not series} == {"Decisions of rules"}


def test_panels_show_what_was_sent(host, answers):
    """The version, the statuses, the classes, the share of refused requests, the order of the quantiles."""
    assert answers["Model", "{{name}} {{version}}"][0]["metric"]["version"] == "1"
    assert {"200", "422"} <= set(values(answers["Requests by status", "{{status}}"], "status"))
    assert set(values(answers["Predictions by class", "{{class}}"], "class")) == {"malignant", "benign"}
    share = {kind: float(answers["Share of errors", kind][0]["value"][1]) for kind in ("4xx", "5xx")}
    assert share["5xx"] == 0 and 0 < share["4xx"] < 0.2
    quantiles = [float(answers["Latency of predictions", name][0]["value"][1]) for name in ("p50", "p95", "p99")]
    assert 0 < quantiles[0] <= quantiles[1] <= quantiles[2] < 2.5
    memory = float(answers["Memory", "resident"][0]["value"][1])
    assert 20e6 < memory < 1e9


def test_prometheus_sees_both_environments(host, answers):
    """It reaches staging and production by name, through the proxy of each."""
    up = ask(host, 'up{job="slipway"}')
    assert values(up, "environment") == {"production": 1, "staging": 1}


def test_shipped_model_is_in_this_mlflow(host):
    """`make ship` registered its version in this host's MLflow, and started no other."""
    from mlflow import MlflowClient

    client = MlflowClient(host.url("mlflow"), host.url("mlflow"))
    assert client.get_model_version_by_alias("breast-cancer", "production").version == "1"
    assert not (host.fork.root / ".mlflow/server.json").exists()


def test_service_outlives_the_others(host):
    """`make down` stops MLflow, Prometheus and Grafana; the service continues, and is seen again after `make up`."""
    host.down()
    send(host)
    host.up()
    deadline = time.monotonic() + PATIENCE
    while not (up := ask(host, 'up{job="slipway",environment="production"} == 1')) and time.monotonic() < deadline:
        time.sleep(2)
    assert up


def test_monitor_reads_the_log_beside_the_service(host, engine):
    """Switched on by one line, it judges the volume of production's log without rights, and leaves log and service alone when it is off."""
    file = host.fork.root / "monitoring/.env"
    shipped = file.read_text(encoding="utf-8")
    send(host)
    file.write_text(f"{shipped}COMPOSE_PROFILES=monitor\n", encoding="utf-8")
    assert "monitor is healthy" in (said := host.up()) and "production is judged now and every day" in said
    wait(lambda: "the next round is in" in host.compose("logs", "monitor"), 120)
    log = host.compose("logs", "--no-log-prefix", "monitor")
    assert "days are judged when they are over" in log and "error" not in log, log
    container = host.containers()["monitor"]
    status = host.compose("exec", "-T", "monitor", "cat", "/proc/1/status")
    rights = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("Uid", "CapBnd", "NoNewPrivs")))
    assert (rights["Uid"].split()[0], int(rights["CapBnd"], 16), rights["NoNewPrivs"]) == ("10001", 0, "1")
    assert container["HostConfig"]["ReadonlyRootfs"] and not container["NetworkSettings"]["Ports"]
    assert host.compose("exec", "-T", "monitor", "find", "/app", "-name", "*.csv", "-o", "-name", ".env") == ""
    file.write_text(shipped, encoding="utf-8")
    assert "monitor is switched off and was ended" in host.up()
    assert "monitor" not in host.containers()
    (volume,) = [one["Name"] for one in container["Mounts"] if one["Destination"] == "/data"]
    assert engine.volumes.get(volume).attrs["Labels"]["slipway.environment"] == "production"
    send(host)
