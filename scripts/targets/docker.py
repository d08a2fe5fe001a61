"""Target `docker`: an environment is one container of the release's image, behind a door on the port of pipeline.toml.

A release is started beside the old one and tested on a port of its own; then it takes over the name by which the door
finds what serves, and the old one ends when its callers have left. No request is lost, and going back is giving the name
back. The engine knows all there is to know: names and labels of the containers are the record.
"""

import calendar
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline import images
from pipeline.artifacts import ROOT, STATE, write_text
from pipeline.errors import DeployError, SlipwayError
from pipeline.release import Release
from pipeline.settings import Settings
from scripts.smoke_test import smoke_test
from scripts.targets.ready import answers

NAME = "docker"
WHY = "containers of the Docker engine on this machine"
IMAGES = True
NETWORK = "slipway"  # on it the doors are `staging` and `production`, port 8000: for Prometheus and other neighbours
PORT = "8000/tcp"
UNNOTICED = 0.3  # seconds in which a connection that was on its way to the old release arrives there
DRAIN = 20  # seconds that a service may take to let its callers go; see serving/drain.py
USED = STATE / "docker"  # says that this checkout has used an engine, for when none answers
LIMITS = {"mem_limit": "1g", "pids_limit": 256}
LOCKED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "tmpfs": {"/tmp": "size=64m"}}


def unavailable(settings: Settings) -> str | None:
    """Why no Docker engine can be used here, in words; None when one answers."""
    return _no_engine()


def _no_engine() -> str | None:
    import docker

    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except docker.errors.DockerException as error:
        reason = "permission denied" if "ermission denied" in str(error) else "no Docker engine answers"
        return f"{reason} (`docker info` says more)"
    return None if client.api.base_url.startswith("http+docker") else "DOCKER_HOST is another machine"


def serving(environment: str, settings: Settings) -> dict[str, Any] | None:
    """What serves in the environment: {name, version, digest, image, url, port, bundle, since}; None when nothing does."""
    with _engine() as engine:
        # Killed between two names, a release leaves `before` where the door still finds it.
        live = _find(engine, environment, "live") or _find(engine, environment, "before")
        doors = [door for door in _doors(engine, environment) if door.status == "running"]
        return _record(live, doors[0]) if live and live.status == "running" and doors else None


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """The environment's address, which any program on this machine can use; callers use the same."""
    yield f"http://127.0.0.1:{settings.deploy.port(environment)}"


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> dict[str, Any]:
    """Put a release into the place of what serves; raises DeployError after restoring that when it fails."""
    with _engine() as engine:
        _tidy(engine, environment)
        new = _start(engine, environment, release)
        port, doors = settings.deploy.port(environment), _doors(engine, environment)
        try:
            url = _wait(new, environment, settings)
            smoke_test(url, release.bundle, release.version)
            door = _open_door(engine, environment, release, port)
            _switch(engine, environment, new, door, release)
        except BaseException:  # whatever it was, the keyboard included: a release that failed must not stay
            for failed in (new, *(one for one in _doors(engine, environment) if one not in doors)):
                failed.remove(force=True)
            raise
        for old in (_find(engine, environment, "before"), *(one for one in doors if one != door)):
            _retire(old)
        new.reload()
        return _record(new, door)


def holds(environment: str, settings: Settings) -> bool:
    """Whether a door of ours stands on the environment's port, with or without a release behind it."""
    if _no_engine():
        return False
    with _engine() as engine:
        port = str(settings.deploy.port(environment))
        return any(door.labels["slipway.port"] == port for door in _doors(engine, environment))


def stop(environment: str) -> bool:
    """Remove the environment's containers; False when there are none, or no engine."""
    if why := _no_engine():
        if not USED.exists():
            return False
        raise DeployError(
            f"containers of {environment} may go on: {why}",
            f"`make stop` again when it does, with DOCKER_HOST as it was; if they are gone, delete {USED.relative_to(ROOT)}",
        )
    with _engine() as engine:
        found = engine.containers.list(all=True, filters={"label": _labels(environment)})
        for container in found:
            _retire(container)
        return bool(found)


