"""An MLflow server that requires a login, on loopback, with its own database."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import processes
from pipeline.registry import mlflow_server
from tests.conftest import clean_environment

ROOT = Path(__file__).resolve().parents[3]
ADMIN = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "the admin's own password"}


@contextmanager
def auth_server(folder: Path, **more: str) -> Iterator[str]:
    """Start it with the shipped settings, except for SQLite instead of PostgreSQL; yields its URL."""
    shipped = (ROOT / "monitoring/mlflow/basic_auth.ini").read_text(encoding="utf-8")
    settings = folder / "basic_auth.ini"
    assert "postgresql+psycopg://" in shipped
    settings.write_text(shipped.replace("postgresql+psycopg://", f"sqlite:///{folder}/users.db"), encoding="utf-8")
    with server(
        folder,
        "--app-name",
        "basic-auth",
        MLFLOW_AUTH_CONFIG_PATH=str(settings),
        MLFLOW_AUTH_ADMIN_PASSWORD=ADMIN["MLFLOW_TRACKING_PASSWORD"],
        MLFLOW_FLASK_SERVER_SECRET_KEY="a key of this test",
        **more,
    ) as started:
        yield started


@contextmanager
def server(folder: Path, *options: str, artifacts: str = "", **environment: str) -> Iterator[str]:
    """Start `mlflow server` like monitoring/compose.yaml; yields its URL, and at the end stops it with its child processes."""
    port = processes.free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", artifacts or str(folder / "artifacts"), *options]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = processes.start(command, folder / "server.log", env=clean_environment() | quiet | environment, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while mlflow_server.health(address, timeout=5):
            log = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
            assert process.is_running() and time.monotonic() < deadline, log[-3000:]
            time.sleep(0.2)
        yield address
    finally:
        below = process.children(recursive=True) if process.is_running() else []
        for each in (process, *below):
            processes.stop(each)
