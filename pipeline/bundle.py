"""The bundle: the folder through which the pipeline meets the service, and all that the service knows of the model.

contract.json, golden.json, reference.json and the model are the content: the same data and commit give the same bytes. The model is
model.onnx, or model.skops and under code/ the modules of project/ that its types name.
release.json says which registered version this is; manifest.json holds the SHA-256 of every other file.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import read_json, sha256, write_json
from pipeline.dataset import Dataset
from pipeline.errors import StageError

PAPERS = ("contract.json", "golden.json", "reference.json")
MODELS = ("model.onnx", "model.skops")
CATEGORIES = 50  # texts of a column that are listed in the contract, which anybody may read
ROWS_OF_A_CATEGORY = 5  # on average: what stands in fewer rows may be a name, or somebody's words
LONGEST_CATEGORY = 100  # characters
GOLDEN_ROWS = 24
SENSITIVE_ROWS = 8  # the hold-out rows nearest to a decision: where a wrong model shows first


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the content files; raises StageError when one is missing."""
    total = hashlib.sha256()
    for name in content(folder):
        total.update(f"{name} {sha256(folder / name)}\n".encode())
    return total.hexdigest()


def content(folder: Path) -> list[str]:
    """The paths of the content files in a folder that may hold others, in order; raises StageError when one is missing."""
    for name in PAPERS:
        if not (folder / name).is_file():
            raise StageError(f"{folder.name}/{name} is missing", "run `make train` again")
    return sorted([*PAPERS, *model_files(folder)])


def model_files(folder: Path) -> dict[str, bytes]:
    """The model and the code that it needs, by path in the bundle; raises StageError when there is no model."""
    names = [name for name in MODELS if (folder / name).is_file()]
    if len(names) != 1:
        raise StageError(
            f"{folder.name}/{MODELS[0]} is {'not alone' if names else 'missing'}", "run `make train` again"
        )
    code = sorted(path for path in (folder / "code").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in [folder / names[0], *code]}


def model_hash(folder: Path) -> str:
    """SHA-256 of the model, with its code if it has any: the same where only the commit is another."""
    files = model_files(folder)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{name} {value}\n" for name, value in digests.items()).encode()).hexdigest()


def size_mb(folder: Path) -> float:
    """Size of the content files, megabytes (10^6 bytes)."""
    return sum((folder / name).stat().st_size for name in content(folder)) / 1e6


def assemble(source: Path, bundle: Path, release: dict[str, Any]) -> None:
    """Make a bundle folder, which must not exist, from content files and a release."""
    bundle.mkdir(parents=True)
    for name in content(source):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, bundle / name)
    write_json(bundle / "release.json", release)
    seal(bundle)


def seal(bundle: Path) -> None:
    """Write the manifest that fits the files as they are."""
    write_json(bundle / "manifest.json", {"files": {name: sha256(bundle / name) for name in _names(bundle)}})


def _names(bundle: Path) -> list[str]:
    """The path of every file but the manifest."""
    found = (path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != "manifest.json")


def verify(bundle: Path) -> dict[str, Any]:
    """The release of a bundle whose files are all as the manifest says; raises StageError naming the file that is not."""
    files = read_json(bundle / "manifest.json")["files"]
    there = set(_names(bundle))
    for name in sorted(there ^ set(files)):
        raise StageError(f"bundle file {name} is {'unexpected' if name in there else 'missing'}", "register it again")
    for name, expected in files.items():
        if sha256(bundle / name) != expected:
            raise StageError(f"bundle file {name} is damaged: its SHA-256 is not the manifest's", "register it again")
    return read_json(bundle / "release.json")


