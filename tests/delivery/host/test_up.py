"""`make up` without an engine: its password file, its messages, and the files in monitoring/ that it uses."""

import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography.fernet import Fernet
from mlflow import environment_variables

from delivery.host import compose, mlflow_admin, passwords, services
from pipeline.errors import SlipwayError
from pipeline.settings import load_settings
from scripts.host import up
from serving.access.keys import Keys
from tests.monitoring.rules import exposed, recorded

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = (ROOT / "monitoring/compose.yaml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE)["services"]
DASHBOARDS = [
    json.loads((ROOT / f"monitoring/grafana/dashboards/{name}.json").read_text(encoding="utf-8"))
    for name in ("service", "model")
]
LABELS = {"job", "environment", "status", "path", "alertstate", "metric", "variant"}
PAGE = (ROOT / "docs/one-host.md").read_text(encoding="utf-8")


@pytest.fixture
def env(tmp_path, monkeypatch) -> Path:
    """A separate monitoring/.env and monitoring/keys/."""
    monkeypatch.setattr(passwords, "KEY", tmp_path / "keys" / "prometheus" / "metrics")
    monkeypatch.setattr(passwords, "ENV", tmp_path / ".env")
    return tmp_path / ".env"


def values(file: Path) -> dict[str, str]:
    """The variables set in an env file."""
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)


def test_passwords_are_created_once_and_private(env):
    """Long, different passwords are written to a file of mode 600, and are the same the next time."""
    passwords.make_passwords()
    made = values(env)
    assert set(made) == set(compose.PASSWORDS) and len(set(made.values())) == len(made)
    others = {key: value for key, value in made.items() if key != "SLIPWAY_MLFLOW_WEBHOOK_KEY"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", password) for password in others.values())
    assert Fernet(made["SLIPWAY_MLFLOW_WEBHOOK_KEY"])  # in the format that MLflow requires
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    passwords.make_passwords()
    assert values(env) == made


def test_readable_password_file_is_closed(env):
    """A password file that others can read gets mode 600 again."""
    passwords.make_passwords()
    env.chmod(0o644)
    passwords.make_passwords()
    assert stat.S_IMODE(env.stat().st_mode) == 0o600


@pytest.mark.parametrize("written", ["SLIPWAY_GRAFANA_PASSWORD=\n", "SLIPWAY_GRAFANA_PASSWORD=  \n", ""])
def test_team_s_settings_are_kept(env, written):
    """The team's own settings, comments and passwords stay; only a missing or empty password is created."""
    env.write_text(f"# ours\nSLIPWAY_POSTGRES_PASSWORD=own-one\n{written}SLIPWAY_MLFLOW_PORT=5600", encoding="utf-8")
    passwords.make_passwords()
    assert env.read_text(encoding="utf-8").startswith("# ours\n")
    assert values(env)["SLIPWAY_POSTGRES_PASSWORD"] == "own-one"
    assert values(env)["SLIPWAY_MLFLOW_PORT"] == "5600"
    assert env.read_text(encoding="utf-8").count("SLIPWAY_GRAFANA_PASSWORD=") == 1
    assert len(values(env)["SLIPWAY_GRAFANA_PASSWORD"]) == 32


def test_binary_password_file_is_refused_and_kept(env):
    """A damaged password file is named, and left unchanged."""
    env.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SlipwayError, match="is damaged"):
        passwords.make_passwords()
    assert env.read_bytes() == b"\xff\xfe\x00"


def test_prometheus_key_is_created_once(env):
    """The key is created once, a team's own key is kept, and an empty file counts as none."""
    passwords.make_metrics_key()
    made = passwords.metrics_key()
    passwords.make_metrics_key()
    assert re.fullmatch(r"slipway_[\w-]{43}", made) and passwords.metrics_key() == made
    passwords.KEY.write_text("our own\n", encoding="utf-8")
    passwords.make_metrics_key()
    assert passwords.metrics_key() == "our own"
    passwords.KEY.write_text("\n", encoding="utf-8")
    passwords.make_metrics_key()
    assert passwords.metrics_key() not in ("", made)


def test_prometheus_key_is_readable_by_prometheus_alone(env):
    """Other users, such as Prometheus' container, can read the file, but only the owner can enter its folder."""
    before = os.umask(0o077)
    try:
        passwords.make_metrics_key()
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (passwords.KEY, passwords.KEY.parent, passwords.KEY.parent.parent)
    ]
    assert modes == [0o644, 0o755, 0o700]


