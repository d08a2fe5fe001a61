"""The servers that are compared: how each is started, what it is asked, and what its answer means."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import psutil

from dev.benchmarks.models import Subject
from dev.benchmarks.timing import eventually
from pipeline import processes
from pipeline.artifacts import ROOT, write_json
from pipeline.errors import SlipwayError

PEERS = Path(__file__).parent / "peers"
KEY = "a-key-of-the-benchmark"
START_SECONDS = 120
TOLERANCE = 1e-5
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
# What a benchmark must not inherit: settings of our own service, and what would slow every start down.
NOT_INHERITED = ("SLIPWAY_", "PYTHON", "VIRTUAL_ENV", "COVERAGE")


@dataclass(frozen=True)
class Server:
    """A kind of server.

    `command` makes its command line from its environment's Python, a subject, a port and a folder of its own. `ask` makes
    path and body of a request from rows; `read` makes probabilities of the classes (n, 2), or labels (n,), from an answer.
    """

    name: str
    environment: str
    command: Callable[[Path, Subject, int, Path], list[str]]
    health: str
    ask: Callable[[list[list[float]]], tuple[str, Any]]
    read: Callable[[Any], np.ndarray] | None
    adaptive: bool = False  # it learns from latency: it is never frozen, but ended between its turns
    switched_on: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    root: Path = ROOT  # the checkout whose service is run


@dataclass(frozen=True)
class Running:
    """A server that answers; `started` is how many seconds it took until it did."""

    server: Server
    process: psutil.Process
    port: int
    folder: Path
    started: float


def _ours(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
    return [str(python), "-m", "serving", "--bundle", str(subject.folder / "bundle"), "--port", str(port)]


def _mlflow(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
    command = [str(python.parent / "mlflow"), "models", "serve", "--model-uri", str(subject.folder / "mlflow")]
    return [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]


def _uvicorn(module: str, *more: str) -> Callable:
    def command(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
        return [str(python), "-m", "uvicorn", f"{module}:app", "--app-dir", str(PEERS), "--port", str(port), *more]

    return command


def _bentoml(service: str) -> Callable:
    def command(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
        found = ["serve", f"bento:{service}", "--working-dir", str(PEERS)]
        return [str(python.parent / "bentoml"), *found, "--host", "127.0.0.1", "--port", str(port)]

    return command


def _litserve(largest: int) -> Callable:
    def command(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
        return [str(python), str(PEERS / "lit.py"), str(port), str(largest)]

    return command


def _mlserver(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
    ports = {name: processes.free_port() for name in ("grpc_port", "metrics_port")}
    write_json(folder / "settings.json", {"host": "127.0.0.1", "http_port": port, **ports})
    model = {"uri": str(subject.folder / "model.joblib")}
    implementation = "mlserver_sklearn.SKLearnModel"
    write_json(folder / "model-settings.json", {"name": "model", "implementation": implementation, "parameters": model})
    return [str(python.parent / "mlserver"), "start", str(folder)]


def _empty(python: Path, subject: Subject, port: int, folder: Path) -> list[str]:
    return [str(python), str(PEERS / "empty.py"), str(port)]


def _ask_ours(rows: list[list[float]]) -> tuple[str, Any]:
    return ("/predict", {"features": rows[0]}) if len(rows) == 1 else ("/predict/batch", {"features": rows})


def _read_ours(answer: Any) -> np.ndarray:
    return np.array([list(one["probabilities"].values()) for one in answer.get("predictions", [answer])])


def _ask_mlserver(rows: list[list[float]]) -> tuple[str, Any]:
    values = [value for row in rows for value in row]
    given = {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": values}
    return "/v2/models/model/infer", {"inputs": [given], "outputs": [{"name": "predict_proba"}]}


def _ask_rows(rows: list[list[float]]) -> tuple[str, Any]:
    return "/predict", {"rows": rows}


def _read_probabilities(answer: Any) -> np.ndarray:
    return np.array(answer["probabilities"])


TUNED = ("--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools")
OURS, OFF = "Slipway, everything on", "Slipway, everything off"
EMPTY, MLFLOW = "empty answer", "mlflow models serve"
TUTORIAL, FAIR, ONNX = "FastAPI tutorial", "FastAPI tuned", "FastAPI + ONNX Runtime"
BENTOML, BENTOML_BATCH = "BentoML", "BentoML, batching"
LITSERVE, LITSERVE_BATCH, MLSERVER = "LitServe", "LitServe, batching", "MLServer"
SERVERS = [
    Server(OFF, "ours", _ours, "/readyz", _ask_ours, _read_ours),
    Server(OURS, "ours", _ours, "/readyz", _ask_ours, _read_ours, switched_on=True, headers={"X-API-Key": KEY}),
    Server(EMPTY, "ours", _empty, "/", _ask_ours, None),
    Server(MLFLOW, "mlflow", _mlflow, "/ping", lambda rows: ("/invocations", {"inputs": rows}),
           lambda answer: np.array(answer["predictions"])),
    Server(TUTORIAL, "tutorial", _uvicorn("tutorial"), "/health", _ask_rows, _read_probabilities),
    Server(FAIR, "tuned", _uvicorn("tuned", *TUNED), "/health", _ask_rows, _read_probabilities),
    Server(ONNX, "fastapi_onnx", _uvicorn("fastapi_onnx", *TUNED), "/health", _ask_rows, _read_probabilities),
    Server(BENTOML, "bentoml", _bentoml("Plain"), "/readyz", _ask_rows, np.array, adaptive=True),
    Server(BENTOML_BATCH, "bentoml", _bentoml("Batching"), "/readyz", _ask_rows, np.array, adaptive=True),
    Server(LITSERVE, "litserve", _litserve(1), "/health", _ask_rows, _read_probabilities),
    Server(LITSERVE_BATCH, "litserve", _litserve(32), "/health", _ask_rows, _read_probabilities),
    Server(MLSERVER, "mlserver", _mlserver, "/v2/models/model/ready", _ask_mlserver,
           lambda answer: np.array(answer["outputs"][0]["data"]).reshape(answer["outputs"][0]["shape"])),
]  # fmt: skip
# Peers of one model each, which run in this Python: its environment has the libraries that train them.
OWN_LIBRARY = {
    "network": Server("FastAPI + PyTorch", "dev", _uvicorn("torch_module", *TUNED), "/health", _ask_rows, _read_probabilities),
    "XGBoost": Server("FastAPI + XGBoost", "dev", _uvicorn("boosted_trees", *TUNED), "/health", _ask_rows, _read_probabilities),
    "LightGBM": Server("FastAPI + LightGBM", "dev", _uvicorn("boosted_trees", *TUNED), "/health", _ask_rows, _read_probabilities),
}  # fmt: skip
SCIKIT_LEARN = (MLFLOW, TUTORIAL, FAIR, BENTOML, BENTOML_BATCH, LITSERVE, LITSERVE_BATCH, MLSERVER)
BATCHING = (BENTOML_BATCH, LITSERVE_BATCH)


@contextmanager
def running(server: Server, python: Path, subject: Subject, folder: Path, core: int) -> Iterator[Running]:
    """Start a server on one core and end it; raises SlipwayError with its last words when it does not answer."""
    folder.mkdir(parents=True, exist_ok=True)
    port = processes.free_port()
    command = server.command(python, subject, port, folder)
    cwd = server.root if server.environment == "ours" else folder  # MLServer leaves files where it is started
    variables = _variables(server, python, subject, folder)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a process is born on the cores of the one that starts it
    try:
        process = processes.start(command, folder / "log", env=variables, cwd=cwd)
    finally:
        os.sched_setaffinity(0, own)
    try:
        seconds = eventually(lambda: _fetch(port, server.health)[0] == 200, lambda: _alive(process), START_SECONDS)
        if seconds is None:
            words = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise SlipwayError(f"{server.name} does not answer: {words[-1][:300] if words else 'it says nothing'}")
        yield Running(server, process, port, folder, seconds)
    finally:
        _end(process)


def _variables(server: Server, python: Path, subject: Subject, folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    variables = inherited | ONE_THREAD | QUIET | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    variables |= {
        "MODEL": str(subject.folder / "model.joblib"),
        "ONNX": str(subject.folder / "bundle" / "model.onnx"),
        "BENTOML_HOME": str(folder / "bentoml"),
    }
    variables["SLIPWAY_RATE_LIMIT"] = variables["SLIPWAY_RATE_LIMIT_BYTES"] = "0"
    if server.switched_on:
        variables |= {
            "SLIPWAY_API_KEYS": f"benchmark predict,metrics {hashlib.sha256(KEY.encode()).hexdigest()}",
            "SLIPWAY_RATE_LIMIT": "1000000",
            "SLIPWAY_RATE_LIMIT_BYTES": "999999999",
            "SLIPWAY_DATABASE_URL": f"sqlite:///{folder / 'predictions.db'}",
        }
    return variables


def _end(process: psutil.Process) -> None:
    family = _family(process)
    for one in family:
        _signal(one, "resume")
    processes.stop(process, grace_seconds=15)
    for one in family:
        _signal(one, "kill")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, what: str) -> None:
    with suppress(psutil.NoSuchProcess):
        getattr(process, what)()


def freeze(one: Running) -> None:
    """Stop a server where it stands, so that it takes nothing from the one that is measured."""
    for process in _family(one.process):
        _signal(process, "suspend")


def wake(one: Running) -> None:
    """Let a frozen server go on; it must be asked a little before it is measured."""
    for process in _family(one.process):
        _signal(process, "resume")


def memory_mb(one: Running) -> dict[str, float]:
    """Megabytes (10^6 bytes) that a server and its processes hold: `pss` counts shared pages once, `rss` in each process."""
    infos = [process.memory_full_info() for process in _family(one.process)]
    return {"pss": sum(info.pss for info in infos) / 1e6, "rss": sum(info.rss for info in infos) / 1e6}


def cpu_seconds(one: Running) -> float:
    """Seconds of a core that a server and its processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in _family(one.process))


