"""The files between stages: atomic writes, and reads that name the stage to run when a file is missing."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import StageError

Record = TypeVar("Record")
ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
STATE = ROOT / ".slipway"  # this machine's state: bundles, logs, locks

# Each file, and the verb that makes it.
MADE_BY = {
    "data.json": "make validate",
    "model_checks.json": "make validate-model",
    "run.json": "make train",
    "search.json": "make train",
    "evaluation.json": "make evaluate",
    "formats.json": "make compare-formats",
    "registered.json": "make register",
    "image.json": "make image",
    "monitor.json": "make monitor",
}


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file atomically: a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def to_json(value: Any) -> str:
    """Serialize deterministically; NaN and infinity are refused, because JSON has neither."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_text(path, to_json(value))


def read_json(path: Path) -> Any:
    """Read a file of an earlier stage; raises StageError naming the verb to run."""
    from pipeline import stage_files  # not at the top: the relay's image reads no stage's file and has no msgspec

    value, kind = _parsed(path), stage_files.HOLDS.get(path.name, Any)
    _converted(path, value, kind)
    return value


def read_as(path: Path, kind: type[Record]) -> Record:
    """Read a file of an earlier stage as a typed record; raises StageError that names the verb to run."""
    return _converted(path, _parsed(path), kind)


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{_shown(path)} is missing", f"run `{_verb(path)}`") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StageError(f"{_shown(path)} is damaged: {error}", f"run `{_verb(path)}` again") from error


def _converted(path: Path, value: Any, kind: Any) -> Any:
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise StageError(f"{_shown(path)} is damaged: {error}", f"run `{_verb(path)}` again") from None


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _verb(path: Path) -> str:
    return MADE_BY.get(path.name, "the stage that writes it")


def replace_directory(source: Path, destination: Path) -> None:
    """Replace a folder by a finished one."""
    old = destination.with_name(f".{destination.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        destination.rename(old)
    source.rename(destination)
    shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