@contextmanager
def _engine() -> Iterator[Any]:
    """A client of the engine; its errors become ours, in words."""
    import docker
    import requests

    try:
        client = docker.from_env(timeout=60)
        try:
            yield client
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException) as error:
        said = getattr(error, "explanation", None) or str(error)
        raise DeployError(
            f"the Docker engine says: {said}", "`docker info` and `docker ps -a` show its state"
        ) from error


def _labels(environment: str) -> list[str]:
    return [f"slipway.checkout={ROOT}", f"slipway.environment={environment}"]


def _name(environment: str, role: str) -> str:
    """A container's name, its own for each checkout: a second one on this machine must not take the place of the first."""
    return f"slipway-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}-{environment}-{role}"


def _find(engine, environment: str, role: str):
    """The container in a role: `live` serves, `next` is on trial, `before` retires."""
    import docker

    try:
        return engine.containers.get(_name(environment, role))
    except docker.errors.NotFound:
        return None


def _doors(engine, environment: str) -> list[Any]:
    """The containers that stand before them, newest first: one for each port, so more than one only in between."""
    return engine.containers.list(all=True, filters={"label": [*_labels(environment), "slipway.port"]})


def _tidy(engine, environment: str) -> None:
    """Put right what a killed release left: an unfinished trial, a retired one, a live one that lost its name."""
    before = _find(engine, environment, "before")
    if before and not _find(engine, environment, "live"):
        before.rename(_name(environment, "live"))
        before = None
    for left in filter(None, (before, _find(engine, environment, "next"))):
        left.remove(force=True)


def _start(engine, environment: str, release: Release):
    """Start the release on trial, on a free port of this machine."""
    write_text(USED, "containers were started from here\n")
    print(f"starting version {release.version} for {environment} from {release.image}", flush=True)
    assert release.image, "this target serves images"
    return engine.containers.run(
        _present(engine, release.image),
        name=_name(environment, "next"),
        detach=True,
        network=_network(engine),
        ports={PORT: ("127.0.0.1", None)},
        restart_policy={"Name": "unless-stopped"},
        labels=dict(label.split("=", 1) for label in _labels(environment))
        | {
            "slipway.release.name": release.name,
            "slipway.release.version": release.version,
            "slipway.release.digest": release.digest,
            "slipway.release.image": release.image,
            "slipway.release.bundle": str(release.bundle),
        },
        **LIMITS,
        **LOCKED,
    )


def _present(engine, image: str) -> str:
    """The image, pulled by its digest when the engine does not have it; raises DeployError when it is nowhere."""
    import docker

    try:
        return engine.images.get(image).id
    except docker.errors.NotFound:
        pass
    if "@" not in image:
        raise DeployError(f"the engine no longer has image {image}", "`make image` builds it again")
    try:
        print(f"pulling {image}", flush=True)
        return engine.images.pull(image, auth_config=images.login()).id
    except docker.errors.NotFound as error:
        raise DeployError(
            f"image {image} is not in its registry", "`make image VERSION=n` builds and pushes a version again"
        ) from error


def _network(engine) -> str:
    name = os.environ.get("SLIPWAY_NETWORK") or NETWORK  # another keeps a second model on this machine apart
    if not engine.networks.list(names=[f"^{name}$"]):
        engine.networks.create(name, driver="bridge", check_duplicate=True)
    return name


def _wait(container, environment: str, settings: Settings) -> str:
    """Wait until a release is ready and return its own address; raises DeployError with its last words when it is not."""
    print(f"waiting until the service for {environment} is ready", flush=True)
    deadline = time.monotonic() + settings.deploy.ready_seconds
    while True:
        container.reload()
        if container.status != "running" or container.attrs["RestartCount"] or time.monotonic() > deadline:
            late = container.status == "running" and not container.attrs["RestartCount"]
            lines = container.logs(tail=5).decode(errors="replace").strip().splitlines()
            how = f"was not ready within {settings.deploy.ready_seconds:g} s" if late else "ended"
            raise DeployError(
                f"the service for {environment} {how}: {lines[-1] if lines else 'it wrote nothing'}",
                f"`docker run --rm {container.image.id}` shows what it does by itself",
            )
        published = container.ports.get(PORT)
        url = f"http://127.0.0.1:{published[0]['HostPort']}" if published else ""
        if url and answers(url):
            return url
        time.sleep(0.05)


