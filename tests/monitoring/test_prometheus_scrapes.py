"""A real Prometheus with our configuration, and a real service with two workers and API keys."""

import json
import math
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml

from pipeline.processes import free_port
from serving.access.keys import make_key
from tests.monitoring.rules import FOLDER, ROOT, alerts, recorded
from tests.serving.bundles import make_bundle
from tests.serving.counts.test_findings import a_database
from tests.serving.service import Service, serving

pytestmark = pytest.mark.needs("prometheus")

PATIENCE = 60  # seconds until a scrape or a rule evaluation must have happened; each takes one
SENT = 200  # requests, each over a new connection, so that both workers get some
REFUSED = 7
OF_EXPERIMENTS = re.compile("slipway_(experiment|shadow)_")  # test_experiment_panels.py has these
A_DAY_LATER = "Shift against the day before"  # the panel without data on the first day


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> dict:
        """A response of its API."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, query: str) -> list[dict]:
        """The current series of a query, without those whose value is not a number."""
        found = self.get("query", query=query)["result"]
        return [one for one in found if math.isfinite(float(one["value"][1]))]

    def number(self, query: str) -> float | None:
        """The value of a query with at most one series."""
        found = self.ask(query)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def target(self) -> dict:
        """Its view of the service: health, and the error of the last scrape."""
        return next(one for one in self.get("targets")["activeTargets"] if one["labels"]["job"] == "slipway")


def eventually(what):
    """The first truthy result of `what`, or its last result."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := what()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def configured(folder: Path, target: str, own: str, key: Path) -> Path:
    """Our configuration with other addresses, a test's key, and a scrape interval of a second."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / file) for file in config["rule_files"]]
    slipway, itself = config["scrape_configs"]
    slipway["static_configs"] = [{"targets": [target], "labels": {"environment": "production"}}]
    slipway["authorization"]["credentials_file"] = str(key)
    itself["static_configs"] = [{"targets": [own]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


@contextmanager
def watching(service: Service, key: str, folder: Path):
    """Run Prometheus with a key for a service until the first scrape, and stop it with SIGTERM at the end."""
    folder.mkdir()
    (folder / "key").write_text(key + "\n", encoding="utf-8")
    own = f"127.0.0.1:{free_port()}"
    config = configured(folder, service.url.removeprefix("http://"), own, folder / "key")
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={own}",
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said)
        prometheus = Prometheus(f"http://{own}")

        def scraped() -> bool:
            assert process.poll() is None, "prometheus ended"
            try:
                return prometheus.target()["health"] != "unknown"
            except (requests.RequestException, StopIteration):
                return False

        try:
            if not eventually(scraped):
                raise AssertionError("prometheus scrapes nothing")
            yield prometheus
        except AssertionError:
            said.seek(0)
            print(said.read().decode()[-3000:])
            raise
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """A key for Prometheus, and its line."""
    return make_key("prometheus", "metrics")


@pytest.fixture(scope="module")
def caller() -> tuple[str, str]:
    """A key for predictions, and its line."""
    return make_key("caller", "predict")


@pytest.fixture(scope="module")
def service(key, caller, tmp_path_factory):
    """A service with two workers, API keys and a prediction log."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "keys").write_text(f"{key[1]}\n{caller[1]}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SLIPWAY_API_KEYS_FILE", str(folder / "keys"))
        environment.setenv("SLIPWAY_DATABASE_URL", a_database(folder))
        with serving(make_bundle("binary", folder / "bundle"), "--workers", "2") as running:
            yield running


@pytest.fixture(scope="module")
def prometheus(service, key, tmp_path_factory):
    """Prometheus with the right key, after requests were sent to the service."""
    with watching(service, key[0], tmp_path_factory.mktemp("prometheus") / "right") as running:
        yield running


