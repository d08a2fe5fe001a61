"""The bundle: a folder whose manifest lists every file with its digest. Anything that differs is refused."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from serving.model.contract import Contract
from serving.model.rows import Row, RowError, read_rows

MANIFEST = "manifest.json"
CODE = "code/"
BACKGROUND = "background.json"
EXPERIMENT = "experiment"  # a folder that is no part of the bundle: serving/experiment/experiment.py reads it


class BundleError(Exception):
    """The bundle cannot be served; the message names the file, in one line."""


class BundleRelease(msgspec.Struct, frozen=True):
    """The model's identity: release.json."""

    name: str
    version: str
    run_id: str
    commit: str
    digest: str
    mlflow: str = "unknown"  # MLflow's version at registration


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; it holds the very bytes whose digests were checked."""

    contract: Contract
    release: BundleRelease
    model: bytes
    code: dict[str, bytes]  # the project's Python files that the model needs, by their path under code/
    values: tuple[float, float] | None = None  # a regression's lowest and highest golden answer on rows of the data
    background: tuple[
        Row, ...
    ] = ()  # rows of the training data, from which explanations are computed; older bundles have none


def open_bundle(folder: Path) -> Bundle:
    """Verify and read a bundle folder; raises BundleError naming the file that is wrong."""
    files = _verified(folder)
    contract = _parsed(folder, files, "contract.json", Contract)
    release = _parsed(folder, files, "release.json", BundleRelease)
    if release.name != contract.name:
        raise BundleError(f"{folder}: release.json is of model {release.name!r}, contract.json of {contract.name!r}")
    code = {name.removeprefix(CODE): content for name, content in files.items() if name.startswith(CODE)}
    if code and contract.format != "skops" and contract.rules is None:
        raise BundleError(
            f"{folder}: {CODE}{min(code)} does not belong here, {contract.file} without rules needs no code"
        )
    model = _needed(folder, files, contract.file)
    return Bundle(
        contract, release, model, code, _values(folder, files, contract), _background(folder, files, contract)
    )


def _verified(folder: Path) -> dict[str, bytes]:
    """The content of every file, after checking its digest against the manifest."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a bundle folder: it does not exist")
    promised = _manifest(folder)
    names = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    present = {name.as_posix() for name in names if name.parts[0] != EXPERIMENT}
    if missing := sorted(promised.keys() - present):
        raise BundleError(f"{folder}: {missing[0]} is missing, but {MANIFEST} names it")
    if extra := sorted(present - promised.keys() - {MANIFEST}):
        raise BundleError(f"{folder}: {extra[0]} does not belong here, {MANIFEST} does not name it")
    files = {name: _bytes(folder, name) for name in promised}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != promised[name]:
            raise BundleError(f"{folder}: {name} was altered, its SHA-256 is not the one in {MANIFEST}")
    return files


def _manifest(folder: Path) -> dict[str, str]:
    try:
        files = json.loads(_bytes(folder, MANIFEST))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}: {MANIFEST} is damaged, it does not list the files") from error
    if not isinstance(files, dict):
        raise BundleError(f"{folder}: {MANIFEST} is damaged, it does not list the files")
    return files


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{folder}: {name} is missing") from None
    except OSError as error:
        raise BundleError(f"{folder}: {name} cannot be read: {error.strerror}") from error


def _needed(folder: Path, files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise BundleError(f"{folder}: {name} is missing")
    return files[name]


def _values(folder: Path, files: dict[str, bytes], contract: Contract) -> tuple[float, float] | None:
    if contract.task != "regression":
        return None
    try:
        golden = json.loads(_needed(folder, files, "golden.json"))
        # Rows after the `seen` ones have odd values on purpose; bundles of older pipelines have no `seen`.
        values = [float(answer["value"]) for answer in golden["expected"][: golden.get("seen")]]
        return min(values), max(values)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}: golden.json is damaged, it does not list the expected values") from error


def _background(folder: Path, files: dict[str, bytes], contract: Contract) -> tuple[Row, ...]:
    if BACKGROUND not in files:
        return ()
    try:
        return tuple(read_rows(contract, json.loads(files[BACKGROUND])["rows"]))
    except (ValueError, KeyError, TypeError, RowError) as error:
        raise BundleError(
            f"{folder}: {BACKGROUND} is damaged, it does not list rows of the contract: {error}"
        ) from error


def _parsed(folder: Path, files: dict[str, bytes], name: str, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(_needed(folder, files, name), type=kind)
    except msgspec.DecodeError as error:  # the path is at the end of the message: "… - at `$.inputs[0].type`"
        what, _, where = str(error).partition(" - at `$")
        where = where.strip("`.")
        raise BundleError(f"{folder}: {name} cannot be used: {where + ': ' if where else ''}{what}") from error
