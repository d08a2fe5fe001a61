"""Train the model: settings -> data -> split -> fit -> portable model -> MLflow run.

    make train                  # or: python train.py, after `make validate`

Writes build/run.json (what was trained, from what), build/model/ (the content of the bundle, and the trained model's answers
on the hold-out), and build/quantised/, the same in int8, where [train] quantise asks for it. The same commit and data give the same content bytes.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from msgspec import to_builtins

from pipeline.artifacts import BUILD, read_json, replace_directory, to_json, write_json
from pipeline.ci import lineage
from pipeline.data import drift
from pipeline.data.dataset import Dataset, read_frame, take_apart
from pipeline.decisions import rules, threshold
from pipeline.errors import DataError, PortabilityError, ProjectError, StageError, edge, in_project
from pipeline.evaluation import metrics
from pipeline.evaluation.measures import position_of_positive
from pipeline.formats import bundle, choose, family, trusted_types
from pipeline.formats.family import family_of
from pipeline.formats.onnx import conversion, quantisation, quantised
from pipeline.formats.onnx.quantisation import How
from pipeline.registry import once, versions
from pipeline.registry.training_run import data_snapshot, run_reason
from pipeline.search import nested_runs, study
from pipeline.settings import TRAINING, Settings, load_settings
from pipeline.validation import sides
from serving.model.decision import Threshold
from serving.requests.decoder import contract_fault


@dataclass(frozen=True)
class Servable:
    """The model as it will be served, its contract, and the rows on which it was tried beside the trained one."""

    served: choose.Served
    contract: dict
    tried: list[choose.Trial]
    contradiction: choose.Contradiction


@dataclass(frozen=True)
class Deciding:
    """What turns answers into decisions: the threshold that was chosen, if any, and the files of the rules, if any."""

    choice: threshold.Choice | None
    rules: dict[str, bytes]


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


def answers(model, dataset: Dataset) -> np.ndarray:
    """The trained model's answers on the hold-out: probabilities (n, k), or values (n,); ProjectError when one is not finite."""
    from threadpoolctl import threadpool_limits

    rows = dataset.features[dataset.holdout]
    with in_project("asking the model for its answers to the hold-out"), threadpool_limits(1):  # as the service asks it
        given = family.answer(model, dataset, rows)
    wrong = ~np.isfinite(given.reshape(len(rows), -1)).all(axis=1)
    if wrong.any():
        row = dataset.ids[dataset.holdout][wrong.argmax()]
        raise ProjectError(f"the model's answer for row {row} is not a finite number", "correct project/model.py")
    return given


def consistent(model, dataset: Dataset, tried: list[choose.Trial]) -> choose.Contradiction:
    """Refuse a model whose labels are not the most probable classes, or that contradicts itself; return how far it does."""
    if odd := choose.not_most_probable(model, dataset, tried):
        raise ProjectError(odd, choose.MOST_PROBABLE)
    found = choose.contradiction(model, dataset, dataset.features[dataset.holdout])
    if found.differ > choose.CONTRADICTED * found.rows:
        raise ProjectError(f"the model contradicts itself: {found}", choose.ONE_ANSWER)
    if found.differ:
        print(f"the model contradicts itself: {found}")
    return found


def servable_model(
    model, dataset: Dataset, y_pred: np.ndarray, checks: dict, commit: tuple[str, bool], decision: Deciding
) -> Servable:
    """The model in the format that answers as it was trained to; refuses one that cannot be served, while there is no MLflow run yet."""
    named = f"{commit[0]}-dirty" if commit[1] else commit[0]
    tolerance = dataset.settings.gate.parity

    def contract_for(form: dict) -> dict:
        return bundle.contract(dataset, form, checks, named, tolerance) | threshold.contract_part(decision.choice)

    held = dataset.features[dataset.holdout]
    tried = choose.prepare(model, dataset, held, y_pred, contract_for({})["inputs"])
    contradiction = consistent(model, dataset, tried)
    served = choose.choose(model, dataset, tried, contract_for)
    contract = contract_for(served.form) | rules.contract_part(decision.rules, dataset)
    served = replace(served, files=served.files | decision.rules)
    reason = f": {contract['format_reason']}" if contract["format_reason"] else ""
    print(f"served as {contract['format']}{reason}")
    servable(contract)
    return Servable(served, contract, tried, contradiction)