def _open_door(engine, environment: str, release: Release, port: int):
    """Have a door on the port; one that stands there already stays. Raises DeployError when it is on another network."""
    import docker

    network = _network(engine)
    door = next((door for door in _doors(engine, environment) if door.labels["slipway.port"] == str(port)), None)
    if door and door.status == "running":
        if network not in (others := list(door.attrs["NetworkSettings"]["Networks"])):
            raise DeployError(
                f"the door of {environment} stands on the network {', '.join(others)}, not on {network}",
                "set SLIPWAY_NETWORK as it was; to change it, `make stop`, which ends what serves, then `make ship`",
            )
        return door
    if door:
        door.remove(force=True)
    door = engine.containers.create(
        _present(engine, str(release.image)),
        entrypoint=["python", "-m", "serving.door"],
        command=["--host", "0.0.0.0", "--port", "8000", *_behind(environment)],
        name=_name(environment, f"door-{port}"),
        network=network,
        networking_config={network: engine.api.create_endpoint_config(aliases=[environment])},
        ports={PORT: ("127.0.0.1", port)},
        restart_policy={"Name": "unless-stopped"},
        labels=dict(label.split("=", 1) for label in _labels(environment)) | {"slipway.port": str(port)},
        healthcheck={"test": ["NONE"]},
        **LIMITS,
        **LOCKED,
    )
    try:
        door.start()
    except docker.errors.APIError as error:
        door.remove(force=True)
        if "port is already allocated" not in str(error) and "address already in use" not in str(error):
            raise
        raise DeployError(
            f"port {port} for {environment} is taken by another program",
            f"end it (`make stop`, if it is another target's), or choose another in pipeline.toml [deploy] {environment}_port",
        ) from error
    _wait_until_open(door)
    return door


def _behind(environment: str) -> list[str]:
    """Where a door leads: to what serves, else, between two names, to what served before."""
    return [part for role in ("live", "before") for part in ("--to", f"{_name(environment, role)}:8000")]


def _wait_until_open(door) -> None:
    """Wait for the door's first word: the engine takes connections for it earlier, and drops them."""
    deadline = time.monotonic() + 20
    while b"door open" not in door.logs(tail=5):
        door.reload()
        if door.status != "running" or time.monotonic() > deadline:
            said = door.logs(tail=5).decode(errors="replace").strip()
            door.remove(force=True)
            raise DeployError(
                f"the door did not open: {said or 'it wrote nothing'}", "`docker info` shows the engine's state"
            )
        time.sleep(0.05)
    door.reload()


def _switch(engine, environment: str, new, door, release: Release) -> None:
    """Give the release the name by which the door finds it, and ask through the door; raises DeployError after giving it back."""
    live = _find(engine, environment, "live")
    if live:
        live.rename(_name(environment, "before"))
    try:
        new.rename(_name(environment, "live"))
        smoke_test(_record(new, door)["url"], release.bundle, release.version)
    except BaseException as error:
        if live is None:
            raise
        with suppress(Exception):  # it may not have got the name
            new.rename(_name(environment, "next"))
        live.rename(_name(environment, "live"))
        if not isinstance(error, SlipwayError):
            raise
        version = live.labels["slipway.release.version"]
        raise DeployError(f"{error.what}; version {version} was restored", error.then) from error


def _retire(container) -> None:
    """Let a container's callers leave, and remove it; one that resists is left to the next release, for another serves."""
    import docker

    if container is None:
        return
    try:
        time.sleep(UNNOTICED)
        container.stop(timeout=DRAIN)
        container.remove(force=True)
    except (docker.errors.DockerException, KeyboardInterrupt) as error:
        why = error or "stopped by the keyboard or a signal"
        print(f"container {container.name} is left to the next release: {why}", flush=True)


def _record(live, door) -> dict[str, Any]:
    """What serves, as the labels say; `since` in local time."""
    port = int(door.labels["slipway.port"])
    about = {key: live.labels[f"slipway.release.{key}"] for key in ("name", "version", "digest", "image", "bundle")}
    there = Path(about["bundle"]).is_dir()
    started = time.strptime(live.attrs["Created"][:19], "%Y-%m-%dT%H:%M:%S")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(calendar.timegm(started)))
    return about | {
        "bundle": about["bundle"] if there else None,
        "url": f"http://127.0.0.1:{port}",
        "port": port,
        "since": since,
    }
