"""MLflow, PostgreSQL, Prometheus and Grafana in containers on this host: start, check, stop."""

import hashlib
import os
import re
import sys
import time
from contextlib import closing
from subprocess import PIPE, STDOUT

from delivery import networks, targets
from delivery.host import mlflow_admin
from delivery.host.compose import (
    compose,
    containers,
    described,
    docker,
    done,
    last_line,
    published,
    without_passwords,
)
from delivery.host.passwords import make_metrics_key, make_passwords, metrics_key
from delivery.targets import docker as docker_target
from pipeline import processes
from pipeline.errors import OneHostError

WAIT_SECONDS = 300
ALL = ("--profile", "*")  # also what monitoring/.env does not switch on
LOGS = "docker compose -f monitoring/compose.yaml logs"


def up() -> dict:
    """Start the services and wait until they are healthy; return the resolved configuration."""
    make_passwords()
    make_metrics_key()
    model = described()
    refuse_taken_ports(model)
    make_network(model["networks"]["slipway"]["name"])
    have_images(model)
    if "monitor" in model["services"]:
        docker_target.make_log_volume("production")
    check_prometheus()
    start("postgres")
    set_password(model)
    start(*(set(model["services"]) - {"postgres"}))
    end_what_is_off(model)
    if mlflow_admin.asks(model):
        mlflow_admin.keep_password(model, addresses(model)["mlflow"])
    compose("kill", "--signal", "SIGHUP", "prometheus")  # makes it reload its configuration
    return model


def down() -> None:
    """Stop and remove the containers, never their volumes: no option of ours deletes stored data."""
    ended = sorted(containers())
    done(compose(*ALL, "down", env=without_passwords()), "not everything could be stopped", f"`{LOGS}` may say why")
    print(f"ended: {', '.join(ended)}; their data is kept" if ended else "nothing was running")


def refuse_taken_ports(model: dict) -> None:
    """Raise OneHostError when a port that we need is in use by anything but our own containers."""
    ours = set().union(*map(published, containers().values()))
    for service, one in model["services"].items():
        for port in (int(port["published"]) for port in one.get("ports", [])):
            if port not in ours and processes.port_taken(port):
                raise OneHostError(
                    f"port {port}, which {service} needs, is in use by another program",
                    f"end that, or write SLIPWAY_{service.upper()}_PORT={port + 1} into monitoring/.env",
                )


def make_network(name: str) -> None:
    """Create the network shared by the service and Prometheus; if the engine has two of that name, remove one."""
    import docker as client
    from requests import RequestException

    # The engine of the docker command line: the client does not follow its context by itself.
    address = done(
        docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}"),
        "the Docker engine's address is not known",
        "see `docker context ls`",
    ).strip()
    try:
        given = os.environ.get("DOCKER_HOST")
        engine = client.from_env(timeout=60) if given else client.DockerClient(base_url=address, timeout=60)
        with closing(engine):
            networks.ensure(engine, name)
    except (client.errors.DockerException, RequestException) as error:
        raise OneHostError(f"the network {name} cannot be made: {error}", "see `docker network ls`") from error


def have_images(model: dict) -> None:
    """Build our images, which is quick when they exist, and pull missing ones."""
    for service in sorted(name for name, one in model["services"].items() if "build" in one):
        build(service, model["services"][service]["build"]["args"]["PYTHON_IMAGE"])
    for service, one in model["services"].items():
        if "build" not in one and docker("image", "inspect", one["image"]).returncode:
            print(f"pulling {one['image']}", flush=True)
            done(
                docker("pull", "--quiet", one["image"]),
                f"the image {one['image']} cannot be pulled",
                f"log in or come online; SLIPWAY_{service.upper()}_IMAGE in monitoring/.env names it elsewhere, say on a mirror",
            )


def build(service: str, base: str) -> None:
    """Build the image of one of our services; raises OneHostError after showing why it cannot be."""
    whose = {"mlflow": "MLflow", "monitor": "the monitor"}[service]
    print(f"building the image of {whose} (some minutes the first time)", flush=True)
    built = compose("build", service, env=os.environ | {"BUILDKIT_PROGRESS": "plain"})
    if built.returncode:
        print(f"{built.stdout}{built.stderr}"[-3000:], file=sys.stderr)
    done(
        built,
        f"the image of {whose} cannot be built from {base}",
        "the lines above say why; PYTHON_IMAGE names another base",
    )


def check_prometheus() -> None:
    """Raise OneHostError when Prometheus's configuration is invalid, before any running container is replaced."""
    promtool = ("--entrypoint", "promtool", "prometheus", "check", "config", "/etc/prometheus/prometheus.yml")
    said = compose("run", "--rm", "--no-deps", "-T", *promtool)
    done(said, "monitoring/prometheus/prometheus.yml is wrong", "correct it; until then nothing is changed")


def start(*services: str) -> None:
    """Start services and wait until each is healthy; raises OneHostError after showing the log of one that fails."""
    forget_the_ill(*services)
    begun = time.monotonic()
    started = compose("up", "--detach", "--no-build", *services)
    waiting = set(services)
    while waiting:
        found = containers()
        late = time.monotonic() - begun > WAIT_SECONDS
        for service in sorted(waiting & set(found)):
            refuse_trouble(service, found[service], late)
            if healthy(found[service]):
                waiting.discard(service)
                print(f"{service} is healthy ({time.monotonic() - begun:.0f} s)", flush=True)
        if started.returncode or late:
            said = last_line(started.stderr)
            raise OneHostError(f"not everything could be started: {said}", f"`{LOGS}` may say more")
        time.sleep(1 if waiting else 0)