def write_content(model, dataset: Dataset, y_pred: np.ndarray, one: Servable, decision: Deciding) -> Path:
    """The content of the bundle, and the trained model's answers on the hold-out, in a folder that is not in its place yet."""
    content = empty(BUILD / ".model")
    write_files(content, one.served.files, one.contract)
    firm = choose.firm(model, dataset, one.tried)
    write_json(content / bundle.BACKGROUND, bundle.background(dataset))
    write_answers(content, dataset, y_pred, firm, partial(choose.alone, model, dataset), decision)
    return content


def write_files(content: Path, files: Mapping[str, bytes], contract: dict) -> None:
    """The model, the code beside it, and the contract."""
    for name, data in files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    write_json(content / "contract.json", contract)


def write_answers(
    content: Path, dataset: Dataset, y_pred: np.ndarray, firm: Sequence[tuple[pd.DataFrame, np.ndarray]],
    alone: Callable[[pd.DataFrame], np.ndarray], decision: Deciding,
) -> None:  # fmt: skip
    """The golden rows, the reference of the monitor, and the model's answers on the hold-out."""
    tolerance = dataset.settings.gate.parity
    around, cut = rules.of_files(decision.rules, dataset), threshold.of_choice(decision.choice, dataset)
    together = rules.together(around, dataset, y_pred)
    settled = partial(rules.settled, around, dataset, tolerance) if around else None
    write_json(content / "golden.json", bundle.golden(dataset, y_pred, tolerance, firm, alone, cut, settled))
    write_json(content / "reference.json", reference(dataset, together, cut))
    bundle.save_predictions(content, y_pred)