def test_damaged_key_is_refused_and_kept(env):
    """A key file with other content is named, and left unchanged."""
    passwords.KEY.parent.mkdir(parents=True)
    passwords.KEY.write_bytes(b"\xff\xfe")
    with pytest.raises(SlipwayError, match="is damaged"):
        passwords.make_metrics_key()
    assert passwords.KEY.read_bytes() == b"\xff\xfe"


def test_printed_line_admits_the_key(env, capsys):
    """`make up` prints a line that makes the service accept the key, with the scope metrics only."""
    passwords.make_metrics_key()
    loopback = {"SLIPWAY_MLFLOW_AUTH": "auto", "SLIPWAY_ADDRESS": "127.0.0.1"}
    ports = {"ports": [{"published": "1"}], "environment": loopback}
    services.say_next({"services": dict.fromkeys(("mlflow", "prometheus", "grafana"), ports)}, load_settings())
    line = re.search(r"^  (prometheus metrics \w+)$", capsys.readouterr().out, re.M)[1]
    caller = Keys(line).find(passwords.metrics_key().encode())
    assert caller and caller.scopes == {"metrics"}


def fake(tmp_path, monkeypatch, script: str) -> None:
    """Put a fake command `docker` first on PATH."""
    command = tmp_path / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def said(capsys, *arguments: str) -> str:
    """The error message of a failing command."""
    assert up.main(list(arguments)) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--down"]])
def test_missing_docker_says_what_to_install(tmp_path, monkeypatch, capsys, arguments):
    """Without the command `docker` the message says so, and where to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    words = said(capsys, *arguments)
    assert "there is no `docker` command here" in words and "compose plugin: https://" in words


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock' >&2; exit 1", "no Docker engine answers: Cannot connect"),
        ("echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1", "may not use the Docker engine"),
        ('[ "$1" = version ] || { echo "unknown command" >&2; exit 1; }', "compose plugin is missing"),
    ],
)  # fmt: skip
def test_engine_problems_have_different_messages(tmp_path, monkeypatch, capsys, script, expected):
    """No engine, no permission and no compose plugin each have a message with advice."""
    fake(tmp_path, monkeypatch, script)
    words = said(capsys)
    assert expected in words and "  next: " in words


def state(status: str, health: str = "starting", restarts: int = 0) -> dict:
    """The parts of the engine's description of a container that are used."""
    return {"State": {"Status": status, "ExitCode": 2, "Health": {"Status": health}}, "RestartCount": restarts}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (state("running"), ""),
        (state("running", restarts=2), ""),
        (state("restarting", "unhealthy", restarts=1), ""),
        (state("restarting", "unhealthy", restarts=3), "exits again and again"),
        (state("running", "healthy", restarts=7), ""),
        (state("running", "unhealthy"), "is unhealthy"),
        (state("exited"), "has ended (exit status 2)"),
        (state("created"), ""),
    ],
)
def test_hopeless_container_is_given_up(container, expected):
    """One that restarted three times, is unhealthy or has exited is given up; a slow one, or one healthy after old restarts, is not."""
    assert services.ill(container) == expected


@pytest.mark.parametrize("password", ["a'; drop table runs --", "p@ss/word", ""])
def test_unsuitable_password_is_refused(password):
    """A password that would break the database URL, or the SQL that sets it, never reaches PostgreSQL."""
    with pytest.raises(SlipwayError, match="letters, digits"):
        services.set_password({"services": {"postgres": {"environment": {"POSTGRES_PASSWORD": password}}}})


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_hardened(service):
    """Each has a health check, limits, a restart policy, a read-only file system and no privileges; ports are bound to one address."""
    one = SERVICES[service]
    assert one["restart"] == "unless-stopped" and one["read_only"] is True and one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert {"healthcheck", "mem_limit", "cpus", "pids_limit", "logging"} <= set(one)
    assert all(port.startswith("${SLIPWAY_ADDRESS:-127.0.0.1}:") for port in one.get("ports", []))


def test_images_have_versions():
    """Each public image has a version of at least two numbers, never `latest` or nothing."""
    images = {name: one["image"] for name, one in SERVICES.items() if "build" not in one}
    assert set(images) == {"postgres", "prometheus", "grafana"}
    for name, image in images.items():
        assert re.fullmatch(rf"\$\{{SLIPWAY_{name.upper()}_IMAGE:-[a-z/]+:v?\d+\.\d+[\w.-]*\}}", image), image


