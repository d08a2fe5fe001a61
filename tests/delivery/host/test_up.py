"""`make up` without an engine: its password file, its words, and the files in monitoring/ that it starts from."""

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
from tests.monitoring.rules import recorded

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = (ROOT / "monitoring/compose.yaml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(COMPOSE)["services"]
DASHBOARD = json.loads((ROOT / "monitoring/grafana/dashboards/service.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/one-host.md").read_text(encoding="utf-8")


@pytest.fixture
def env(tmp_path, monkeypatch) -> Path:
    """A monitoring/.env and a monitoring/keys/ of our own."""
    monkeypatch.setattr(passwords, "KEY", tmp_path / "keys" / "prometheus" / "metrics")
    monkeypatch.setattr(passwords, "ENV", tmp_path / ".env")
    return tmp_path / ".env"


def values(file: Path) -> dict[str, str]:
    """The variables that an env file sets."""
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines() if "=" in line)


def test_passwords_are_made_once_and_for_their_owner_only(env):
    """Long passwords, each its own, are written to a file of mode 600, and the next time they are the same."""
    passwords.make_passwords()
    made = values(env)
    assert set(made) == set(compose.PASSWORDS) and len(set(made.values())) == len(made)
    others = {key: value for key, value in made.items() if key != "SLIPWAY_MLFLOW_WEBHOOK_KEY"}
    assert all(re.fullmatch(r"[0-9a-f]{32}", password) for password in others.values())
    assert Fernet(made["SLIPWAY_MLFLOW_WEBHOOK_KEY"])  # of the form that MLflow asks for
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    passwords.make_passwords()
    assert values(env) == made


def test_a_file_that_others_could_read_is_closed(env):
    """A password file that was made readable for others is closed again."""
    passwords.make_passwords()
    env.chmod(0o644)
    passwords.make_passwords()
    assert stat.S_IMODE(env.stat().st_mode) == 0o600


@pytest.mark.parametrize("written", ["SLIPWAY_GRAFANA_PASSWORD=\n", "SLIPWAY_GRAFANA_PASSWORD=  \n", ""])
def test_what_a_team_wrote_is_kept(env, written):
    """Settings, comments and a password of the team's own stay; only a password that is missing or empty is made."""
    env.write_text(f"# ours\nSLIPWAY_POSTGRES_PASSWORD=own-one\n{written}SLIPWAY_MLFLOW_PORT=5600", encoding="utf-8")
    passwords.make_passwords()
    assert env.read_text(encoding="utf-8").startswith("# ours\n")
    assert values(env)["SLIPWAY_POSTGRES_PASSWORD"] == "own-one"
    assert values(env)["SLIPWAY_MLFLOW_PORT"] == "5600"
    assert env.read_text(encoding="utf-8").count("SLIPWAY_GRAFANA_PASSWORD=") == 1
    assert len(values(env)["SLIPWAY_GRAFANA_PASSWORD"]) == 32


def test_a_file_that_is_no_text_is_refused_and_kept(env):
    """A damaged password file is named, and is left as it is."""
    env.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SlipwayError, match="is damaged"):
        passwords.make_passwords()
    assert env.read_bytes() == b"\xff\xfe\x00"


def test_prometheus_is_given_a_key_once(env):
    """The key that Prometheus shows is made once, one that a team wrote is kept, and an empty file counts as none."""
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


def test_the_key_is_open_to_prometheus_and_to_no_neighbour(env):
    """The file is readable for another user, as Prometheus' container is, behind a folder that only its owner may enter."""
    before = os.umask(0o077)
    try:
        passwords.make_metrics_key()
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (passwords.KEY, passwords.KEY.parent, passwords.KEY.parent.parent)
    ]
    assert modes == [0o644, 0o755, 0o700]


