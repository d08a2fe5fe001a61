"""Train the model: settings -> data -> split -> fit -> portable model -> MLflow run.

    make train                  # or: python train.py, after `make validate`

Writes build/run.json (what was trained, from what), build/model/ (the content of the bundle, and the trained model's answers
on the hold-out), and build/quantised/, the same in int8, where [train] quantise asks for it. The same commit and data give the same content bytes.
"""

import sys
from dataclasses import asdict
from functools import partial

import numpy as np
from msgspec import to_builtins

from pipeline.artifacts import BUILD, read_json, replace_directory, write_json
from pipeline.ci import lineage
from pipeline.data.dataset import Dataset, read_frame, take_apart
from pipeline.decisions import rules, threshold
from pipeline.errors import DataError, StageError, edge
from pipeline.evaluation import metrics
from pipeline.formats import bundle, family
from pipeline.formats.onnx import conversion
from pipeline.registry import versions
from pipeline.registry.training_run import data_snapshot, run_reason
from pipeline.search import nested_runs, study
from pipeline.settings import TRAINING, Settings, load_settings
from pipeline.training.content import to_quantise, write_content, write_quantised
from pipeline.training.mlflow_run import log_run
from pipeline.training.servable import Deciding, Servable, allowed, answers, servable_model
from pipeline.validation import sides


@edge
def main() -> None:
    """Train once, and leave everything that the later stages need in build/."""
    # Settings and data: those that were validated, no others.
    (BUILD / "run.json").unlink(missing_ok=True)  # an older run must not speak for this one, should it fail
    settings = load_settings()
    conversion.prepare()
    frame = read_frame()
    dataset = take_apart(frame, settings)
    rows = data_snapshot.pack(frame, dataset) if settings.data.snapshot else None
    del frame
    checks = validated(dataset)
    both_sides(dataset)
    versions.check_experiments(versions.connect(settings), settings.name)  # before any time is spent on the fit
    metrics.check_names(settings, list(dataset.features), metrics.of_project())
    ruled = rules.checked(dataset)
    threshold.check(dataset)
    print(f"{(~dataset.holdout).sum()} rows to train on, {dataset.holdout.sum()} held out")

    # Fit, with the parameters that a search found if [search] asks for one, and let the trained model answer for the hold-out.
    search = study.find(dataset)
    parameters = search.parameters if search else settings.train.parameters
    untrained = family.build(settings, parameters)
    quantise = to_quantise(settings, untrained)
    model = family.fit(untrained, dataset, np.flatnonzero(~dataset.holdout))
    allowed(model, settings.train.trusted_types)
    y_pred = answers(model, dataset)

    # What turns its answers into decisions.
    choice = threshold.choose(dataset, partial(family.refitted, settings, dataset, parameters))
    decision = Deciding(choice, ruled)

    # The model to serve, and the MLflow run.
    commit = lineage.commit()
    served = servable_model(model, dataset, y_pred, checks, commit, decision)
    content = write_content(model, dataset, y_pred, served, decision)
    facts = facts_of(settings, dataset, parameters, served, commit, choice) | {"model_digest": bundle.digest(content)}
    facts["int8"] = write_quantised(model, dataset, served, quantise, decision) if quantise else None
    facts |= log_run(settings, dataset, model, y_pred, facts)
    if search:
        nested_runs.log(settings, facts, search)
    if rows is not None:
        data_snapshot.keep(versions.connect(settings), facts["run_id"], rows)
    replace_directory(content, BUILD / "model")
    if facts["int8"] and facts["int8"]["digest"]:
        replace_directory(BUILD / ".quantised", BUILD / "quantised")
    write_json(BUILD / "run.json", facts)
    print(f"run: {facts['run_url']}")
    state = " with uncommitted changes" if facts["dirty"] else ""
    print(f"trained on commit {facts['commit'][:12]}{state}, served as {facts['format']}")


def validated(dataset: Dataset) -> dict:
    """The data report, if it is of exactly this data and has no critical failure; else StageError."""
    report = read_json(BUILD / "data.json")
    if report["data_hash"] != dataset.hash:
        raise StageError("build/data.json is about other data than there is now", "run `make validate`")
    if not report["success"]:
        raise StageError(
            "the data failed a critical check", "build/data.md says which; run `make validate` once mended"
        )
    return report


def both_sides(dataset: Dataset) -> None:
    """Refuse data of which one side of the split lacks rows or a class."""
    for check in sides.examine(dataset):
        if not check.success and check.severity == "critical":
            raise DataError(f"column {check.column!r}: {check.observed}")
    for side, rows in (("training", ~dataset.holdout), ("hold-out", dataset.holdout)):
        if rows.sum() < 10:
            raise DataError(f"the {side} side has {rows.sum()} rows, too few to learn or to judge", "add data")
        absent = set(dataset.classes) - set(dataset.target[rows]) if dataset.classes else set()
        if absent:
            raise DataError(
                f"class {min(absent)!r} has no row on the {side} side of the split",
                "add rows of that class, or draw another hold-out with [split] salt in pipeline.toml",
            )


def facts_of(
    settings: Settings, dataset: Dataset, parameters: dict, one: Servable, commit: tuple[str, bool],
    choice: threshold.Choice | None,
) -> dict:  # fmt: skip
    """What was trained, from what: all of build/run.json that is known before there is a run."""
    return {
        "name": settings.name,
        "task": settings.data.task,
        "classes": dataset.classes,
        "positive": settings.data.positive,
        "commit": commit[0],
        "dirty": commit[1],
        "reason": run_reason.given(),
        "data_hash": dataset.hash,
        "lock_hash": lineage.lock_hash(),
        "settings_hash": settings.fingerprint(*TRAINING),
        "seed": settings.train.seed,
        "rows": {"train": int((~dataset.holdout).sum()), "holdout": int(dataset.holdout.sum())},
        "parameters": parameters,
        "search": settings.search.method,
        "features": list(dataset.kinds),
        "split": dataset.split_facts,
        "format": one.contract["format"],
        "trials": [
            {"where": trial.where, "rows": len(trial.rows), **asdict(found)}
            for trial, found in zip(one.tried, one.served.parity, strict=True)
        ],
        "contradiction": asdict(one.contradiction),
        **({"decision": to_builtins(choice)} if choice else {}),
    }


if __name__ == "__main__":
    sys.exit(main())
