"""Target `docker`: an environment is one container of the release's image, behind a proxy on the port of pipeline.toml.

A release is started beside the old one and tested on its own port. Then it gets the name by which the proxy finds the
current release, and the old one drains. No request is lost, and a rollback gives the name back. The engine is the only
record: names and labels of the containers tell everything.
"""

import calendar
import hashlib
import ipaddress
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from delivery import keys, log_command, networks
from delivery.release import CurrentRelease, Release
from delivery.smoke import smoke_test
from delivery.targets.container_command import run_in
from delivery.targets.ready import answers
from pipeline import container_registry
from pipeline.artifacts import ROOT, STATE, write_text
from pipeline.errors import DeployError, SlipwayError
from pipeline.settings import Settings

NAME = "docker"
WHY = "containers of the Docker engine on this machine"
IMAGES = True
HERE = True
NETWORK = "slipway"  # where the proxies are `staging` and `production`, port 8000, for Prometheus and other containers
PORT = "8000/tcp"
UNNOTICED = 0.3  # seconds for connections that were already on their way to the old release
DRAIN = 35  # seconds for a service to drain and to write its log; see END in serving/runtime/workers.py
USED = STATE / "docker"  # shows that this checkout has used an engine, for when none responds
LOOPBACK = "127.0.0.1"
DATA = "/data"  # in a container: a volume of the environment, the only place that persists
KEYS_FILE = "/etc/slipway/api-keys"  # the folder of SLIPWAY_API_KEYS_FILE inside a container
DATABASE = f"sqlite:///{DATA}/predictions.db"
PASSED_ON = (
    "SLIPWAY_API_KEYS",
    "SLIPWAY_RATE_LIMIT",
    "SLIPWAY_RATE_LIMIT_BYTES",
    "SLIPWAY_LOG_RETENTION_DAYS",
    "SLIPWAY_LOG_CLOCK",
    "SLIPWAY_REQUEST_LOG",
    "SLIPWAY_CORS_ORIGINS",
)
PUBLISHED, ADDRESS = "slipway.port", "slipway.address"  # labels of a proxy
GENERATED = "slipway.key"  # label of a container whose delivery key this target created
LIMITS = {"mem_limit": "1g", "pids_limit": 256}
LOCKED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "tmpfs": {"/tmp": "size=64m"}}


def unavailable(settings: Settings) -> str | None:
    """Why no Docker engine can be used here, in words; None when one responds."""
    return _no_engine()


def _no_engine() -> str | None:
    import docker
    import requests

    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
        reason = "permission denied" if "ermission denied" in str(error) else "no Docker engine answers"
        where = f" at {os.environ['DOCKER_HOST']} (DOCKER_HOST)" if os.environ.get("DOCKER_HOST") else ""
        return f"{reason}{where} (`docker info` says more)"
    return None if client.api.base_url.startswith("http+docker") else "DOCKER_HOST is another machine"


def serving(environment: str, settings: Settings) -> CurrentRelease | None:
    """The current release; None when nothing is running."""
    with _engine() as engine:
        # A release that was killed between the two renames leaves `before`, which the proxy still finds.
        live = _find(engine, environment, "live") or _find(engine, environment, "before")
        proxies = [proxy for proxy in _proxies(engine, environment) if proxy.status == "running"]
        return _served(environment, live, proxies[0]) if live and live.status == "running" and proxies else None


@contextmanager
def reach(environment: str, settings: Settings, as_callers: bool = False) -> Iterator[str]:
    """The environment's URL, which any program on this machine can use; clients use the same."""
    yield _url(_address(), settings.deploy.port(environment))


def key(environment: str, settings: Settings) -> str:
    """Delivery's API key for the environment, "" when it is open; raises DeployError for an unusable key."""
    with _engine() as engine:
        return _generated(environment) if _knows_generated(engine, environment) else keys.from_environment()


def key_in_shell(environment: str, settings: Settings) -> str:
    """How a command line reads that key, "" when none is needed."""
    with _engine() as engine:
        if _knows_generated(engine, environment):
            return f"$(cat {shlex.quote(str(_key_file(environment)))})"
    return f"${keys.VARIABLE}" if keys.given() else ""


def on_log(
    environment: str,
    settings: Settings,
    arguments: Sequence[str],
    given: bytes = b"",
    into: IO[bytes] | None = None,
) -> bytes:
    """Run `python -m` with these arguments in the service's container, where the prediction log is; return its output.

    It reads `given`; its output goes into the file `into`, if there is one. Raises DeployError.
    """
    with _engine() as engine:
        live = _find(engine, environment, "live")
        if live is None or live.status != "running":
            raise DeployError(
                f"{environment} serves nothing whose prediction log could be opened",
                f"`make deploy ENVIRONMENT={environment}`, then run this again: the log is kept",
            )
        status, printed, said = run_in(live, ["python", "-m", *arguments], given, into)
    if any("No module named serving." in line for line in said):
        raise DeployError(
            f"the release in {environment} is older than this command", f"`make deploy ENVIRONMENT={environment}`"
        )
    return log_command.checked(environment, status, printed, said)


