"""An embedded MLflow in a temporary folder, for tests that need a real one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import processes
from pipeline.registry import mlflow_server
from pipeline.settings import Settings, load_settings


@contextmanager
def embedded(home: Path) -> Iterator[Settings]:
    """Use this folder for the embedded server, which starts on demand and is stopped afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(mlflow_server, "HOME", home)
        patch.setattr(mlflow_server, "STATE", home / "server.json")
        patch.setattr(mlflow_server, "LOG", home / "server.log")
        patch.setattr(processes, "STATE", home / "locks")
        settings = load_settings()
        port = processes.free_port()
        try:
            yield settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"port": port})})
        finally:
            mlflow_server.stop()
