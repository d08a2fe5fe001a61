"""The webhook relay as a process: settings from the environment, server, shutdown."""

import multiprocessing
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from delivery.relay import remote
from delivery.relay.alerts import Alerts
from delivery.relay.metrics import Metrics
from delivery.relay.worker import NOT_WATCHED, UNDONE, Pace, Worker, say
from pipeline.artifacts import ROOT, STATE
from pipeline.ci import chat
from pipeline.errors import SettingsError, SlipwayError

PORT = 8010
LOG = STATE / "relay-reconcile.log"
CALLERS = 64  # connections at once; others get 503, and MLflow tries again
PACE = Pace()
# Seconds for a running reconcile to undo its changes, on a busy machine too. It runs in no container, so no engine kills
# it earlier.
UNDO_SECONDS = 60
PLACEHOLDERS = ("change-me", "changeme", "set-me", "placeholder", "your-", "example", "<", "secretsecret")


@dataclass(frozen=True, repr=False)
class Config:
    """Settings from the environment; it has no repr, because it contains secrets."""

    secret: str
    model: str
    mlflow: str
    repository: str = ""
    token: str = ""
    ref: str = "main"
    api: str = "https://api.github.com"
    port: int = PORT
    bearer: str = ""  # that Alertmanager shows; without it there is no /alerts


def read(environment: Mapping[str, str], reconciles: bool) -> Config:
    """Read the settings; raises SettingsError naming what is missing or invalid."""

    def get(name: str, default: str = "") -> str:
        return environment.get(name, "").strip() or default

    config = Config(
        secret=secret(get("SLIPWAY_RELAY_SECRET")),
        model=get("SLIPWAY_RELAY_MODEL") or model(),
        mlflow=get("MLFLOW_TRACKING_URI"),
        repository=get("SLIPWAY_RELAY_REPOSITORY", get("GITHUB_REPOSITORY")),
        token=get("SLIPWAY_RELAY_TOKEN"),
        ref=get("SLIPWAY_RELAY_REF", "main"),
        api=get("GITHUB_API_URL", "https://api.github.com"),
        port=port(get("SLIPWAY_RELAY_PORT", str(PORT))),
        bearer=get("SLIPWAY_RELAY_BEARER"),
    )
    check(config, reconciles)
    if config.bearer:
        secret(config.bearer, "SLIPWAY_RELAY_BEARER", "Alertmanager")
    return config


def check(config: Config, reconciles: bool) -> None:
    """Raise SettingsError when a setting is missing, or GitHub cannot be called with the given ones."""
    needed = {"SLIPWAY_RELAY_MODEL": config.model}
    if not reconciles:
        needed |= {
            "MLFLOW_TRACKING_URI": config.mlflow,
            "SLIPWAY_RELAY_REPOSITORY": config.repository,
            "SLIPWAY_RELAY_TOKEN": config.token,
        }
    if missing := [name for name, value in needed.items() if value in ("", "set-me")]:
        raise SettingsError(f"the relay needs {', '.join(missing)}", "docs/promote-in-mlflow.md says what they are")
    if not reconciles and not re.fullmatch(r"[\w.-]+/[\w.-]+", config.repository):
        raise SettingsError("SLIPWAY_RELAY_REPOSITORY is not OWNER/NAME", "an example is octo/model")
    if reconciles and config.bearer:
        raise SettingsError(
            "SLIPWAY_RELAY_BEARER is for alerts that start a workflow, and this relay starts none",
            "unset it, or start the relay without --reconcile; on one machine docs/one-host.md has the monitor",
        )
    if not reconciles and (problem := chat.wrong(config.api)):
        raise SettingsError(f"GITHUB_API_URL {problem}", "the token would be sent unencrypted")


def secret(value: str, name: str = "SLIPWAY_RELAY_SECRET", other: str = "`make webhook`") -> str:
    """MLflow's signing secret, or another that a sender of messages knows; raises SettingsError for one that is easy to guess."""
    then = f"`openssl rand -hex 32` makes one; give the same to {other}"
    if not value:
        raise SettingsError(f"the relay needs {name}, with which MLflow signs what it sends", then)
    if len(value) < 16 or len(set(value)) < 6 or any(word in value.lower() for word in PLACEHOLDERS):
        raise SettingsError(f"{name} can be guessed: it is short, or a placeholder", then)
    return value