def release(environment: str, release: Release, settings: Settings, at_once: bool = False) -> CurrentRelease:
    """Replace the current release; when that fails, restore it and raise DeployError."""
    address, ours = _address(), keys.ours()
    with _engine() as engine:
        _tidy(engine, environment)
        if not ours and not _is_loopback(address):
            ours = _generated(environment)
            print(f"{environment} is reachable from other machines: it requires API keys (docs/service.md)", flush=True)
        new = _start(engine, environment, release, ours)
        port, proxies = settings.deploy.port(environment), _proxies(engine, environment)
        try:
            url = _wait(new, environment, settings)
            smoke_test(url, release.bundle, release.version, ours)
            proxy = _start_proxy(engine, environment, release, address, port)
            _switch(engine, environment, new, proxy, release, ours)
        except BaseException:  # also KeyboardInterrupt: a failed release must not stay
            for failed in (new, *(one for one in _proxies(engine, environment) if one not in proxies)):
                failed.remove(force=True)
            raise
        for old in (_find(engine, environment, "before"), *(one for one in proxies if one != proxy)):
            _retire(old)
        new.reload()
        return _served(environment, new, proxy)


def holds(environment: str, settings: Settings) -> bool:
    """Whether our proxy holds the environment's port, with or without a release behind it."""
    if _no_engine():
        return False
    with _engine() as engine:
        port = str(settings.deploy.port(environment))
        return any(proxy.labels[PUBLISHED] == port for proxy in _proxies(engine, environment))


def stop(environment: str) -> bool:
    """Remove the environment's containers; False when there are none, or no engine."""
    if why := _no_engine():
        if not USED.exists():
            return False
        raise DeployError(
            f"containers of {environment} may still run: {why}",
            f"`make stop` again when it does, with DOCKER_HOST as it was; if they are gone, delete {USED.relative_to(ROOT)}",
        )
    with _engine() as engine:
        found = engine.containers.list(all=True, ignore_removed=True, filters={"label": _labels(environment)})
        for container in found:
            _retire(container)
        return bool(found)


@contextmanager
def _engine() -> Iterator[Any]:
    """A client of the engine; its errors become ours."""
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
    """A container's name, different for each checkout: a second one on this machine must not replace the first one's."""
    return f"slipway-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}-{environment}-{role}"


def _find(engine, environment: str, role: str):
    """The container in a role: `live` serves, `next` is being tested, `before` is draining."""
    import docker

    try:
        return engine.containers.get(_name(environment, role))
    except docker.errors.NotFound:
        return None


def _proxies(engine, environment: str) -> list[Any]:
    """The environment's proxies, newest first: one per port, so more than one only while the port changes."""
    return engine.containers.list(all=True, ignore_removed=True, filters={"label": [*_labels(environment), PUBLISHED]})


def _tidy(engine, environment: str) -> None:
    """Clean up after a killed release: an unfinished test, a draining container, a live one that lost its name."""
    before = _find(engine, environment, "before")
    if before and not _find(engine, environment, "live"):
        before.rename(_name(environment, "live"))
        before = None
    for left in filter(None, (before, _find(engine, environment, "next"))):
        left.remove(force=True)


def _start(engine, environment: str, release: Release, ours: str):
    """Start the new release on a free port of this machine; `ours` is delivery's key, "" for an open service."""
    write_text(USED, "containers were started from here\n")
    print(f"starting version {release.version} for {environment} from {release.image}", flush=True)
    assert release.image, "this target serves images"
    image = engine.images.get(_present(engine, release.image))
    generated = ours and not keys.given()
    lines = {"SLIPWAY_API_KEYS": keys.line(keys.NAME, keys.SCOPES, ours)} if generated else {}
    volumes = {_volume(engine, environment): {"bind": DATA, "mode": "rw"}}
    container = engine.containers.create(
        image.id,
        command=[*(image.attrs["Config"]["Cmd"] or []), *([] if ours else ["--open"])],
        name=_name(environment, "next"),
        environment=_told() | lines,
        volumes=volumes | _keys_folder(),
        network=networks.ensure(engine, _network()).id,
        ports={PORT: (LOOPBACK, None)},
        restart_policy={"Name": "unless-stopped"},
        labels=dict(label.split("=", 1) for label in _labels(environment))
        | {
            "slipway.release.name": release.name,
            "slipway.release.version": release.version,
            "slipway.release.digest": release.digest,
            "slipway.release.image": release.image,
            "slipway.release.bundle": str(release.bundle),
            "slipway.release.experiment": release.experiment,
            **({GENERATED: "generated"} if generated else {}),
        },
        **LIMITS,
        **LOCKED,
    )
    networks.start(engine, container, _network())
    return container