def test_a_damaged_key_is_refused_and_kept(env):
    """A key file that holds something else is named, and is left as it is."""
    passwords.KEY.parent.mkdir(parents=True)
    passwords.KEY.write_bytes(b"\xff\xfe")
    with pytest.raises(SlipwayError, match="is damaged"):
        passwords.make_metrics_key()
    assert passwords.KEY.read_bytes() == b"\xff\xfe"


def test_the_line_that_is_printed_lets_the_key_in(env, capsys):
    """What `make up` prints is a line by which the service knows the key, with the scope metrics alone."""
    passwords.make_metrics_key()
    loopback = {"SLIPWAY_MLFLOW_AUTH": "auto", "SLIPWAY_ADDRESS": "127.0.0.1"}
    ports = {"ports": [{"published": "1"}], "environment": loopback}
    services.say_next({"services": dict.fromkeys(("mlflow", "prometheus", "grafana"), ports)}, load_settings())
    line = re.search(r"^  (prometheus metrics \w+)$", capsys.readouterr().out, re.M)[1]
    caller = Keys(line).find(passwords.metrics_key().encode())
    assert caller and caller.scopes == {"metrics"}


def fake(tmp_path, monkeypatch, script: str) -> None:
    """Put a command `docker` of our own before all others."""
    command = tmp_path / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def said(capsys, *arguments: str) -> str:
    """What a command that ends red says."""
    assert up.main(list(arguments)) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--down"]])
def test_without_docker_it_says_what_to_install(tmp_path, monkeypatch, capsys, arguments):
    """On a machine without the command `docker` it says so, and where to get it."""
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
def test_what_the_engine_lacks_is_told_in_words(tmp_path, monkeypatch, capsys, script, expected):
    """No engine, no permission and no compose plugin are three different messages, each with what to do."""
    fake(tmp_path, monkeypatch, script)
    words = said(capsys)
    assert expected in words and "  next: " in words


def state(status: str, health: str = "starting", restarts: int = 0) -> dict:
    """What the engine says of a container, as far as it is asked."""
    return {"State": {"Status": status, "ExitCode": 2, "Health": {"Status": health}}, "RestartCount": restarts}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (state("running"), ""),
        (state("running", restarts=2), ""),
        (state("restarting", "unhealthy", restarts=1), ""),
        (state("restarting", "unhealthy", restarts=3), "ends again and again"),
        (state("running", "healthy", restarts=7), ""),
        (state("running", "unhealthy"), "is unhealthy"),
        (state("exited"), "has ended (exit status 2)"),
        (state("created"), ""),
    ],
)
def test_a_container_is_given_up_when_waiting_will_not_help(container, expected):
    """Restarting thrice, unhealthy or ended is trouble; slow, or healthy after restarts long ago, is not."""
    assert services.ill(container) == expected


@pytest.mark.parametrize("password", ["a'; drop table runs --", "p@ss/word", ""])
def test_a_password_that_would_not_fit_is_refused(password):
    """What would break the address of the database, or the statement that sets it, never reaches PostgreSQL."""
    with pytest.raises(SlipwayError, match="letters, digits"):
        services.set_password({"services": {"postgres": {"environment": {"POSTGRES_PASSWORD": password}}}})


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_careful(service):
    """Each has a health check, limits, a restart policy, a read-only file system and no rights; ports are bound to one address."""
    one = SERVICES[service]
    assert one["restart"] == "unless-stopped" and one["read_only"] is True and one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert {"healthcheck", "mem_limit", "cpus", "pids_limit", "logging"} <= set(one)
    assert all(port.startswith("${SLIPWAY_ADDRESS:-127.0.0.1}:") for port in one.get("ports", []))


def test_images_are_named_by_version():
    """Each public image is named by a version of at least two numbers, none by `latest` or by nothing."""
    images = {name: one["image"] for name, one in SERVICES.items() if "build" not in one}
    assert set(images) == {"postgres", "prometheus", "grafana"}
    for name, image in images.items():
        assert re.fullmatch(rf"\$\{{SLIPWAY_{name.upper()}_IMAGE:-[a-z/]+:v?\d+\.\d+[\w.-]*\}}", image), image