def request(server: Server, rows: np.ndarray) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request for these rows."""
    path, body = server.ask(rows.tolist())
    return path, json.dumps(body).encode(), {"Content-Type": "application/json", **server.headers}


def check(one: Running, subject: Subject, rows: int) -> None:
    """Raise SlipwayError unless the server answers the first rows, in one request, like the model itself."""
    if one.server.read is None:
        return
    path, body, headers = request(one.server, subject.rows[:rows])
    status, answer = _fetch(one.port, path, body, headers)
    if status != 200:
        raise SlipwayError(f"{one.server.name} answers {rows} rows with status {status}: {answer[:200]!r}")
    given, expected = one.server.read(json.loads(answer)), subject.probabilities[:rows]
    if given.ndim == 1:  # labels alone
        expected = expected.argmax(axis=1)
    if given.shape != expected.shape or np.abs(given - expected).max() > TOLERANCE:
        raise SlipwayError(f"{one.server.name} answers {rows} rows otherwise than the model")


def check_switches(one: Running, subject: Subject) -> None:
    """Raise SlipwayError unless a service with everything on does ask for a key and does log its predictions."""
    path, body, headers = request(one.server, subject.rows[:1])
    status, _ = _fetch(one.port, path, body, {"Content-Type": headers["Content-Type"]})
    if status != 401:
        raise SlipwayError(
            f"{one.server.name}: a request without a key is answered with {status}, so not everything is on"
        )
    check(one, subject, 1)
    log = one.folder / "predictions.db"
    if eventually(lambda: log.is_file() and log.stat().st_size > 0, lambda: _alive(one.process), 15) is None:
        raise SlipwayError(f"{one.server.name}: no prediction is logged, so not everything is on")


def _fetch(port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of an answer; status 0 when nothing answers."""
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(Request(f"http://127.0.0.1:{port}{path}", body, headers or {}), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""