def _present(engine, image: str) -> str:
    """The image, pulled by digest if missing; raises DeployError when it is nowhere."""
    import docker

    try:
        return engine.images.get(image).id
    except docker.errors.NotFound:
        pass
    if "@" not in image:
        raise DeployError(f"the engine no longer has image {image}", "`make image` builds it again")
    try:
        print(f"pulling {image}", flush=True)
        return engine.images.pull(image, auth_config=container_registry.login()).id
    except docker.errors.NotFound as error:
        raise DeployError(
            f"image {image} is not in its registry", "`make image VERSION=n` builds and pushes a version again"
        ) from error


def _told() -> dict[str, str]:
    """A service's variables: those that the user set, and the prediction log's database."""
    told = {name: value for name in PASSED_ON if (value := os.environ.get(name))}
    if file := os.environ.get("SLIPWAY_API_KEYS_FILE"):
        told["SLIPWAY_API_KEYS_FILE"] = f"{KEYS_FILE}/{Path(file).name}"
    return told | {"SLIPWAY_DATABASE_URL": os.environ.get("SLIPWAY_DATABASE_URL") or DATABASE}


def _keys_folder() -> dict[str, dict[str, str]]:
    """The folder of SLIPWAY_API_KEYS_FILE as a volume: with a single file, a container would not see a replaced one."""
    file = os.environ.get("SLIPWAY_API_KEYS_FILE")
    return {str(Path(file).absolute().parent): {"bind": KEYS_FILE, "mode": "ro"}} if file else {}


def log_volume(environment: str) -> str:
    """The name of the volume of the environment's prediction log, which no verb of ours removes; a release makes it."""
    return _name(environment, "data")


def make_log_volume(environment: str) -> None:
    """Make that volume unless it exists, for a container beside the service that reads the log."""
    with _engine() as engine:
        _volume(engine, environment)


def _volume(engine, environment: str) -> str:
    labels = dict(label.split("=", 1) for label in _labels(environment))
    return engine.volumes.create(log_volume(environment), labels=labels).name  # returns an existing one unchanged


def _key_file(environment: str) -> Path:
    return STATE / f"{environment}.key"


def _generated(environment: str) -> str:
    """Delivery's key when the user configured no clients; created once, readable by this user only."""
    file = _key_file(environment)
    if not file.exists():
        write_text(file, f"slipway_{secrets.token_urlsafe(32)}\n", mode=0o600)
    try:
        key = file.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise DeployError(
            f"{file.relative_to(ROOT)} is damaged: it is not a key", "remove it: a new one is made"
        ) from None
    return keys.usable(key, str(file.relative_to(ROOT)))


def _knows_generated(engine, environment: str) -> bool:
    live = _find(engine, environment, "live") or _find(engine, environment, "before")
    return bool(live and GENERATED in live.labels)


def _address() -> str:
    """The address to publish environments on: SLIPWAY_SERVICE_ADDRESS, or loopback; raises DeployError."""
    given = os.environ.get("SLIPWAY_SERVICE_ADDRESS") or LOOPBACK
    try:
        return str(ipaddress.IPv4Address(given))
    except ValueError:
        raise DeployError(
            f"SLIPWAY_SERVICE_ADDRESS is {given!r}, which is no IPv4 address",
            "name one of this machine, 0.0.0.0 for all of them, or unset it for 127.0.0.1",
        ) from None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _url(address: str, port: int) -> str:
    """The URL at which this machine reaches a published port."""
    return f"http://{LOOPBACK if address == '0.0.0.0' else address}:{port}"


def _network() -> str:
    return os.environ.get("SLIPWAY_NETWORK") or NETWORK  # another network separates a second model on this machine


def _wait(container, environment: str, settings: Settings) -> str:
    """Wait until a release is ready and return its own URL; raises DeployError with the end of its log when it is not."""
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