@pytest.fixture(scope="module")
def sent(service, prometheus, caller) -> dict[str, int]:
    """Number of requests sent, by the status of the response; between two scrapes and after them."""
    headers = {"X-API-Key": caller[0]}
    assert eventually(lambda: prometheus.number("slipway_workers") == 2)

    def send(row) -> str:
        answer = requests.post(f"{service.url}/predict", json={"features": row}, headers=headers, timeout=30)
        return str(answer.status_code)

    rows = (service.golden["inputs"] * SENT)[:SENT]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, rows[: SENT // 2]))
        assert eventually(lambda: prometheus.number('sum(slipway_requests_total{path="/predict"})') == SENT // 2)
        statuses += list(pool.map(send, rows[SENT // 2 :]))
    headers.clear()
    statuses += [send(rows[0]) for _ in range(REFUSED)]
    return {status: statuses.count(status) for status in set(statuses)}


def test_prometheus_reaches_the_service_with_its_key(prometheus):
    """With a key of the scope metrics the target is up."""
    target = prometheus.target()
    assert (target["health"], target["lastError"]) == ("up", "")
    assert eventually(lambda: prometheus.number('up{job="slipway",environment="production"}') == 1)


def test_prometheus_counts_requests_of_both_workers(prometheus, sent):
    """The counters of both workers together are the sent requests, by status, and the predicted rows."""
    assert sent == {"200": SENT, "401": REFUSED}
    query = 'sum(slipway_requests_total{path="/predict"})'
    assert eventually(lambda: prometheus.number(query) == SENT + REFUSED), prometheus.ask(query)
    for status, number in sent.items():
        assert prometheus.number(f'sum(slipway_requests_total{{path="/predict",status="{status}"}})') == number
    assert prometheus.number("sum(slipway_predictions_total)") == SENT
    assert prometheus.number('slipway_prediction_value_bucket{le="+Inf"}') == SENT
    assert prometheus.number("slipway_workers") == 2


def test_prometheus_has_loaded_every_rule(prometheus):
    """Each rule of our files is present and evaluated without an error."""
    names = [*alerts(), *recorded()]

    def healthy() -> bool:
        loaded = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in loaded} == set(names)
        return all(rule["health"] == "ok" for rule in loaded)

    assert eventually(healthy), prometheus.get("rules")


@pytest.mark.parametrize("name", [name for name in recorded() if not name.endswith(("before", "shift"))])
def test_prometheus_records_metrics(prometheus, sent, name):
    """Each recording rule has a number for the service, except those that need a day."""
    assert eventually(lambda: prometheus.ask(f'{name}{{environment="production"}}'))


def test_alert_fires_with_real_numbers(service, prometheus):
    """Under continued requests without a key, the alert about refused clients fires for the environment, with its text filled in."""

    def raised() -> list[dict]:
        for _ in range(10):
            assert requests.post(f"{service.url}/predict/batch", json={}, timeout=10).status_code == 401
        return [one for one in prometheus.get("alerts")["alerts"] if one["labels"]["alertname"] == "CallersRefused"]

    found = eventually(raised)
    assert [(one["labels"]["environment"], one["state"]) for one in found] == [("production", "pending")]
    assert found[0]["annotations"]["summary"].startswith("production refuses ")


@pytest.fixture(scope="module", params=["service", "model"])
def panels(request) -> dict[tuple[str, str], str]:
    """A dashboard's queries by panel and legend."""
    file = ROOT / f"monitoring/grafana/dashboards/{request.param}.json"
    given = {"$environment": "production", "$metric": "accuracy", "$__rate_interval": "1m"}
    queries = {
        (panel["title"], target["legendFormat"]): target["expr"]
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
    }
    for name, value in given.items():
        queries = {key: query.replace(name, value) for key, query in queries.items()}
    return queries


def test_every_panel_has_data(prometheus, sent, panels):
    """Each query of a dashboard returns numbers; processor time exists for a single worker only, no experiment runs, and the model has no rules."""
    assert len(panels) >= 15
    absent = {
        "CPU",
        A_DAY_LATER,
        "Decisions of rules",
        *(title for (title, _), query in panels.items() if OF_EXPERIMENTS.search(query)),
    }
    asked = {key: query for key, query in panels.items() if key[0] not in absent}
    for key, query in asked.items():
        assert eventually(lambda query=query: prometheus.ask(query)), (key, query)
    assert not [key for key, query in panels.items() if key[0] in absent and prometheus.ask(query)]


def test_wrong_key_takes_the_target_down(service, prometheus, caller, tmp_path):
    """With an unknown key (401), or one without the scope metrics (403), the target is down and says why."""
    for name, key, status in (("unknown", "slipway_of_somebody_else", "401"), ("other", caller[0], "403")):
        with watching(service, key, tmp_path / name) as other:
            assert eventually(lambda other=other: other.number('up{job="slipway"}') == 0)
            target = other.target()
            assert target["health"] == "down" and status in target["lastError"]
    assert prometheus.target()["health"] == "up"
