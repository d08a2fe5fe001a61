"""The scripts with which Kubernetes backs MLflow up and restores it, on a real PostgreSQL with MLflow's tables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from tests import tools
from tests.conftest import clean_environment
from tests.serving.postgres import postgres

pytestmark = pytest.mark.needs("postgres")

SCRIPTS = Path(__file__).resolve().parents[3] / "k8s" / "mlflow"


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The environment of a database with MLflow's tables."""
    with postgres(tmp_path_factory.mktemp("postgres")) as (_, _, url):
        parts = urlsplit(url)
        programs = ":".join(map(str, tools.postgres_folders()))
        environment = clean_environment() | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PGHOST": parts.hostname,
            "PGPORT": str(parts.port),
            "PGUSER": parts.username,
            "PGPASSWORD": parts.password,
            "PGDATABASE": "postgres",
        }
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", "postgresql+psycopg://"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        yield environment


@pytest.fixture
def world(database, tmp_path):
    """Two runs in the database, an artifact in a folder, and an empty folder for backups."""
    made = SimpleNamespace(environment=database, artifacts=tmp_path / "artifacts", backups=tmp_path / "backups")
    made.backups.mkdir()
    (made.artifacts / "1" / "größe").mkdir(parents=True)
    (made.artifacts / "1" / "größe" / "model.onnx").write_bytes(bytes(range(256)) * 4000)
    sql(made, "TRUNCATE runs, experiments CASCADE")
    sql(made, "INSERT INTO experiments (experiment_id, name, workspace) VALUES (1, 'e', 'default')")
    for run in ("a", "b"):
        sql(made, f"INSERT INTO runs (run_uuid, name, experiment_id) VALUES ('{run}', 'ran', 1)")
    return made


def sql(world, text: str) -> str:
    command = ["psql", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", text]
    return subprocess.run(command, env=world.environment, check=True, capture_output=True, text=True).stdout.strip()


def run(world, script: str, **more: str) -> subprocess.CompletedProcess:
    """Run one of the scripts as its pod does."""
    environment = (
        world.environment | {"BACKUPS": str(world.backups), "ARTIFACTS": str(world.artifacts), "KEPT": "2"} | more
    )
    return subprocess.run(["sh", SCRIPTS / script], env=environment, capture_output=True, text=True)


def copies(world) -> list[Path]:
    return sorted(world.backups.iterdir())


def backed_up(world) -> Path:
    done = run(world, "backup.sh")
    assert done.returncode == 0, done.stderr
    return copies(world)[-1]


def test_lost_data_is_restored(world):
    """With tables and files gone, the newest backup restores both, byte for byte."""
    backed_up(world)
    before = (world.artifacts / "1/größe/model.onnx").read_bytes()
    sql(world, "DROP SCHEMA public CASCADE")
    sql(world, "CREATE SCHEMA public")
    shutil.rmtree(world.artifacts)
    world.artifacts.mkdir()
    done = run(world, "restore.sh")
    assert done.returncode == 0 and "2 runs" in done.stdout, done.stderr
    assert sql(world, "SELECT string_agg(run_uuid, ',' ORDER BY run_uuid) FROM runs") == "a,b"
    assert (world.artifacts / "1/größe/model.onnx").read_bytes() == before


def test_existing_data_is_not_overwritten_unasked(world):
    """If MLflow has runs, a restore is refused without REPLACE=yes; with it, later data is gone."""
    backed_up(world)
    sql(world, "INSERT INTO runs (run_uuid, name, experiment_id) VALUES ('c', 'later', 1)")
    done = run(world, "restore.sh")
    assert done.returncode == 1 and "REPLACE=yes" in done.stderr
    assert sql(world, "SELECT count(*) FROM runs") == "3"
    assert run(world, "restore.sh", REPLACE="yes").returncode == 0
    assert sql(world, "SELECT count(*) FROM runs") == "2"


@pytest.mark.parametrize("name", ["mlflow.dump", "artifacts.tar.gz", "SHA256SUMS"])
def test_damaged_backup_changes_nothing(world, name):
    """One wrong byte is found before the database is touched."""
    copy = backed_up(world)
    content = bytearray((copy / name).read_bytes())
    content[40] ^= 1
    (copy / name).write_bytes(content)
    sql(world, "INSERT INTO runs (run_uuid, name, experiment_id) VALUES ('c', 'later', 1)")
    done = run(world, "restore.sh", REPLACE="yes")
    assert done.returncode == 1 and "is damaged" in done.stderr
    assert sql(world, "SELECT count(*) FROM runs") == "3"


def test_failed_backup_leaves_none(world):
    """Without a database, files or room, the folder has no backup, and the next one cleans up."""
    assert run(world, "backup.sh", PGPORT="1").returncode != 0
    assert run(world, "backup.sh", ARTIFACTS=str(world.artifacts / "gone")).returncode != 0
    assert not [copy for copy in copies(world) if not copy.name.startswith(".making-")]
    made = backed_up(world)
    assert copies(world) == [made]


def test_newest_backups_are_kept(world):
    """Older ones beyond the limit are deleted."""
    for day in ("01", "02", "03"):
        (world.backups / f"2020-01-{day}T000000Z").mkdir()
    made = backed_up(world)
    assert [copy.name for copy in copies(world)] == ["2020-01-03T000000Z", made.name]


def test_missing_backup_is_reported(world):
    """An empty folder and an unknown name each have a message."""
    assert "there is no backup at all" in run(world, "restore.sh").stderr
    assert "there is no backup 2020" in run(world, "restore.sh", BACKUP="2020").stderr
