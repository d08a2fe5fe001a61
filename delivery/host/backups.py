"""Backups of this host's MLflow, database and artifacts, with checksums."""

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
import zlib
from pathlib import Path

from delivery.host.compose import FOLDER, compose, containers, described, done, last_line
from pipeline.artifacts import ROOT, read_json, sha256, write_json
from pipeline.errors import OneHostError, SettingsError, SlipwayError

DUMP, ARTIFACTS, MANIFEST = "mlflow.dump", "artifacts.tar.gz", "backup.json"
PROGRESS_SECONDS = 5


def folder() -> Path:
    """The folder of backups."""
    return ROOT / (os.environ.get("SLIPWAY_BACKUPS") or "backups")


def number_kept() -> int:
    """How many backups are kept; raises SettingsError unless that is a number above 0."""
    chosen = os.environ.get("SLIPWAY_BACKUPS_KEPT") or "7"
    if not chosen.isascii() or not chosen.isdecimal() or int(chosen) == 0:
        raise SettingsError(f"SLIPWAY_BACKUPS_KEPT is {chosen!r}", "the number of backups to keep must be 1 or more")
    return int(chosen)


def complete(where: Path) -> list[Path]:
    """The complete backups in a folder, newest first; ignores what a killed backup left."""
    return sorted((path.parent for path in where.glob(f"[!.]*/{MANIFEST}")), reverse=True)


def make(where: Path) -> Path:
    """Write a backup, read it back to verify it, and only then give the folder its name."""
    model = described()
    require_running()
    where.mkdir(parents=True, exist_ok=True)
    for left in where.glob(".making-*"):
        shutil.rmtree(left)
    name = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
    making = where / f".making-{name}"
    making.mkdir(mode=0o700)  # it contains accounts and models
    try:
        copy(making, model)
        making.rename(where / name)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return where / name


def require_running() -> None:
    """Raise OneHostError unless PostgreSQL and MLflow are running."""
    found = containers()
    for service in ("postgres", "mlflow"):
        if found.get(service, {}).get("State", {}).get("Status") != "running":
            raise OneHostError(f"{service} of `make up` does not run", "start it with `make up`")


def copy(making: Path, model: dict) -> None:
    """Copy the database first: artifacts written meanwhile are then extra files, never missing ones."""
    environment = model["services"]["mlflow"]["environment"]
    place = environment["MLFLOW_ARTIFACTS_DESTINATION"]
    dump = ("exec", "-T", "postgres", "pg_dump", "--username=mlflow", "--format=custom", "mlflow")
    save("database", making / DUMP, *dump)
    read_dump(making / DUMP)
    if place.startswith("/"):
        # A file that changes while it is read belongs to a run in progress: tar reports it and continues.
        tar = f'tar -C "{place}" --exclude=./.restoring -cz . || [ $? -eq 1 ]'
        save("artifacts", making / ARTIFACTS, "exec", "-T", "mlflow", "sh", "-c", tar)
        print(f"artifacts   {read_artifacts(making / ARTIFACTS)} files, read back")
    else:
        print(f"artifacts   not copied: they are in {place}, whose bucket is to keep versions")
    files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in making.iterdir()}
    manifest = {"artifacts": place, "webhook_key": fingerprint(environment), "files": files}
    write_json(making / MANIFEST, manifest)


def fingerprint(environment: dict) -> str:
    """A digest of the key that encrypts webhook secrets: shows whether the key changed, without revealing it."""
    return hashlib.sha256(environment["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"].encode()).hexdigest()[:16]


def save(what: str, into: Path, *command: str) -> None:
    """Write a compose command's output to a file, and show the file's size while it grows."""
    with into.open("xb") as file, tempfile.TemporaryFile() as errors:
        into.chmod(0o600)
        arguments = ["docker", "compose", "--file", str(FOLDER / "compose.yaml"), *command]
        process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=errors)
        try:
            wait(process, what, into)
        finally:
            process.kill()
        os.fsync(file.fileno())
        errors.seek(0)
        if process.returncode:
            said = last_line(errors.read().decode(errors="replace"))
            raise OneHostError(
                f"the {what} could not be copied: {said}",
                f"is there room in {into.parent.parent}? then `make backup` again",
            )
    print(f"{what:<11} {megabytes(into)}", flush=True)


def wait(process: subprocess.Popen, what: str, into: Path) -> None:
    """Wait for a process to exit, and report progress now and then."""
    while True:
        try:
            process.wait(PROGRESS_SECONDS)
            return
        except subprocess.TimeoutExpired:
            print(f"{what:<11} {megabytes(into)} so far", flush=True)


def megabytes(path: Path) -> str:
    """A file's size for people."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def read_dump(path: Path) -> None:
    """Have PostgreSQL read a dump to its end, because its table of contents covers the beginning alone; raises OneHostError."""
    with path.open("rb") as file:
        said = compose("exec", "-T", "postgres", "pg_restore", "--file=/dev/null", stdin=file)
    done(said, f"{path.parent.name}/{path.name} cannot be read back", "`make backup` makes another")


def read_artifacts(path: Path) -> int:
    """The number of files in an archive, after reading it to its end; raises OneHostError when it is damaged."""
    try:
        with gzip.open(path) as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            count = sum(member.isfile() for member in archive)
            while raw.read(1 << 20):  # the checksum comes after the data that tar reads
                pass
            return count
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OneHostError(
            f"{path.parent.name}/{path.name} cannot be read back: {error}", "`make backup` makes another"
        ) from None


def checked(backup: Path) -> dict:
    """A backup's description, after verifying all checksums; raises OneHostError when something differs."""
    damaged = "take another one from this folder: BACKUP=NAME"
    try:
        manifest = read_json(backup / MANIFEST)
        files = {name: (said["bytes"], said["sha256"]) for name, said in manifest["files"].items()}
        manifest["artifacts"], manifest["webhook_key"]
    except (SlipwayError, KeyError, TypeError, AttributeError):
        raise OneHostError(f"backup {backup.name} is damaged: {MANIFEST} does not list its files", damaged) from None
    if DUMP not in files or not set(files) <= {DUMP, ARTIFACTS}:
        raise OneHostError(f"backup {backup.name} is damaged: {MANIFEST} names other files", damaged)
    for name, (size, digest) in files.items():
        path = backup / name
        if not path.is_file() or path.stat().st_size != size or sha256(path) != digest:
            raise OneHostError(f"backup {backup.name} is damaged: {name} differs from its checksum", damaged)
    return manifest
