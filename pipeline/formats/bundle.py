"""The bundle: the folder through which the pipeline meets the service, and all that the service knows of the model.

contract.json, golden.json, reference.json, background.json and the model are the content: the same data and commit give the same bytes.
The model is model.onnx, model.skops with the modules of project/ that its types name under code/, or the file of a library of boosted
trees.
release.json says which registered version this is; manifest.json holds the SHA-256 of every other file.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import read_json, sha256, write_json
from pipeline.data.dataset import Dataset
from pipeline.errors import StageError
from serving.model.contract import FILES
from serving.model.decision import Threshold, decide_one, lead

# From rows and a model's answers: what rules make of these, the number of the rule that decided each, and in which rows that holds
# wherever it is computed.
Ruled = Callable[[pd.DataFrame, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]

PAPERS = ("contract.json", "golden.json", "reference.json")
BACKGROUND = "background.json"  # a paper that older bundles lack: theirs answer without explanations
MODELS = tuple(FILES.values())
# What an image of each format installs.
REQUIREMENTS = {
    "onnx": "requirements/serving.txt",
    "skops": "requirements/serving-sklearn.txt",
    "xgboost": "requirements/serving-xgboost.txt",
    "lightgbm": "requirements/serving-lightgbm.txt",
    "catboost": "requirements/serving-catboost.txt",
}
PREDICTIONS = "holdout_predictions.npy"
EXPERIMENT = "experiment"  # a folder of a bundle that is no part of it: a challenger, which has a manifest of its own
CATEGORIES = 50  # texts of a column that are listed in the contract, which anybody may read
ROWS_OF_A_CATEGORY = 5  # on average: what stands in fewer rows may be a name, or somebody's words
LONGEST_CATEGORY = 100  # characters
GOLDEN_ROWS = 24
BACKGROUND_ROWS = 50
MORE_ROWS = 8  # of each trial that goes beyond the hold-out
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
    papers = [*PAPERS, *([BACKGROUND] if (folder / BACKGROUND).is_file() else [])]
    return sorted([*papers, *model_files(folder)])


def model_files(folder: Path) -> dict[str, bytes]:
    """The model and the code that it needs, by path in the bundle; raises StageError when there is no model."""
    names = [name for name in MODELS if (folder / name).is_file()]
    if len(names) != 1:
        raise StageError(
            f"{folder.name}/{MODELS[0]} is {'not alone' if names else 'missing'}", "run `make train` again"
        )
    code = sorted(path for path in (folder / "code").rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in [folder / names[0], *code]}


def save_predictions(folder: Path, y_pred: np.ndarray) -> None:
    """Keep the trained model's answers on the hold-out beside the content files, which they are none of."""
    np.save(folder / PREDICTIONS, y_pred)


def predictions(folder: Path) -> np.ndarray:
    """These answers; raises StageError when they are missing, as where an older release has trained."""
    try:
        return np.load(folder / PREDICTIONS, allow_pickle=False)
    except FileNotFoundError:
        raise StageError(f"{folder.name}/{PREDICTIONS} is missing", "run `make train` again") from None


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