def test_no_password_has_a_default():
    """Without monitoring/.env compose refuses to start: no password is known before it is made."""
    for key in compose.PASSWORDS:
        assert f"${{{key}:?" in COMPOSE and f"${{{key}:-" not in COMPOSE
    assert SERVICES["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"


def started(folder: Path, **environment: str) -> list[str]:
    """The arguments of `mlflow server` that the command in compose.yaml comes to; `mlflow` is a script that prints them."""
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
def test_mlflow_asks_who_one_is_where_others_can_reach_it(tmp_path, chosen, address, asks):
    """Beyond loopback it asks unless it is told not to; so it does for a word that it does not know. Container and `make up` agree."""
    environment = {"SLIPWAY_MLFLOW_AUTH": chosen, "SLIPWAY_ADDRESS": address}
    assert ("basic-auth" in started(tmp_path, **environment)) is asks
    assert mlflow_admin.asks({"services": {"mlflow": {"environment": environment}}}) is asks


def test_an_endpoint_of_s3_that_is_not_set_is_not_there(tmp_path):
    """An empty endpoint would be taken for an address; one that is set arrives."""
    auth = {"SLIPWAY_MLFLOW_AUTH": "auto", "SLIPWAY_ADDRESS": "127.0.0.1"}
    assert started(tmp_path, **auth, MLFLOW_S3_ENDPOINT_URL="")[-1] == "endpoint=unset"
    assert started(tmp_path, **auth, MLFLOW_S3_ENDPOINT_URL="http://s3:9000")[-1] == "endpoint=http://s3:9000"


def resolved(folder: Path, **environment: str) -> dict[str, str]:
    """The environment of MLflow as compose resolves it, from an env file and a shell of its own."""
    lines = dict.fromkeys(compose.PASSWORDS, "made") | environment
    (folder / "env").write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    command = ["docker", "compose", "--file", ROOT / "monitoring/compose.yaml", "--env-file", folder / "env"]
    shell = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "AWS_SECRET_ACCESS_KEY": "of somebody's shell"}
    said = subprocess.run([*command, "config", "--format", "json"], env=shell, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)["services"]["mlflow"]["environment"]


@pytest.mark.needs("compose")
def test_keys_of_a_bucket_reach_mlflow_only_where_there_is_one(tmp_path):
    """With SLIPWAY_ARTIFACTS its keys arrive; without, MLflow gets none, not even those that somebody has in the shell."""
    keys = {"AWS_ACCESS_KEY_ID": "of the bucket", "MLFLOW_S3_ENDPOINT_URL": "http://s3:9000"}
    without, with_it = (resolved(tmp_path, **keys, **more) for more in ({}, {"SLIPWAY_ARTIFACTS": "s3://b/p"}))
    names = ("MLFLOW_ARTIFACTS_DESTINATION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL")
    assert [without[name] for name in names] == ["/artifacts", "", "", ""]
    assert [with_it[name] for name in names] == ["s3://b/p", "of the bucket", "of somebody's shell", "http://s3:9000"]


def test_mlflow_knows_the_variables_that_it_is_given():
    """Each MLFLOW_ variable of compose.yaml is one that the installed MLflow reads; a misspelt one would be ignored silently."""
    known = {one.name for one in vars(environment_variables).values() if hasattr(one, "name")}
    known |= {"MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_BACKEND_STORE_URI"}  # options of `mlflow server`
    given = {name for name in SERVICES["mlflow"]["environment"] if name.startswith("MLFLOW_")}
    assert len(given) >= 10 and given <= known