def contract(
    dataset: Dataset, form: dict[str, Any], checks: dict[str, Any], commit: str, tolerance: float
) -> dict[str, Any]:
    """What the service accepts and answers; ranges and value lists are those that the data checks declare.

    `form` is the format of the model and how it is fed, as pipeline/served.py gives it.
    """
    data = dataset.settings.data
    example = golden_inputs(dataset, np.flatnonzero(dataset.holdout)[:1])[0]
    return {
        "schema": 1,
        "name": dataset.settings.name,
        "task": data.task,
        "inputs": [_input(dataset, name, checks, value) for name, value in zip(dataset.kinds, example, strict=True)],
        "classes": dataset.classes,
        "positive": data.positive,
        "target": data.target,
        **form,
        "commit": commit,
        "data_hash": dataset.hash,
        "tolerance": tolerance,
    }


def _input(dataset: Dataset, name: str, checks: dict[str, Any], example: Any) -> dict[str, Any]:
    allowed = checks["ranges"].get(name, {})
    column = dataset.features[name][~dataset.holdout]
    number = dataset.kinds[name] in ("number", "integer") and column.notna().any()
    observed: dict[str, Any] | None = (
        {"minimum": float(column.min()), "maximum": float(column.max())} if number else None
    )
    if dataset.kinds[name] == "text" and (categories := _categories(column)):
        observed = {"values": categories}
    return {
        "name": name,
        "type": dataset.kinds[name],
        "nullable": dataset.nullable[name]
        or (dataset.kinds[name] == "text" and bool((dataset.features[name] == "").any())),
        "minimum": allowed.get("minimum"),
        "maximum": allowed.get("maximum"),
        **{key: allowed[key] for key in ("exclusive_minimum", "exclusive_maximum") if key in allowed},
        "values": checks["values"].get(name),
        "observed": observed,
        "example": example,
    }


def _categories(column: pd.Series) -> list[str]:
    """The texts of a column, sorted; none where they are too many, or too rarely the same, to be categories."""
    given = column[column != ""]
    values = sorted(set(given))
    few = len(values) <= CATEGORIES and len(values) * ROWS_OF_A_CATEGORY <= len(given)
    return values if few and all(len(value) <= LONGEST_CATEGORY for value in values) else []


def golden(dataset: Dataset, prediction: np.ndarray, tolerance: float) -> dict[str, Any]:
    """Hold-out rows with the trained model's answers: evenly spread ones, and those nearest to a decision."""
    rows = np.flatnonzero(dataset.holdout)
    spread = np.linspace(0, len(rows) - 1, min(GOLDEN_ROWS, len(rows))).astype(int)
    if prediction.ndim == 2:
        top = np.sort(prediction, axis=1)
        lead = top[:, -1] - top[:, -2]
        # A row on the very edge may fall on either side within the tolerance: its label proves nothing.
        clear = np.flatnonzero(lead > 2 * tolerance)
        sensitive = clear[np.argsort(lead[clear], kind="stable")[:SENSITIVE_ROWS]]
        spread = np.intersect1d(spread, clear)
    else:
        sensitive = np.argsort(prediction, kind="stable")[[0, -1]]
    chosen = np.union1d(spread, sensitive)
    return {
        "tolerance": tolerance,
        "inputs": golden_inputs(dataset, rows[chosen]),
        "expected": [_answer(dataset, prediction[place]) for place in chosen],
    }


def _answer(dataset: Dataset, prediction: Any) -> dict[str, Any]:
    if dataset.classes:
        return {"label": dataset.classes[int(prediction.argmax())], "probabilities": prediction.tolist()}
    return {"value": float(prediction)}


def golden_inputs(dataset: Dataset, rows: np.ndarray) -> list[list[Any]]:
    """Rows as a client would send them: integers and booleans as such, null where empty."""
    return [
        [_plain(value, kind) for value, kind in zip(row, dataset.kinds.values(), strict=True)]
        for row in dataset.features.iloc[rows].itertuples(index=False, name=None)
    ]


def _plain(value: Any, kind: str) -> Any:
    if kind == "text":
        return value or None
    if pd.isna(value):
        return None
    return {"integer": int, "boolean": bool, "number": float}[kind](value)