def test_no_password_has_a_default():
    """Without monitoring/.env compose refuses to start: there are no known default passwords."""
    for key in compose.PASSWORDS:
        assert f"${{{key}:?" in COMPOSE and f"${{{key}:-" not in COMPOSE
    assert SERVICES["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def started(folder: Path, **environment: str) -> list[str]:
    """The arguments of `mlflow server` that the command in compose.yaml results in; `mlflow` is a script that prints them."""
    (folder / "mlflow").write_text(
        '#!/bin/sh\necho "$@" "endpoint=${MLFLOW_S3_ENDPOINT_URL-unset}"\n', encoding="utf-8"
    )
    (folder / "mlflow").chmod(0o755)
    shell, option, command = SERVICES["mlflow"]["command"]
    environment |= {"PATH": f"{folder}:{os.environ['PATH']}", "MLFLOW_BACKEND_STORE_URI": "postgresql://"}
    said = subprocess.run([shell, option, command.replace("$$", "$")], env=environment, capture_output=True, text=True)
    return said.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(
    ("chosen", "address", "asks"),
    [
        ("auto", "127.0.0.1", False),
        ("auto", "127.0.0.2", False),
        ("auto", "localhost", False),
        ("auto", "::1", False),
        ("auto", "0.0.0.0", True),
        ("auto", "::", True),
        ("auto", "192.168.1.5", True),
        ("auto", "1127.0.0.1", True),
        ("auto", "", True),
        ("basic", "127.0.0.1", True),
        ("none", "0.0.0.0", False),
        ("of", "127.0.0.1", True),
        ("", "127.0.0.1", True),
    ],
)
def test_mlflow_requires_a_login_beyond_loopback(tmp_path, chosen, address, asks):
    """Unless it is turned off, also for an unknown value; container and `make up` agree."""
    environment = {"SLIPWAY_MLFLOW_AUTH": chosen, "SLIPWAY_ADDRESS": address}
    assert ("basic-auth" in started(tmp_path, **environment)) is asks
    assert mlflow_admin.asks({"services": {"mlflow": {"environment": environment}}}) is asks


def test_unset_s3_endpoint_is_not_passed(tmp_path):
    """An empty endpoint would be taken for a URL; one that is set is passed."""
    auth = {"SLIPWAY_MLFLOW_AUTH": "auto", "SLIPWAY_ADDRESS": "127.0.0.1"}
    assert started(tmp_path, **auth, MLFLOW_S3_ENDPOINT_URL="")[-1] == "endpoint=unset"
    assert started(tmp_path, **auth, MLFLOW_S3_ENDPOINT_URL="http://s3:9000")[-1] == "endpoint=http://s3:9000"


def resolved(folder: Path, **environment: str) -> dict[str, str]:
    """MLflow's environment as compose resolves it from an env file and a separate shell."""
    lines = dict.fromkeys(compose.PASSWORDS, "made") | environment
    (folder / "env").write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    command = ["docker", "compose", "--file", ROOT / "monitoring/compose.yaml", "--env-file", folder / "env"]
    shell = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "AWS_SECRET_ACCESS_KEY": "of somebody's shell"}
    said = subprocess.run([*command, "config", "--format", "json"], env=shell, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["services"]["mlflow"]["environment"]


@pytest.mark.needs("compose")
def test_bucket_keys_reach_mlflow_only_with_a_bucket(tmp_path):
    """With SLIPWAY_ARTIFACTS MLflow gets the keys; without it none, not even those in the user's shell."""
    keys = {"AWS_ACCESS_KEY_ID": "of the bucket", "MLFLOW_S3_ENDPOINT_URL": "http://s3:9000"}
    without, with_it = (resolved(tmp_path, **keys, **more) for more in ({}, {"SLIPWAY_ARTIFACTS": "s3://b/p"}))
    names = ("MLFLOW_ARTIFACTS_DESTINATION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL")
    assert [without[name] for name in names] == ["/artifacts", "", "", ""]
    assert [with_it[name] for name in names] == ["s3://b/p", "of the bucket", "of somebody's shell", "http://s3:9000"]


def test_mlflow_knows_its_variables():
    """Each MLFLOW_ variable of compose.yaml is one that the installed MLflow reads; a misspelt one would be ignored silently."""
    known = {one.name for one in vars(environment_variables).values() if hasattr(one, "name")}
    known |= {"MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_BACKEND_STORE_URI"}  # options of `mlflow server`
    given = {name for name in SERVICES["mlflow"]["environment"] if name.startswith("MLFLOW_")}
    assert len(given) >= 10 and given <= known


def test_every_setting_is_documented_with_its_default():
    """docs/one-host.md lists exactly the variables of compose.yaml, with their defaults."""
    used = dict.fromkeys(re.findall(r"\$\{(\w+):\?", COMPOSE), "made by `make up`")
    used |= dict(re.findall(r"\$\{(\w+):-([^}]+)\}", COMPOSE))
    used |= dict.fromkeys(re.findall(r"\$\{(\w+):-\}", COMPOSE), "none")
    listed = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", PAGE, re.M))
    assert {name: default.strip("`") for name, default in listed.items()} == {n: d.strip("`") for n, d in used.items()}


def expressions() -> list[str]:
    """Every query of the dashboards."""
    panels = [panel for dashboard in DASHBOARDS for panel in dashboard["panels"]]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return asked + [one["expr"] for dashboard in DASHBOARDS for one in dashboard["annotations"]["list"]]


def test_every_metric_is_on_a_dashboard():
    """No metric of the service is missing from the queries."""
    asked = " ".join(expressions())
    for name in exposed():
        assert re.search(rf"\b{name}(_total|_bucket|_count)?\{{", asked), name


def test_dashboard_queries_use_existing_metrics():
    """Each metric and label in a query is exposed by the service, recorded by a rule, or added by Prometheus."""
    assert len(expressions()) >= 40
    for query in expressions():
        for name in re.findall(r"[\w:]*(?:slipway_|model_accuracy|data_drift)[\w:]*(?=\{)", query):
            known = recorded() if ":" in name else exposed()
            assert (name if ":" in name else re.sub(r"_(total|bucket|sum|count)$", "", name)) in known, query
        for labels in re.findall(r"\{(.*?)\}", query):
            assert set(re.findall(r"(\w+)=", labels)) <= LABELS, query
        assert 'environment="$environment"' in query


def test_each_dashboard_has_a_name_of_its_own():
    """Their ids and titles differ, and each can be reached from the other by their tag."""
    for key in ("uid", "title"):
        assert len({dashboard[key] for dashboard in DASHBOARDS}) == len(DASHBOARDS)
    for dashboard in DASHBOARDS:
        assert [link["tags"] for link in dashboard["links"]] == [dashboard["tags"]] == [["slipway"]]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one["uid"])