def empty(folder: Path) -> Path:
    """A folder without what an earlier run left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def to_quantise(settings: Settings, model) -> How | None:
    """How a second candidate is made in int8; None where none is asked for, or where it is known now that there is nothing to quantise."""
    shutil.rmtree(BUILD / "quantised", ignore_errors=True)  # an older run's must not be taken for this one's
    if settings.train.quantise == "no":
        return None
    if why := quantisation.hopeless(model):
        print(f"{why}; the training goes on without a candidate in int8")
        return None
    return settings.train.quantise


def write_quantised(model, dataset: Dataset, one: Servable, how: How, decision: Deciding) -> dict:
    """The content of the candidate in int8, in a folder that is not in its place yet; what run.json says of it."""
    try:
        made = quantised.candidate(*rules.without(one.served.files, one.contract), dataset, one.tried, how)
    except PortabilityError as error:
        print(f"no candidate in int8: {error.what}")
        return {"how": how, "digest": "", "reason": error.what}
    content = empty(BUILD / ".quantised")
    for name in (name for name in bundle.PAPERS if (BUILD / ".model" / name).is_file()):  # what is about the data alone
        shutil.copyfile(BUILD / ".model" / name, content / name)
    write_files(content, made.files | decision.rules, made.contract | rules.contract_part(decision.rules, dataset))
    firm = [(rows, made.ask(rows)) for rows, _ in choose.firm(model, dataset, one.tried)]
    write_answers(content, dataset, made.y_pred, firm, made.alone, decision)
    print(f"second candidate: the same model in int8 ({how})")
    return {"how": how, "digest": bundle.digest(content), "reason": ""}


def reference(dataset: Dataset, y_pred: np.ndarray, cut: Threshold | None) -> dict:
    """What production is compared with: distributions in training, and answers, losses and metrics on the hold-out.

    Each row counts the same here, whatever its weight: production's rows have none.
    """
    settings = dataset.settings
    positive = position_of_positive(settings, dataset)
    y_true = dataset.y[dataset.holdout]
    measured = metrics.evaluate(settings.data.task, y_true, y_pred, positive, metrics.of_project(), cut)
    return drift.reference(dataset, ~dataset.holdout, y_pred, measured, cut)


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


def log_run(settings: Settings, dataset: Dataset, model, y_pred: np.ndarray, facts: dict) -> dict:
    """Log lineage and model as an MLflow run, to which evaluate.py adds metrics and figures; return what names the run."""
    import mlflow

    from pipeline import mlflow_pages
    from pipeline.registry import mlflow_server
    from pipeline.registry.training_run import run_title

    client = versions.connect(settings)
    changed = run_title.change(facts, *run_title.of_production(client, settings.name))
    experiment = versions.experiment(client, settings.name)
    mlflow.set_experiment(experiment_id=experiment)
    with once.start_run(client, experiment, run_title.title(changed)) as run:
        model_id = log_lineage(client, run, settings, dataset, facts, changed)
    # Outside of the run, or MLflow would make the model's link to it once more, which is there already.
    logged = log_model(model, dataset, y_pred, model_id)
    page = mlflow_pages.run(run.info.experiment_id, run.info.run_id)
    return {
        "run_id": run.info.run_id,
        "experiment_id": run.info.experiment_id,
        "run_url": f"{mlflow_server.shown(mlflow.get_tracking_uri()).rstrip('/')}/{page}",
        "model_id": logged.model_id,
        "model_uri": logged.model_uri,
        "trained_by": versions.actor(),
        "trained_at": versions.timestamp(run.info.start_time / 1000),
    }


def log_lineage(client, run, settings: Settings, dataset: Dataset, facts: dict, changed: str) -> str:
    """Log what was trained, from what and why to the active run; return the id of its model, which is empty yet."""
    import mlflow

    from pipeline.registry.training_run.dataset_input import SampledDataset

    mlflow.log_params({f"train.{key}": value for key, value in facts["parameters"].items()})
    mlflow.log_params(
        {"seed": settings.train.seed, "holdout": settings.split.holdout, "salt": settings.split.salt}
        | {f"rows.{side}": count for side, count in facts["rows"].items()}
        | {f"decision.{key}": facts["decision"][key] for key in ("rule", "threshold") if "decision" in facts}
    )
    empty = once.logged_model(client, run, "model", client.get_run(run.info.run_id).data.params)
    mlflow.set_tags(
        {key: str(facts[key]) for key in ("commit", "dirty", "data_hash", "lock_hash", "model_digest")}
        | {"workflow_run": lineage.link(), "reason": facts["reason"], "change": changed}
    )
    frame = dataset.features.assign(**{settings.data.target: dataset.target})[~dataset.holdout]
    name, target = f"{settings.name}-train", settings.data.target
    mlflow.log_input(SampledDataset(frame, name, target, digest=dataset.hash[:36]), context="training")
    mlflow.log_dict(json.loads(settings.model_dump_json()), "settings.json")
    return empty.model_id


def log_model(model, dataset: Dataset, y_pred: np.ndarray, model_id: str):
    """Log the trained model, without pickle, as the logged model of that id."""
    from mlflow.models import infer_signature

    sample = dataset.features.head(3)
    return family_of(model).log(model, dataset, model_id, infer_signature(sample, y_pred[:3]), sample)


def servable(contract: dict) -> None:
    """Refuse a contract from which the service could not be made, while there is no MLflow run yet."""
    fault = contract_fault(to_json(contract).encode())
    if fault:
        raise DataError(
            f"the service cannot be made from this contract: {fault}",
            "correct the column in load() of project/data.py, or what project/checks.py allows of it",
        )


def allowed(model, trusted: list[str]) -> None:
    """Refuse a model that holds types which need the team's word in [train] trusted_types and have none, naming them."""
    if unknown := family_of(model).untrusted(model, trusted):
        raise ProjectError(
            f"the model holds types that are not trusted: {', '.join(unknown)}",
            trusted_types.advice(unknown, trusted),
        )


if __name__ == "__main__":
    sys.exit(main())