def end_what_is_off(model: dict) -> None:
    """End what was switched on before and is not any more: compose leaves it running."""
    for service in sorted(set(containers()) - set(model["services"])):
        done(
            compose(*ALL, "rm", "--stop", "--force", service),
            f"{service}, which is switched off, could not be ended",
            f"`{LOGS}` may say why",
        )
        print(f"{service} is switched off and was ended", flush=True)


def forget_the_ill(*services: str) -> None:
    """Remove containers that failed earlier: the cause may be fixed, and a new one starts without back-off."""
    failed = [service for service, container in containers().items() if service in services and ill(container)]
    if failed:
        compose("rm", "--stop", "--force", *failed)


def refuse_trouble(service: str, container: dict, late: bool) -> None:
    """Show the log of a container that cannot become healthy, and raise OneHostError."""
    trouble = ill(container) or (late and not healthy(container) and f"is not ready after {WAIT_SECONDS} s")
    if trouble:
        show_log(service, container)
        raise OneHostError(f"{service} {trouble}: its last lines are above", f"`{LOGS} {service}` shows all of them")


def healthy(container: dict) -> bool:
    """Whether a container runs and passes its health check."""
    return container["State"].get("Health", {}).get("Status") == "healthy"


def ill(container: dict) -> str:
    """Why a container cannot become healthy by waiting, else ""."""
    state = container["State"]
    if container["RestartCount"] >= 3 and not healthy(container):
        return "exits again and again"
    if state["Status"] in ("exited", "dead"):
        return f"has ended (exit status {state['ExitCode']})"
    unhealthy = state.get("Health", {}).get("Status") == "unhealthy"
    # While restarting, a container is also reported as unhealthy.
    return "is unhealthy" if unhealthy and state["Status"] == "running" else ""


def show_log(service: str, container: dict) -> None:
    """Print the last lines of a container's log."""
    said = docker("logs", "--tail", "20", container["Id"], capture_output=False, stdout=PIPE, stderr=STDOUT).stdout
    for line in said.splitlines() or ["(its log is empty)"]:
        print(f"  {service} | {line}", file=sys.stderr)


def set_password(model: dict) -> None:
    """Set PostgreSQL's password to the one in monitoring/.env: the volume may be older than that file."""
    password = model["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"]
    if not re.fullmatch(r"[A-Za-z0-9_-]+", password):
        raise OneHostError(
            "SLIPWAY_POSTGRES_PASSWORD holds more than letters, digits, - and _", "remove its line: a new one is made"
        )
    psql = ("psql", "--quiet", "--no-psqlrc", "--username=mlflow", "--dbname=mlflow", "--set=ON_ERROR_STOP=1")
    said = compose("exec", "-T", "postgres", *psql, input=f"ALTER ROLE mlflow PASSWORD '{password}'")
    done(said, "PostgreSQL's password could not be set", f"`{LOGS} postgres`")


def reached(port: dict) -> str:
    """The address at which this machine reaches a published port; for one bound to all interfaces, loopback."""
    bound = port.get("host_ip", "0.0.0.0")
    return "127.0.0.1" if bound == "0.0.0.0" else bound


def addresses(model: dict) -> dict[str, str]:
    """Each service's URL on this machine."""
    ports = {service: one["ports"][0] for service, one in model["services"].items() if one.get("ports")}
    return {service: f"http://{reached(port)}:{port['published']}" for service, port in ports.items()}


def say_next(model: dict, settings) -> None:
    """Print the URLs, and the commands that deploy a model there."""
    urls = addresses(model)
    print(f"\nMLflow      {urls['mlflow']}\nPrometheus  {urls['prometheus']}")
    print(f"Grafana     {urls['grafana']}  (admin; its password is SLIPWAY_GRAFANA_PASSWORD in monitoring/.env)")
    print("\nnext, in each shell that works with this MLflow, and once per model:\n")
    print(f"  export MLFLOW_TRACKING_URI={urls['mlflow']}")
    if mlflow_admin.asks(model):
        print("  export MLFLOW_TRACKING_USERNAME=admin")
        print('  export MLFLOW_TRACKING_PASSWORD="$(sed -n s/^SLIPWAY_MLFLOW_ADMIN_PASSWORD=//p monitoring/.env)"')
    print("  make ship")
    if mlflow_admin.asks(model):
        print(
            "\nMLflow requires a login; this creates an account for somebody (READ, EDIT or MANAGE: docs/mlflow-server.md):\n"
        )
        print("  make mlflow-user NAME=anna PERMISSION=READ")
    print("\nif the service requires API keys, add this line to them for Prometheus:\n")
    print(f"  prometheus metrics {hashlib.sha256(metrics_key().encode()).hexdigest()}")
    if "monitor" in model["services"]:
        print(f"\nproduction is judged now and every day at 03:41 UTC; `{LOGS} monitor` shows what was found")
    target = targets.choose(settings).NAME
    if target != "docker":
        print(
            f"\nnote: releases go to the target {target} here, where this Prometheus does not see them: pipeline.toml, [deploy] target"
        )
