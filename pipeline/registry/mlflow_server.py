"""Where MLflow is: the team's server when MLFLOW_TRACKING_URI is set, else one on this machine, started on demand.

The embedded server keeps everything under .mlflow/ (SQLite and artifacts, which clients reach through the server), so the
embedded default and a team's server are one code path.
"""

import base64
import configparser
import contextlib
import http.client
import os
import re
import shlex
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline import processes, state
from pipeline.artifacts import ROOT, write_json, write_text
from pipeline.errors import RegistryError
from pipeline.settings import Settings

HOME = ROOT / ".mlflow"
STATE = HOME / "server.json"
LOG = HOME / "server.log"
KEY = HOME / "webhook.key"
MAY_PASS = re.compile(r"answers 5\d\d|cannot be reached")  # what another look may find well
DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"
APPLICATION = "mlflow.server.fastapi_app:app"
PAUSES = (0.2, 0.5, 1, 2)  # seconds between looks at a server that does not answer as it should: it may for once
START_SECONDS = 90  # a cold first start on a busy two-core machine took up to 40


def quiet_environment() -> None:
    """Set what MLflow's client reads from the environment: no telemetry, bounded retries, no progress bars.

    A request that fails for now (a lost connection, 408, 429, 500, 502 to 504) is sent again after 0, 2, 4, 8 and 16 seconds and
    a little: long enough for a restart of the server. MLflow's own seven retries make a broken one cost four minutes.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # a busy machine's first answer took over 10
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for key in ("no_proxy", "NO_PROXY"):  # a proxy cannot reach this machine's own addresses
        os.environ[key] = ",".join(filter(None, [os.environ.get(key), "127.0.0.1,localhost"]))


def remote_uri() -> str | None:
    """The team's server, if one is set."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def shown(address: str) -> str:
    """The address without user and password, for people and logs."""
    return re.sub(r"//[^/@]*@", "//", address)


def command(arguments: str) -> str:
    """A command line of MLflow's own program that speaks to the MLflow of now, to be pasted."""
    record = _recorded()
    address = os.environ.get("MLFLOW_TRACKING_URI") or (record["uri"] if record else "")
    program = shlex.quote(str(Path(sys.executable).with_name("mlflow")))
    return f"MLFLOW_TRACKING_URI={shown(address)} {program} {arguments}"


def running() -> state.Server | None:
    """The embedded server's record ({uri, pid, created}) when its process lives and keeps this folder, else None."""
    record = _recorded() or _unrecorded()
    process = processes.find(record) if record else None
    return record if process and not _bereft(process) else None


def _recorded() -> state.Server | None:
    """The record in this folder; None when the process has ended, or is another folder's, of which this one is a copy."""
    record = state.read(STATE, state.Server, "a server that runs is found by its command, else one is started")
    process = processes.find(record) if record else None
    return record if process and _folder(process) in (str(HOME), None) else None


def _unrecorded() -> state.Server | None:
    """The record of a server whose starter was killed before it could write one: two on one database must not be."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if APPLICATION in command and _folder(process) == str(HOME):
            port = command[command.index("--port") + 1]
            return {"uri": f"http://127.0.0.1:{port}", **processes.identity(process)}
    return None


def _folder(process: psutil.Process) -> str | None:
    """The folder that a server was started in, by its present name; None when the system does not say."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.cwd()
    return None


def _bereft(process: psutil.Process) -> bool:
    """Whether the folder was moved or deleted under the server: it answers from files that nobody else will ever see."""
    with contextlib.suppress(psutil.Error, OSError):
        moved = process.environ().get(DESTINATION) != str(HOME / "artifacts")
        return moved or str(LOG) not in {file.path for file in process.open_files()}
    return False


def begin(settings: Settings) -> state.Server:
    """Start the embedded server unless it runs; return its record at once, without waiting until it answers."""
    with processes.lock("mlflow", "MLflow start", wait_seconds=30):
        record = running()
        if record:
            return record
        stop()  # one whose folder was moved or deleted under it
        port = settings.mlflow.port if not processes.port_taken(settings.mlflow.port) else processes.free_port()
        HOME.mkdir(parents=True, exist_ok=True)
        process = processes.start(
            # `mlflow server` starts this same command from a second interpreter that has imported all of MLflow first:
            # twice the memory and twice the time until it answers. The variables below are what it hands over.
            [
                sys.executable,
                "-m",
                "uvicorn",
                APPLICATION,
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--log-level",
                "warning",
            ],
            LOG,
            env=_server_environment(),
            cwd=HOME,
        )
        record = {"uri": f"http://127.0.0.1:{port}", **processes.identity(process)}
        write_json(STATE, record)
        return record


