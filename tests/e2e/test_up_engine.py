"""`make up` on a real engine: MLflow on a real PostgreSQL, a real Prometheus; only Grafana is a stand-in, unless public images are available."""

import re
import socket
import time
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from tests.conftest import forked
from tests.delivery.relay.relays import SECRET, relay_to, server, wait
from tests.e2e.one_host import Host

pytestmark = pytest.mark.needs("engine", "compose")

SERVICES = {"postgres", "mlflow", "prometheus", "grafana"}


@pytest.fixture(scope="module")
def host(engine, tmp_path_factory):
    """A host on which `make up` has run."""
    with forked(tmp_path_factory.mktemp("up")) as fork:
        made = Host(fork)
        try:
            made.said = made.up()
            yield made
        finally:
            made.remove()


@pytest.fixture(scope="module")
def client(host):
    """A client for the host's MLflow."""
    return MlflowClient(host.url("mlflow"), host.url("mlflow"))


@pytest.fixture(scope="module")
def version(host, client, tmp_path_factory):
    """A version with one artifact, registered through the host's MLflow."""
    run = client.create_run(client.create_experiment("up"))
    client.log_metric(run.info.run_id, "log_loss", 0.125)
    file = tmp_path_factory.mktemp("artifact") / "weights.txt"
    file.write_text("0.5 1.5")
    client.log_artifact(run.info.run_id, str(file))
    client.create_registered_model("up")
    made = client.create_model_version("up", f"{run.info.artifact_uri}/weights.txt", run.info.run_id)
    client.set_registered_model_alias("up", "production", made.version)
    return made


def stored(client, version, folder) -> tuple:
    """A version's alias, metric and artifact, as returned by MLflow."""
    found = client.get_model_version_by_alias("up", "production")
    file = client.download_artifacts(version.run_id, "weights.txt", str(folder))
    return found.version, client.get_run(version.run_id).data.metrics["log_loss"], Path(file).read_text()


def test_up_prints_urls_and_the_next_commands(host):
    """`make up` ends when all four are healthy, with their URLs and the commands that deploy a model there."""
    assert {s: c["State"]["Health"]["Status"] for s, c in host.containers().items()} == dict.fromkeys(
        SERVICES, "healthy"
    )
    for service in ("mlflow", "prometheus", "grafana"):
        assert host.url(service) in host.said
    assert f"export MLFLOW_TRACKING_URI={host.url('mlflow')}\n  make ship" in host.said


def test_runs_versions_and_artifacts_go_through_its_mlflow(client, version, tmp_path):
    """A run, a model version with an alias and an artifact are stored and returned over HTTP alone."""
    assert stored(client, version, tmp_path) == ("1", 0.125, "0.5 1.5")
    assert client.get_run(version.run_id).info.artifact_uri.startswith("mlflow-artifacts:/")


def test_mlflow_stores_its_rows_in_postgresql(host, version):
    """The version is in PostgreSQL's table, not in a file of the container."""
    sql = "select name, version from model_versions"
    rows = host.compose("exec", "-T", "postgres", "psql", "-U", "mlflow", "-d", "mlflow", "-At", "-c", sql)
    assert "up|1" in rows.split()


def test_data_survives_down_and_up(host, client, version, tmp_path):
    """`make down` removes every container and no volume; after the next `make up` everything is there again."""
    said = host.down()
    assert "ended: grafana, mlflow, postgres, prometheus; their data is kept" in said
    assert host.containers() == {}
    assert "nothing was running" in host.down()
    host.up()
    assert stored(client, version, tmp_path) == ("1", 0.125, "0.5 1.5")


def test_lost_password_file_is_replaced(host, client, version, tmp_path):
    """When monitoring/.env is gone (git clean, a new clone) `make up` creates a new one and gives PostgreSQL the new password."""
    before = (host.fork.root / "monitoring/.env").read_text(encoding="utf-8")
    (host.fork.root / "monitoring/.env").unlink()
    host.up()
    assert (host.fork.root / "monitoring/.env").read_text(encoding="utf-8") != before
    assert stored(client, version, tmp_path) == ("1", 0.125, "0.5 1.5")


def test_foreign_host_name_is_refused(host):
    """MLflow accepts its names on this machine and `mlflow` among the containers, and no other."""
    api = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(host.url("mlflow") + api, timeout=10).status_code == 200
    assert requests.get(host.url("mlflow") + api, timeout=10, headers={"Host": "evil.example"}).status_code == 403
    inside = host.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", f"http://mlflow:5000{api}")
    assert '"experiments"' in inside


def test_no_port_is_reachable_from_outside(host):
    """Every published port is bound to the loopback interface, and PostgreSQL has none."""
    bound = {
        service: [one["HostIp"] for ports in container["NetworkSettings"]["Ports"].values() for one in ports or []]
        for service, container in host.containers().items()
    }
    assert bound == {key: [] if key == "postgres" else ["127.0.0.1"] for key in SERVICES}


def test_containers_have_minimal_rights(host):
    """Each runs as a user other than root, without capabilities, on a read-only file system, with memory limits."""
    for service, container in host.containers().items():
        status = host.compose("exec", "-T", service, "cat", "/proc/1/status")
        rights = dict(
            line.split(":\t") for line in status.splitlines() if line.startswith(("Uid", "CapBnd", "NoNewPrivs"))
        )
        assert rights["Uid"].split()[0] != "0", service
        assert (int(rights["CapBnd"], 16), rights["NoNewPrivs"]) == (0, "1"), service
        assert container["HostConfig"]["ReadonlyRootfs"] and container["HostConfig"]["Memory"], service
        assert container["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped", service


def test_only_mlflow_reaches_postgresql(host):
    """PostgreSQL's network has no other member than MLflow."""
    members = {s for s, c in host.containers().items() if f"{host.name}_storage" in c["NetworkSettings"]["Networks"]}
    assert members == {"postgres", "mlflow"}


def test_port_in_use_is_named(host):
    """A port that another program holds is refused with its number and purpose, before anything is changed."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = host.refused(SLIPWAY_GRAFANA_PORT=str(port))
    assert f"port {port}, which grafana needs, is in use by another program" in said
    assert f"SLIPWAY_GRAFANA_PORT={port + 1}" in said
    assert host.containers()["grafana"]["State"]["Health"]["Status"] == "healthy"


def test_image_that_cannot_be_pulled_is_named(host):
    """The message has the reason and the variable to choose another image."""
    said = host.refused(SLIPWAY_GRAFANA_IMAGE="127.0.0.1:1/not/there:1")
    assert "the image 127.0.0.1:1/not/there:1 cannot be pulled: " in said and "connection refused" in said
    assert "SLIPWAY_GRAFANA_IMAGE" in said


def test_unavailable_base_image_is_named(host):
    """When MLflow's image cannot be built its base is named, after the engine's message; running containers stay."""
    said = host.refused(PYTHON_IMAGE="127.0.0.1:1/no/python:3")
    assert "the image of MLflow cannot be built from 127.0.0.1:1/no/python:3" in said and "connection refused" in said
    assert host.containers()["mlflow"]["State"]["Health"]["Status"] == "healthy"


def test_service_that_does_not_start_is_shown_with_its_log(host):
    """A service that exits repeatedly is named, with the end of its log; once corrected, it starts with the next `make up`."""
    postgres = host.containers()["postgres"]["Config"]["Image"]  # it exits at once without a password
    said = host.refused(SLIPWAY_GRAFANA_IMAGE=postgres)
    assert "grafana exits again and again: its last lines are above" in said
    assert re.search(r"^  grafana \| .*password", said, re.M | re.I)
    host.up()
    assert host.containers()["grafana"]["State"]["Health"]["Status"] == "healthy"


def test_invalid_prometheus_file_is_refused(host):
    """After an edit `make up` makes Prometheus reload its file; if it is invalid, the message says why, and the old one stays in force."""
    before = host.containers()["prometheus"]["State"]["StartedAt"]
    host.fork.edit("monitoring/prometheus/prometheus.yml", "job_name: prometheus", "job_nam: prometheus")
    said = host.refused()
    assert "monitoring/prometheus/prometheus.yml is wrong" in said and "job_nam" in said
    assert host.containers()["prometheus"]["State"]["StartedAt"] == before
    host.fork.edit("monitoring/prometheus/prometheus.yml", "job_nam: prometheus", "job_name: itself")
    host.up()
    deadline = time.monotonic() + 30  # it reloads some seconds after the signal
    while (jobs := watched(host)) != {"slipway", "itself"} and time.monotonic() < deadline:
        time.sleep(1)
    assert jobs == {"slipway", "itself"}
    host.fork.edit("monitoring/prometheus/prometheus.yml", "job_name: itself", "job_name: prometheus")


def watched(host) -> set[str]:
    """The jobs for which Prometheus has targets."""
    said = requests.get(f"{host.url('prometheus')}/api/v1/targets", timeout=10).json()
    return {target["labels"]["job"] for target in said["data"]["activeTargets"]}


def test_invalid_setting_is_explained(host):
    """A port that is not a number is refused with compose's reason, not with a traceback."""
    said = host.refused(SLIPWAY_MLFLOW_PORT="five")
    assert "monitoring/compose.yaml cannot be read with what is set" in said and "five" in said


def test_concurrent_ups_are_kept_apart(host):
    """A second `make up` names the one that holds the lock."""
    first = host.fork.start("-m", "scripts.host.up", **host.environment)
    try:
        for line in first.stdout:
            if "building" in line:
                assert "`make up` is at work here" in host.refused()
                break
    finally:
        first.communicate(timeout=120)
    assert first.returncode == 0


def test_missing_engine_is_reported(host):
    """If no engine responds, `make up` and `make down` say so and what to do."""
    for arguments in ([], ["--down"]):
        said = host.fork.refused("-m", "scripts.host.up", *arguments, DOCKER_HOST="unix:///nowhere/docker.sock")
        assert "no Docker engine answers" in said and "start it" in said


def test_its_mlflow_reaches_a_relay_on_this_host(host):
    """A moved alias is sent to a relay outside the containers, also after a restart."""
    host.up()
    uri, name = host.url("mlflow"), "breast-cancer"
    client = MlflowClient(uri, uri)
    client.create_registered_model(name)
    client.create_model_version(name, "s3://nowhere/model")
    ask = "import socket; print(socket.gethostbyname('host.docker.internal'))"
    gateway = host.compose("exec", "-T", "mlflow", "python", "-c", ask).strip()
    with server(204) as github, relay_to(github, uri, model=name, host=gateway) as relay:
        url = f"http://host.docker.internal:{relay.port}/webhook"
        given = {"MLFLOW_TRACKING_URI": uri, "SLIPWAY_RELAY_SECRET": SECRET}
        assert "answered 202" in host.fork.ok("-m", "scripts.mlflow.webhook", "--url", url, **given)
        host.compose("restart", "mlflow")
        host.up()
        client.set_registered_model_alias(name, "production", "1")
        wait(lambda: relay.promotions("started") == 1)
        assert len(github.got) == 1