def try_out(files: Mapping[str, bytes], contract: dict[str, Any], folder: Path) -> Path:
    """Make a bundle of a model that has no version and no golden rows yet, so that the service's own code can be asked; return it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_json(folder / "contract.json", contract)
    nowhere = dict.fromkeys(("version", "run_id", "commit", "digest"), "")
    write_json(folder / "release.json", {"name": contract["name"], **nowhere})
    write_json(folder / "golden.json", {"expected": [{"value": 0.0}]})  # a service of values reads them
    seal(folder)
    return folder


def seal(bundle: Path) -> None:
    """Write the manifest that fits the files as they are."""
    write_json(bundle / "manifest.json", {"files": {name: sha256(bundle / name) for name in _names(bundle)}})


def _names(bundle: Path) -> list[str]:
    """The path of every file but the manifest and what belongs to an experiment."""
    found = (path.relative_to(bundle) for path in bundle.rglob("*") if not path.is_dir())
    return sorted(path.as_posix() for path in found if path.parts[0] not in ("manifest.json", EXPERIMENT))


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

    `form` is the format of the model and how it is fed, as pipeline/formats/choose.py gives it.
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
        **({"labels": "most_probable"} if dataset.classes else {}),
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
        "nullable": nullable(dataset, name),
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


def golden(
    dataset: Dataset,
    y_pred: np.ndarray,
    tolerance: float,
    more: Sequence[tuple[pd.DataFrame, np.ndarray]] = (),
    alone: Callable[[pd.DataFrame], np.ndarray] | None = None,
    threshold: Threshold | None = None,
    ruled: Ruled | None = None,
) -> dict[str, Any]:
    """Hold-out rows with the trained model's answers: evenly spread ones, and those nearest to a decision.

    A few of each of `more`, rows made for the trials with the answers to them, follow; `seen` is the number of rows before them. A
    row is left out when `alone`, the trained model asked one row at a time, answers it in another way. `ruled` gives the answers that
    rules make of the model's, which rule decided each, and which of them hold; each rule that decided a hold-out row has a row here.
    """
    held = np.flatnonzero(dataset.holdout)
    spread = np.linspace(0, len(held) - 1, min(GOLDEN_ROWS, len(held))).astype(int)
    if y_pred.ndim == 2:
        clear = _clear(y_pred, tolerance, threshold)
        near = lead(y_pred, threshold)
        sensitive = clear[np.argsort(near[clear], kind="stable")[:SENSITIVE_ROWS]]
        spread = np.intersect1d(spread, clear)
    else:
        sensitive = np.argsort(y_pred, kind="stable")[[0, -1]]
    chosen = np.union1d(spread, sensitive)
    if ruled:
        chosen = np.union1d(chosen, _one_of_each_rule(*ruled(dataset.features.iloc[held], y_pred)[1:]))
    parts = [(dataset.features.iloc[held[chosen]], y_pred[chosen])]
    for rows, answers in more:
        usable = _clear(answers, tolerance, threshold)
        some = usable[np.unique(np.linspace(0, len(usable) - 1, min(MORE_ROWS, len(usable))).astype(int))]
        parts.append((rows.iloc[some], answers[some]))
    if alone:
        parts = [_confirmed(rows, answers, alone(rows), tolerance) for rows, answers in parts]
    if ruled:
        decided = [(rows, *ruled(rows, answers)) for rows, answers in parts]
        parts = [(rows[holds], together[holds]) for rows, together, _, holds in decided]
    return {
        "tolerance": tolerance,
        "seen": len(parts[0][0]),
        "inputs": [row for rows, _ in parts for row in as_sent(dataset, rows)],
        "expected": [_answer(dataset, one, threshold) for _, answers in parts for one in answers],
    }


def _one_of_each_rule(numbers: np.ndarray, holds: np.ndarray) -> np.ndarray:
    """The place of the first row that each rule decides beyond doubt; `numbers` are the rules', below 0 where the model decides."""
    places = np.flatnonzero(holds & (numbers >= 0))
    return places[np.unique(numbers[places], return_index=True)[1]]


def background(dataset: Dataset) -> dict[str, Any]:
    """Training rows with which an explanation compares a row: drawn at random, with each class, or each part of the values, in proportion."""
    rows = np.random.default_rng(dataset.settings.train.seed).permutation(np.flatnonzero(~dataset.holdout))
    rows = rows[np.argsort(dataset.y[rows], kind="stable")]
    # The middle of each of so many equal parts.
    count = min(BACKGROUND_ROWS, len(rows))
    chosen = rows[((np.arange(count) + 0.5) * len(rows) / count).astype(int)]
    return {"rows": as_sent(dataset, dataset.features.iloc[chosen])}


def _clear(answers: np.ndarray, tolerance: float, threshold: Threshold | None) -> np.ndarray:
    """The places of rows whose label is beyond doubt: on the very edge it may fall on either side within the tolerance."""
    there = np.isfinite(answers).all(axis=tuple(range(1, answers.ndim)))
    if answers.ndim == 1:
        return np.flatnonzero(there)
    return np.flatnonzero(there & (lead(answers, threshold) > 2 * tolerance))


def _confirmed(rows: pd.DataFrame, answers: np.ndarray, again: np.ndarray, tolerance: float):
    near = np.isclose(answers, again, rtol=tolerance, atol=tolerance).all(axis=tuple(range(1, answers.ndim)))
    return rows[near], answers[near]


def _answer(dataset: Dataset, y_pred: Any, threshold: Threshold | None) -> dict[str, Any]:
    if dataset.classes:
        numbers = y_pred.tolist()
        return {"label": dataset.classes[decide_one(numbers, threshold)], "probabilities": numbers}
    return {"value": float(y_pred)}


def golden_inputs(dataset: Dataset, rows: np.ndarray) -> list[list[Any]]:
    """Rows of the data, by their places, as a client would send them."""
    return as_sent(dataset, dataset.features.iloc[rows])


def as_sent(dataset: Dataset, rows: pd.DataFrame) -> list[list[Any]]:
    """Feature rows as a client would send them: integers and booleans as such, null where empty."""
    may_be_null = {name: nullable(dataset, name) for name in dataset.kinds}
    return [
        [_plain(value, kind, may_be_null[name]) for value, (name, kind) in zip(row, dataset.kinds.items(), strict=True)]
        for row in rows[list(dataset.kinds)].itertuples(index=False, name=None)
    ]


def nullable(dataset: Dataset, name: str) -> bool:
    """Whether the service takes null for this column: where the data has an empty cell in it."""
    return dataset.nullable[name] or (dataset.kinds[name] == "text" and bool((dataset.features[name] == "").any()))


def _plain(value: Any, kind: str, may_be_null: bool) -> Any:
    if kind == "text":
        return None if value == "" and may_be_null else value
    if pd.isna(value):
        return None
    return {"integer": int, "boolean": bool, "number": float}[kind](value)