def model(folder: Path = ROOT) -> str:
    """The model's name in pipeline.toml, "" when there is none."""
    try:
        name = tomllib.loads((folder / "pipeline.toml").read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError):
        name = None
    return name if isinstance(name, str) else ""


def port(value: str) -> int:
    """A port number; raises SettingsError."""
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:6]) < 65536):
        raise SettingsError("SLIPWAY_RELAY_PORT is no port: a number from 1 to 65535", f"the default is {PORT}")
    return int(value)


def elsewhere(config: Config, metrics: Metrics, pace: Pace = PACE) -> Worker:
    """A worker that dispatches the promotion workflow on GitHub."""

    def read() -> str | None:
        return aliases(config.mlflow, config.model, metrics)

    return Worker(read, lambda: start(config, remote.PROMOTE), tell, metrics.promotions, pace)


def alerts(config: Config, metrics: Metrics, pace: Pace = PACE) -> Alerts | None:
    """What takes Alertmanager's messages and dispatches the monitor on GitHub; None without the token that it shows."""
    if not config.bearer:
        return None

    def failed(what: str) -> None:
        made.told.clear()  # so that the next message of Alertmanager starts it
        chat.tell(f"webhook relay: the monitor was not started for an alert: {what}")

    worker = Worker(
        lambda: "an alert asks for the monitor",
        lambda: start(config, remote.MONITOR),
        failed,
        metrics.monitors,
        pace,
        unfinished=NOT_WATCHED,
    )
    made = Alerts(config.bearer, worker)
    return made


def start(config: Config, workflow: str) -> None:
    """Start a workflow on GitHub, and say so."""
    remote.dispatch(config.api, config.repository, config.ref, config.token, workflow)
    say(f"started {workflow} in {config.repository} on {config.ref}")


def aliases(uri: str, model: str, metrics: Metrics) -> str | None:
    """Where MLflow says that the aliases are, in words; None when it has no such model."""
    try:
        found = remote.aliases(uri, model)
    except SlipwayError:
        metrics.unread.inc()
        raise
    if found is None:
        return None
    where = ", ".join(f"{alias} is on version {version}" for alias, version in sorted(found.items()))
    return f"MLflow says: {where or 'no alias is set'}"


def here(config: Config, metrics: Metrics, pace: Pace = PACE) -> Worker:
    """A worker that promotes on this machine; it imports the heavy packages before the first event."""
    from pipeline import preload
    from pipeline.registry import mlflow_server
    from pipeline.settings import load_settings

    settings = load_settings()
    if not mlflow_server.remote_uri():
        mlflow_server.uri(settings)
    preload.prepare()
    return Worker(
        lambda: aliases(mlflow_server.uri(settings), config.model, metrics),
        reconcile,
        lambda _: None,  # the command reports failures itself
        metrics.promotions,
        replace(pace, end=UNDO_SECONDS),
        cancel,
        UNDONE,
    )


def reconcile() -> None:
    """Run `make reconcile` and print its output; raises SlipwayError when it fails."""
    from pipeline import preload

    LOG.parent.mkdir(parents=True, exist_ok=True)
    status = preload.run(["-m", "scripts.reconcile"], LOG)
    said = LOG.read_text(encoding="utf-8", errors="replace").strip()
    print(said, flush=True)
    if status:
        errors = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
        raise SlipwayError(f"`make reconcile`: {errors[-1] if errors else f'exit status {status}'}")


def cancel() -> None:
    """Interrupt the running reconcile as Ctrl-C does, so that it undoes its changes."""
    for child in multiprocessing.active_children():
        child.terminate()


def tell(what: str) -> None:
    """Send one message to SLIPWAY_WEBHOOK, if it is set."""
    chat.tell(f"webhook relay: a promotion failed: {what}")


def serve(config: Config, host: str, worker: Worker, metrics: Metrics, heard: Alerts | None = None) -> None:
    """Serve until a signal comes; slow or excess connections are refused. Raises SettingsError when the port is in use."""
    import uvicorn

    from delivery.relay import app

    try:
        socket.create_server((host, config.port)).close()
    except OSError as error:
        raise SettingsError(
            f"the relay cannot listen on {host}:{config.port}: {error.strerror}",
            "SLIPWAY_RELAY_PORT names another port",
        ) from None
    say(f"listening on {host}:{config.port} for the aliases of {config.model}")
    uvicorn.run(
        app.make(config.secret, config.model, worker, metrics, heard=heard),
        host=host,
        port=config.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=CALLERS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )
