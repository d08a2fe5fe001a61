"""A machine of a job, as far as the embedded MLflow is concerned, and the registry's content."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import requests

from pipeline.registry.embedded import oci
from tests import preload
from tests.conftest import ROOT, clean_environment

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
QUICK = "Timing(settle=0.5, beat=0.3, poll=0.2, dead=3, tell=0.5, patience=60)"
RESTORE = "import sys; from pipeline.errors import edge; from pipeline.registry.embedded.lease import Timing; from pipeline.registry.embedded.restoring import restore; sys.exit(edge(restore)(sys.argv[1], {timing}))"  # fmt: skip


class Machine:
    """A folder with the template's code, as in a job, and one database in place of MLflow's."""

    def __init__(self, root: Path, repository: str):
        self.root, self.repository, self.environment = root, repository, {"IMAGE_REPOSITORY": repository}
        for name in ("pipeline", "delivery", "scripts", "serving"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "tests/example/pipeline.toml", root)

    def command(self, *arguments: str) -> dict:
        """The command line of one of its commands."""
        return {
            "args": [sys.executable, *arguments],
            "cwd": self.root,
            "env": clean_environment() | self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }

    def run(self, *arguments: str, status: int = 0) -> str:
        """Run a command that must exit with this status and without a traceback; returns its output."""
        done = subprocess.run(timeout=120, **self.command(*arguments) | {"args": [preload.python(), *arguments]})
        assert done.returncode == status, done.stdout
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def restore(self, status: int = 0, timing: str = QUICK) -> str:
        """Restore with short intervals."""
        return self.run("-c", RESTORE.format(timing=timing), f"{self.repository}/mlflow", status=status)

    def start_restore(self, timing: str = QUICK) -> subprocess.Popen:
        """Start a restore in the background."""
        arguments = ["-c", RESTORE.format(timing=timing), f"{self.repository}/mlflow"]
        return subprocess.Popen(**self.command(*arguments) | {"args": [preload.python(), *arguments]})

    def save(self, status: int = 0) -> str:
        """Save."""
        return self.run("-m", "scripts.ci.save_mlflow", status=status)

    @property
    def home(self) -> Path:
        """Its MLflow folder."""
        return self.root / ".mlflow"

    def write(self, name: str, artifact: bytes = b"weights") -> None:
        """Log a run of this name, with one file."""
        self.home.mkdir(exist_ok=True)
        with closing(sqlite3.connect(self.home / "mlflow.db")) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS runs (name TEXT)")
            connection.execute("CREATE TABLE IF NOT EXISTS registered_models (name TEXT)")
            connection.execute("INSERT INTO runs VALUES (?)", (name,))
        folder = self.home / "artifacts" / "1" / name / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.bin").write_bytes(artifact)

    def names(self) -> list[str]:
        """The names of its runs, each with its file present."""
        with closing(sqlite3.connect(self.home / "mlflow.db")) as connection:
            names = [row[0] for row in connection.execute("SELECT name FROM runs")]
        assert all((self.home / "artifacts/1" / name / "artifacts/model.bin").exists() for name in names)
        return names

    def lease(self) -> dict:
        """The record of its lease."""
        return json.loads((self.root / ".slipway/lease.json").read_text())

    def heartbeat(self) -> psutil.Process:
        """The process of its heartbeat."""
        return psutil.Process(self.lease()["process"]["pid"])


def tag(repository: str, name: str) -> dict | None:
    """The manifest under a tag, with its digest."""
    host, _, path = repository.partition("/")
    while True:
        answer = requests.get(
            f"http://{host}/v2/{path}/mlflow/manifests/{name}", headers={"Accept": MANIFEST}, timeout=5
        )
        if answer.status_code != 500:  # a registry's response while the tag is being written
            return answer.json() | {"digest": oci.digest(answer.content)} if answer.ok else None