def test_dashboard_is_valid(dashboard):
    """Panels have unique ids, do not overlap, fit the grid of 24 columns, and use the provided data source."""
    provided = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yaml").read_text())
    uid = provided["datasources"][0]["uid"]
    panels = dashboard["panels"]
    assert dashboard["uid"] and dashboard["title"] and dashboard["schemaVersion"] >= 39
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["w"] == 24 and not panel["panels"] for panel in panels if panel["type"] == "row")
    cells = [cell for panel in panels for cell in area(panel["gridPos"])]
    assert len(cells) == len(set(cells)) and max(column for column, _ in cells) < 24
    for panel in (panel for panel in panels if panel["type"] != "row"):
        asked = [panel, *panel["targets"]]
        assert all(one["datasource"] == {"type": "prometheus", "uid": uid} for one in asked), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) and panel["description"]


def area(place: dict) -> list[tuple[int, int]]:
    """The grid cells of a panel."""
    return [
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    ]


def test_grafana_finds_its_mounted_files():
    """Grafana's configured paths are those where compose mounts the folders, and the home dashboard is there."""
    mounts = dict(one.split(":")[:2] for one in SERVICES["grafana"]["volumes"])
    provider = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/dashboards/slipway.yaml").read_text())[
        "providers"
    ][0]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"] == str(home.parent)
    assert (ROOT / "monitoring/grafana/dashboards" / home.name).exists()
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


def test_prometheus_finds_its_mounted_key():
    """prometheus.yml names the key that `make up` creates, and git ignores it."""
    mounts = dict(one.split(":")[:2] for one in SERVICES["prometheus"]["volumes"])
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    named = Path(config["scrape_configs"][0]["authorization"]["credentials_file"])
    here = next(source for source, place in mounts.items() if place == str(named.parent))
    assert (ROOT / "monitoring" / here / named.name).resolve() == passwords.KEY
    assert "/monitoring/keys/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_prometheus_and_dashboard_have_the_same_environments():
    """Each environment of the targets can be chosen on the dashboards, and is scraped by its name on the network."""
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "slipway")
    scraped = {one["labels"]["environment"]: one["targets"] for one in job["static_configs"]}
    assert scraped == {name: [f"{name}:8000"] for name in ("production", "staging")}
    for dashboard in DASHBOARDS:
        assert dashboard["templating"]["list"][0]["query"].split(",") == list(scraped)