def _start_proxy(engine, environment: str, release: Release, address: str, port: int):
    """Start a proxy on the port, unless one runs there. Raises DeployError when one runs with other settings."""
    import docker

    network = networks.ensure(engine, _network())
    proxy = next((proxy for proxy in _proxies(engine, environment) if proxy.labels[PUBLISHED] == str(port)), None)
    if proxy and proxy.status == "running":
        if not networks.holds(proxy, network):
            others = ", ".join(networks.of(engine, proxy))
            raise DeployError(
                f"the proxy of {environment} is on the network {others}, not on {network.name}",
                "set SLIPWAY_NETWORK as it was; to change it, `make stop`, which stops the running release, then `make ship`",
            )
        if address != (bound := proxy.labels.get(ADDRESS, LOOPBACK)):
            raise DeployError(
                f"the proxy of {environment} is published on {bound}, not on {address}",
                "set SLIPWAY_SERVICE_ADDRESS as it was; to change it, `make stop`, which stops the running release, then `make ship`",
            )
        return proxy
    if proxy:
        proxy.remove(force=True)
    proxy = engine.containers.create(
        _present(engine, str(release.image)),
        entrypoint=["python", "-m", "serving.runtime.proxy"],
        command=["--host", "0.0.0.0", "--port", "8000", *_behind(environment)],
        name=_name(environment, f"proxy-{port}"),
        network=network.id,
        networking_config={network.id: engine.api.create_endpoint_config(aliases=[environment])},
        ports={PORT: (address, port)},
        restart_policy={"Name": "unless-stopped"},
        labels=dict(label.split("=", 1) for label in _labels(environment)) | {PUBLISHED: str(port), ADDRESS: address},
        healthcheck={"test": ["NONE"]},
        **LIMITS,
        **LOCKED,
    )
    try:
        networks.start(engine, proxy, network.name)
    except docker.errors.APIError as error:
        proxy.remove(force=True)
        if "port is already allocated" not in str(error) and "address already in use" not in str(error):
            raise
        raise DeployError(
            f"port {port} for {environment} is taken by another program",
            f"end it (`make stop`, if it is another target's), or choose another in pipeline.toml [deploy] {environment}_port",
        ) from error
    _wait_until_open(proxy)
    return proxy


def _behind(environment: str) -> list[str]:
    """Where the proxy leads: to `live`, or during a switch to `before`."""
    return [part for role in ("live", "before") for part in ("--to", f"{_name(environment, role)}:8000")]


def _wait_until_open(proxy) -> None:
    """Wait for the proxy's first output: before it, the engine accepts connections and drops them."""
    deadline = time.monotonic() + 20
    while b"open on http://" not in proxy.logs(tail=5):  # an older image, as after a rollback, has another first word
        proxy.reload()
        if proxy.status != "running" or time.monotonic() > deadline:
            said = proxy.logs(tail=5).decode(errors="replace").strip()
            proxy.remove(force=True)
            raise DeployError(
                f"the proxy did not start: {said or 'it wrote nothing'}", "`docker info` shows the engine's state"
            )
        time.sleep(0.05)
    proxy.reload()


def _switch(engine, environment: str, new, proxy, release: Release, ours: str) -> None:
    """Rename the release so that the proxy finds it, then test through the proxy; raises DeployError after renaming it back."""
    live = _find(engine, environment, "live")
    if live:
        live.rename(_name(environment, "before"))
    try:
        new.rename(_name(environment, "live"))
        smoke_test(_published(proxy), release.bundle, release.version, ours)
    except BaseException as error:
        if live is None:
            raise
        with suppress(Exception):  # it may not have the name yet
            new.rename(_name(environment, "next"))
        live.rename(_name(environment, "live"))
        if not isinstance(error, SlipwayError):
            raise
        version = live.labels["slipway.release.version"]
        raise DeployError(f"{error.what}; version {version} was restored", error.then) from error


def _retire(container) -> None:
    """Drain and remove a container; a failure is left to the next release, because the new one already serves."""
    import docker

    if container is None:
        return
    try:
        time.sleep(UNNOTICED)
        container.stop(timeout=DRAIN)
        container.remove(force=True)
    except (docker.errors.DockerException, KeyboardInterrupt) as error:
        why = error or "stopped by the keyboard or a signal"
        print(f"container {container.name} will be removed by the next release: {why}", flush=True)


def _published(proxy) -> str:
    """The address of a proxy, for this machine."""
    return _url(proxy.labels.get(ADDRESS, LOOPBACK), int(proxy.labels[PUBLISHED]))


def _served(environment: str, live, proxy) -> CurrentRelease:
    """The current release from its labels; `since` in local time."""
    about = {key: live.labels[f"slipway.release.{key}"] for key in ("name", "version", "digest", "image")}
    started = time.strptime(live.attrs["Created"][:19], "%Y-%m-%dT%H:%M:%S")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(calendar.timegm(started)))
    return CurrentRelease(
        environment=environment,
        **about,
        url=_published(proxy),
        bundle=Path(live.labels["slipway.release.bundle"]),
        since=since,
        port=int(proxy.labels[PUBLISHED]),
        experiment=live.labels.get("slipway.release.experiment", ""),
    )