def test_every_setting_is_documented_with_its_default():
    """docs/one-host.md lists each variable of compose.yaml, with the default that it has there, and no other."""
    used = dict.fromkeys(re.findall(r"\$\{(\w+):\?", COMPOSE), "made by `make up`")
    used |= dict(re.findall(r"\$\{(\w+):-([^}]+)\}", COMPOSE))
    used |= dict.fromkeys(re.findall(r"\$\{(\w+):-\}", COMPOSE), "none")
    listed = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", PAGE, re.M))
    assert {name: default.strip("`") for name, default in listed.items()} == {n: d.strip("`") for n, d in used.items()}


def expressions() -> list[str]:
    """Every query of the dashboard."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_every_metric_of_the_service_is_on_the_dashboard():
    """What the service counts is shown: no metric of the service is missing from the queries."""
    source = "".join(
        (ROOT / f"serving/telemetry/{name}.py").read_text(encoding="utf-8") for name in ("metrics", "prometheus")
    )
    asked = " ".join(expressions())
    for name in set(re.findall(r'"(slipway_\w+)"', source)):
        assert re.search(rf"\b{name}(_total|_bucket)?\{{", asked), name


def test_the_dashboard_asks_for_what_the_service_counts():
    """Each metric and label in a query is one that the service exposes, that a rule records, or that Prometheus adds."""
    source = "".join(
        (ROOT / f"serving/telemetry/{name}.py").read_text(encoding="utf-8") for name in ("metrics", "prometheus")
    )
    assert len(expressions()) >= 25
    for query in expressions():
        for name in re.findall(r"[\w:]*slipway_[\w:]+", query):
            known = recorded() if ":" in name else source
            assert (name if ":" in name else f'"{re.sub(r"_(total|bucket|sum|count)$", "", name)}"') in known, query
        for labels in re.findall(r"\{(.*?)\}", query):
            assert set(re.findall(r"(\w+)=", labels)) <= {"job", "environment", "status", "path", "alertstate"}, query
        assert 'environment="$environment"' in query


def test_the_dashboard_is_sound():
    """Panels have ids of their own, do not overlap, fit the grid of 24 columns, and use the data source that is provided."""
    provided = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/prometheus.yaml").read_text())
    uid = provided["datasources"][0]["uid"]
    panels = DASHBOARD["panels"]
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["schemaVersion"] >= 39
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
    """The cells of the grid that a panel covers."""
    return [
        (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    ]


def test_grafana_finds_what_is_mounted():
    """The paths that Grafana is told are those under which compose mounts the folders, and the home dashboard is there."""
    mounts = dict(one.split(":")[:2] for one in SERVICES["grafana"]["volumes"])
    provider = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/dashboards/slipway.yaml").read_text())[
        "providers"
    ][0]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert provider["options"]["path"] == mounts["./grafana/dashboards"] == str(home.parent)
    assert (ROOT / "monitoring/grafana/dashboards" / home.name).exists()
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


def test_prometheus_finds_its_key_where_it_is_mounted():
    """The key that `make up` makes is what prometheus.yml names, and git does not take it."""
    mounts = dict(one.split(":")[:2] for one in SERVICES["prometheus"]["volumes"])
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    named = Path(config["scrape_configs"][0]["authorization"]["credentials_file"])
    here = next(source for source, place in mounts.items() if place == str(named.parent))
    assert (ROOT / "monitoring" / here / named.name).resolve() == passwords.KEY
    assert "/monitoring/keys/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_prometheus_and_the_dashboard_name_the_same_environments():
    """Each environment of the targets can be chosen on the dashboard, and is scraped by its name on the network."""
    config = yaml.safe_load((ROOT / "monitoring/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    job = next(job for job in config["scrape_configs"] if job["job_name"] == "slipway")
    scraped = {one["labels"]["environment"]: one["targets"] for one in job["static_configs"]}
    assert scraped == {name: [f"{name}:8000"] for name in ("production", "staging")}
    assert DASHBOARD["templating"]["list"][0]["query"].split(",") == list(scraped)