def _server_environment() -> dict[str, str]:
    database = f"sqlite:///{HOME / 'mlflow.db'}"
    # A relay on this machine may be told of moved aliases (docs/promote-in-mlflow.md), and at once: what MLflow knows of
    # its webhooks is a second old, not a minute.
    webhooks = {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": _webhook_key(),
    }
    server = {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_REGISTRY_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        DESTINATION: str(HOME / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner is for generative models, and weighs 260 MB
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return webhooks | os.environ | server


def _webhook_key() -> str:
    """The key that webhooks' secrets are stored under, made once; beside the database, but it never travels with it."""
    if not KEY.exists():
        write_text(KEY, base64.urlsafe_b64encode(os.urandom(32)).decode(), mode=0o600)
    try:
        return KEY.read_text(encoding="ascii")
    except UnicodeDecodeError:
        raise RegistryError(
            f"{KEY.relative_to(ROOT)} is damaged: it is not a key",
            "remove it: a new one is made; then `make webhook` registers each webhook again",
        ) from None


def uri(settings: Settings) -> str:
    """The address of an MLflow that answers; starts the embedded one if need be.

    Raises RegistryError when the team's server does not answer within 5 seconds, or the embedded one does not start.
    """
    quiet_environment()
    remote = remote_uri()
    if remote:
        problem = persistent(lambda: health(remote, timeout=5))
        if problem:
            raise RegistryError(
                f"MLflow at {shown(remote)} (MLFLOW_TRACKING_URI) {problem}",
                "start it or correct the address; without MLFLOW_TRACKING_URI a server on this machine is used",
            )
        problem = persistent(lambda: refuses(remote, timeout=30))
        if problem:
            raise RegistryError(
                f"MLflow at {shown(remote)} (MLFLOW_TRACKING_URI) {problem}",
                "its log says why"
                if MAY_PASS.match(problem)
                else "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of an account there",
            )
        return remote
    for _ in range(3):
        record = begin(settings)
        wait(record)
        if processes.find(record):  # else another program was faster to take its port: there is another port
            break
    return record["uri"]


def wait(record: state.Server) -> None:
    """Wait until the embedded server answers; raises RegistryError with the end of its log when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while problem := health(record["uri"], timeout=5) or _elsewhere(record):
        if not processes.find(record) or time.monotonic() > deadline:
            tail = " | ".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-3:])
            raise RegistryError(f"the MLflow server on this machine {problem}: {tail}", f"its log is {LOG}")
        time.sleep(0.1)


def _elsewhere(record: state.Server) -> str | None:
    """That the answer came from another program, which has the port of a server that only starts, in words; else None."""
    process, port = processes.find(record), urllib.parse.urlsplit(record["uri"]).port
    if process and port and processes.listens(process, port):
        return None
    return f"cannot have port {port}: another program listens there"


def persistent(look: Callable[[], str | None]) -> str | None:
    """What `look` finds wrong, where it is still wrong after some more looks within four seconds; else None."""
    for pause in (*PAUSES, None):
        problem = look()
        if problem is None or pause is None or not MAY_PASS.match(problem):
            return problem
        time.sleep(pause)
    raise AssertionError("the last look returns")


def health(address: str, timeout: float) -> str | None:
    """What is wrong with the server at this address, in words, or None when it answers."""
    if not address.startswith(("http://", "https://")):
        return "is not an http address: slipway reaches MLflow over HTTP only"
    try:
        with urllib.request.urlopen(f"{shown(address).rstrip('/')}/health", timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        # A hosted MLflow may keep /health for itself (401, 403, 404); only a server error means that it is broken.
        return f"answers {error.code} {error.reason}" if error.code >= 500 else None
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"cannot be reached ({getattr(error, 'reason', error)})"


def refuses(address: str, timeout: float) -> str | None:
    """Why a request for experiments is refused, in words, or None: a fault of the server, or how we log in to it.

    Log-ins of other services than MLflow's own are theirs to judge.
    """
    user, password = login(address)
    plain = base64.b64encode(f"{user}:{password}".encode()).decode()
    request = urllib.request.Request(f"{shown(address).rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1")
    if user:
        request.add_header("Authorization", f"Basic {plain}")
    try:
        with urllib.request.urlopen(request, timeout=timeout):
            return None
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return f"answers {error.code} {error.reason}, although its page /health is well"
        if error.code != 401 or 'realm="mlflow"' not in error.headers.get("WWW-Authenticate", ""):
            return None
    except (OSError, ValueError, http.client.HTTPException):
        return None  # whoever asks next is told why
    if user:
        return f"answers 401: it does not know the user {user}, or the password is another"
    return "answers 401: it asks who we are, and no account is set"


def login(address: str) -> tuple[str, str]:
    """User and password as MLflow's client finds them: in the address, the environment or ~/.mlflow/credentials; empty without."""
    parts = urllib.parse.urlsplit(address)
    if parts.username:
        return urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
    stored = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError, RuntimeError):
        stored.read(Path.home() / ".mlflow" / "credentials")
    keys = ("mlflow_tracking_username", "mlflow_tracking_password")
    user, password = (os.environ.get(key.upper()) or stored.get("mlflow", key, fallback=None) or "" for key in keys)
    return user, password


def stop() -> bool:
    """End the embedded server; False when none ran."""
    record = _recorded() or _unrecorded()
    process = processes.find(record) if record else None
    if process:
        processes.stop(process)
    Path(STATE).unlink(missing_ok=True)
    return process is not None
