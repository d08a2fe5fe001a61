"""A registered version on the hold-out: which rows it was not trained on, whether it can answer for the data, and its answers."""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from pipeline.artifacts import BUILD, read_json
from pipeline.data.dataset import Dataset
from pipeline.data.holdout import is_holdout, parsed_cut
from pipeline.evaluation import gate
from pipeline.formats import bundle, choose
from pipeline.registry import versions
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

COMMON_ROWS = 20  # below this the rows that neither model trained on say nothing


def content(client, version: ModelVersion) -> tuple[dict, dict[str, bytes], dict]:
    """Contract, model files and reference of a version's bundle; raises StageError where the bundle is damaged."""
    for left in BUILD.glob(".production-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(dir=BUILD, prefix=".production-"))
    try:
        folder = versions.fetch_bundle(client, version, work)
        bundle.verify(folder)
        return read_json(folder / "contract.json"), bundle.model_files(folder), read_json(folder / "reference.json")
    finally:
        shutil.rmtree(work)


def ask(files: dict[str, bytes], contract: dict, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """A version's answers on these rows (mask over the hold-out); raises PortabilityError where it gives none."""
    features = dataset.features.loc[dataset.holdout, [field["name"] for field in contract["inputs"]]][rows]
    return choose.predict(files, contract, features)[0]


def unseen(version: ModelVersion, settings: Settings, dataset: Dataset) -> np.ndarray:
    """Which rows of the hold-out the version was not trained on either; mask over the hold-out."""
    split, held = version.split, dataset.holdout
    none = np.zeros(int(held.sum()), dtype=bool)
    if split is None or split.column != settings.data.roles.get(split.by):
        return none
    values = {"id": dataset.ids, "group": dataset.groups, "time": dataset.times}[split.by]
    if values is None:
        return none
    if split.by != "time":
        return is_holdout(values[held], split.holdout, split.salt)
    cut = parsed_cut(split.cut)
    if cut is None or isinstance(cut, np.datetime64) != (values.dtype.kind == "M"):  # it was a number and is a date now
        return none
    return values[held] >= cut


def incomparable(contract: dict, dataset: Dataset, rows: int, distinct: int, version: str) -> gate.Problem | None:
    """Why the version cannot answer for this data, or None. The words are for the production version."""
    anew = "or give the new model a name of its own in pipeline.toml"
    if contract["task"] != dataset.settings.data.task or contract["classes"] != dataset.classes:
        return gate.Problem(
            "refuse",
            f"production version {version} answers another question ({contract['task']} "
            f"{', '.join(contract['classes'])}): the two cannot be compared. Correct the target, {anew}.",
        )
    for column in contract["inputs"]:
        there = dataset.kinds.get(column["name"])
        if there is None or (there == "text") != (column["type"] == "text"):
            what = "lacks" if there is None else f"has as {there}"
            return gate.Problem(
                "refuse",
                f"production version {version} needs column {column['name']!r} ({column['type']}), which the data {what}: "
                f"the two cannot be compared. Restore the column, {anew}. If the change is meant, `make ship COLUMNS=changed` "
                "(in GitHub: Run workflow of deliver, columns: changed) has [gate.limits] alone decide. To go back to the columns "
                "of an earlier version, `make rollback`. To leave a column out, keep it in the data and drop it in the model: "
                "ColumnTransformer with remainder='drop'.",
                columns=True,
            )
    if rows < COMMON_ROWS:
        return gate.Problem(
            "keep",
            f"only {rows} rows are held out from both models, because [split] or its column changed since version "
            f"{version}; at least {COMMON_ROWS} are needed. Restore the split, {anew}.",
        )
    if distinct < COMMON_ROWS and dataset.groups is not None:
        return gate.Problem(
            "keep",
            f"the {rows} rows that are held out from both models are of {distinct} groups ({dataset.settings.data.group}), and rows of "
            f"one group count as one; at least {COMMON_ROWS} groups are needed. Raise [split] holdout, or add data.",
        )
    if distinct < COMMON_ROWS:
        return gate.Problem(
            "keep",
            f"the {rows} rows that are held out from both models are copies of {distinct} distinct ones; at least {COMMON_ROWS} "
            "are needed. Add data; or, where rows are alike by chance because the columns have few values, set "
            '[gate] repeated_rows = "each".',
        )
    return None
