"""Train the model: settings -> data -> split -> fit -> portable model -> MLflow run.

    make train                  # or: python train.py, after `make validate`

Writes build/run.json (what was trained, from what), build/model/ (the content of the bundle, and the trained model's answers
on the hold-out) and build/plots/. The same commit and data give the same content bytes.
"""

import json
import math
import os
import shutil
import sys
from dataclasses import asdict
from functools import partial

import numpy as np

from pipeline.artifacts import BUILD, read_json, replace_directory, to_json, write_json
from pipeline.ci import lineage, outputs
from pipeline.data import drift
from pipeline.data.dataset import Dataset, load_dataset
from pipeline.errors import DataError, ProjectError, StageError, edge, in_project
from pipeline.evaluation import metrics
from pipeline.formats import bundle, choose, onnx_conversion, onnx_model, sklearn_model, trusted_types
from pipeline.registry import once, versions
from pipeline.settings import TRAINING, Settings, load_settings
from serving.requests.decoder import contract_fault

PREDICTED = 100_000  # rows that feature importance has predicted, all columns and shuffles together


@edge
def main() -> None:
    """Train once, and leave everything that the later stages need in build/."""
    # Settings and data: those that were validated, no others.
    (BUILD / "run.json").unlink(missing_ok=True)  # an older run must not speak for this one, should it fail
    settings = load_settings()
    onnx_conversion.prepare()
    dataset = load_dataset(settings)
    checks = validated(dataset)
    training, holdout = ~dataset.holdout, dataset.holdout
    both_sides(dataset)
    versions.check_experiments(versions.connect(settings), settings.name)  # before any time is spent on the fit
    metrics.check_names(settings, list(dataset.features), metrics.of_project())
    print(f"{training.sum()} rows to train on, {holdout.sum()} held out")

    # Fit, and let the trained model answer for the hold-out.
    model = fit(settings, dataset)
    allowed(model, settings.train.trusted_types)
    y_pred = answers(model, dataset)

    # The portable model, and what the service must know of it.
    from pipeline.evaluation import plots

    commit, dirty = lineage.commit()

    def contract_for(form: dict) -> dict:
        named = f"{commit}-dirty" if dirty else commit
        return bundle.contract(dataset, form, checks, named, settings.gate.parity)

    tried = choose.prepare(model, dataset, dataset.features[holdout], y_pred, contract_for({})["inputs"])
    contradiction = consistent(model, dataset, tried)
    chosen = choose.choose(model, dataset, tried, contract_for)
    print(
        f"served as {chosen.form['format']}"
        + (f": {chosen.form['format_reason']}" if chosen.form["format_reason"] else "")
    )
    servable(contract_for(chosen.form))
    positive = dataset.classes.index(settings.data.positive) if settings.data.positive else None
    every = metrics.evaluate(settings.data.task, dataset.y[holdout], y_pred, positive, metrics.of_project())
    scores = {name: value for name, value in every.items() if math.isfinite(value)}
    rows, shuffles = shuffled(int(holdout.sum()), len(dataset.kinds))
    if rows < holdout.sum() or shuffles < 5:
        print(f"feature importance: {rows} of the held-out rows, {shuffles} shuffles of each column")
    importance = feature_importance(model, dataset, settings.train.seed, rows, shuffles)

    content = BUILD / ".model"
    shutil.rmtree(content, ignore_errors=True)
    content.mkdir(parents=True)
    for name, data in chosen.files.items():
        (content / name).parent.mkdir(parents=True, exist_ok=True)
        (content / name).write_bytes(data)
    write_json(content / "contract.json", contract_for(chosen.form))
    firm = choose.firm(model, dataset, tried)
    golden = bundle.golden(dataset, y_pred, settings.gate.parity, firm, partial(choose.alone, model, dataset))
    write_json(content / "golden.json", golden)
    write_json(content / "reference.json", drift.reference(dataset, training, y_pred))
    write_json(content / "feature_importance.json", importance)
    bundle.save_predictions(content, y_pred)

    pictures = BUILD / ".plots"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir()
    drawn = plots.figures_for(
        settings.data.task, dataset.classes, positive, dataset.y[holdout], y_pred, importance=importance
    )
    for name, figure in drawn.items():
        plots.save_png(figure, pictures / f"{name}.png")

    # The MLflow run.
    facts = {
        "name": settings.name,
        "task": settings.data.task,
        "classes": dataset.classes,
        "positive": settings.data.positive,
        "commit": commit,
        "dirty": dirty,
        "data_hash": dataset.hash,
        "lock_hash": lineage.lock_hash(),
        "settings_hash": settings.fingerprint(*TRAINING),
        "seed": settings.train.seed,
        "rows": {"train": int(training.sum()), "holdout": int(holdout.sum())},
        "metrics": scores,
        "parameters": settings.train.parameters,
        "features": list(dataset.kinds),
        "importance": {"rows": rows, "shuffles": shuffles},
        "split": {"holdout": settings.split.holdout, "salt": settings.split.salt, "id": settings.data.id},
        "format": chosen.form["format"],
        "trials": [
            {"where": one.where, "rows": len(one.rows), **asdict(found)}
            for one, found in zip(tried, chosen.parity, strict=True)
        ],
        "contradiction": asdict(contradiction),
        "model_digest": bundle.digest(content),
    }
    facts |= log_run(settings, dataset, model, y_pred, facts, content, pictures)

    replace_directory(content, BUILD / "model")
    replace_directory(pictures, BUILD / "plots")
    write_json(BUILD / "run.json", facts)
    for name, value in scores.items():
        print(f"  {name:<24} {value:.4f}")
    print(f"run: {facts['run_url']}")
    state = " with uncommitted changes" if dirty else ""
    main_metric = settings.gate.metric
    print(
        f"trained on commit {commit[:12]}{state}: {main_metric} {scores.get(main_metric, float('nan')):.4f} on the hold-out"
    )


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
    for side, rows in (("training", ~dataset.holdout), ("hold-out", dataset.holdout)):
        if rows.sum() < 10:
            raise DataError(f"the {side} side has {rows.sum()} rows, too few to learn or to judge", "add data")
        absent = set(dataset.classes) - set(dataset.target[rows]) if dataset.classes else set()
        if absent:
            raise DataError(
                f"class {min(absent)!r} has no row on the {side} side of the split",
                "add rows of that class, or draw another hold-out with [split] salt in pipeline.toml",
            )


def fit(settings: Settings, dataset: Dataset):
    """The team's model, fitted on the training side; classes are given as their positions 0 … k-1."""
    with in_project("build() or fitting its model"):
        from project.model import build

        model = build(dict(settings.train.parameters), settings.train.seed)
        if not hasattr(model, "fit"):
            raise TypeError(f"build() returned {type(model).__name__}, which has no fit()")
        return model.fit(dataset.features[~dataset.holdout], dataset.y[~dataset.holdout])


def answers(model, dataset: Dataset) -> np.ndarray:
    """The trained model's answers on the hold-out: probabilities (n, k), or values (n,); ProjectError when one is not finite."""
    from threadpoolctl import threadpool_limits

    rows = dataset.features[dataset.holdout]
    call = "predict_proba" if dataset.classes else "predict"
    if not hasattr(model, call):
        raise ProjectError(
            f"the model has no {call}()",
            "a classifier must answer with probabilities; scikit-learn's CalibratedClassifierCV adds them",
        )
    with in_project(f"{call}() of the model"), threadpool_limits(1):  # as the service asks it
        given = choose.answer(model, dataset, rows)
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


def shuffled(held: int, columns: int) -> tuple[int, int]:
    """How many hold-out rows feature importance is computed on, and how often each column is shuffled.

    Both are bounded by counts, never by a clock, so that the same data gives the same importance: five shuffles of at most 2,000
    rows, fewer where all columns together would be more than PREDICTED rows to predict. More rows tell more than more shuffles of the
    same rows, so shuffles are saved first. At least two shuffles of 100 rows remain, however many the columns.
    """
    rows = min(held, 2000)
    shuffles = min(max(PREDICTED // (columns * rows), 2), 5)
    return min(rows, max(PREDICTED // (columns * shuffles), 100)), shuffles


def feature_importance(model, dataset: Dataset, seed: int, rows: int, shuffles: int) -> dict[str, float]:
    """Mean loss of score (negative log loss or R²) on hold-out rows when a column is shuffled; most important first.

    Permutation importance: Breiman, Random Forests, 2001, section 10. `rows` are drawn evenly from the hold-out.
    """
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import log_loss, make_scorer

    held = np.flatnonzero(dataset.holdout)
    drawn = held[np.linspace(0, len(held) - 1, rows).astype(int)]  # evenly: data may be sorted by class
    classes = {"response_method": "predict_proba", "greater_is_better": False, "labels": range(len(dataset.classes))}
    scorer = make_scorer(log_loss, **classes) if dataset.classes else "r2"
    found = permutation_importance(
        model,
        dataset.features.iloc[drawn],
        dataset.y[drawn],
        scoring=scorer,
        n_repeats=shuffles,
        random_state=seed,
    ).importances_mean
    ranked = sorted(zip(dataset.kinds, found, strict=True), key=lambda pair: -pair[1])
    return {name: round(float(value), 9) for name, value in ranked}


def log_run(settings: Settings, dataset: Dataset, model, y_pred, facts: dict, content, pictures) -> dict:
    """Log parameters, metrics, lineage, files and the model as an MLflow run; return what names them."""
    from importlib.metadata import version

    from pipeline import mlflow_pages
    from pipeline.registry import mlflow_server, run_title
    from pipeline.registry.dataset_input import SampledDataset

    client = versions.connect(settings)
    changed = run_title.change(facts, *run_title.of_production(client, settings.name))
    import mlflow
    from mlflow.models import infer_signature

    experiment = versions.experiment(client, settings.name)
    mlflow.set_experiment(experiment_id=experiment)
    sample = dataset.features.head(3)
    with once.start_run(client, experiment, run_title.title(changed)) as run:
        mlflow.log_params({f"train.{key}": value for key, value in settings.train.parameters.items()})
        mlflow.log_params(
            {"seed": settings.train.seed, "holdout": settings.split.holdout, "salt": settings.split.salt}
            | {f"rows.{side}": count for side, count in facts["rows"].items()}
        )
        empty = once.logged_model(client, run, "model", client.get_run(run.info.run_id).data.params)
        mlflow.log_metrics(facts["metrics"], model_id=empty.model_id)
        mlflow.set_tags(
            {key: str(facts[key]) for key in ("commit", "dirty", "data_hash", "lock_hash", "model_digest")}
            | {"workflow_run": lineage.link(), "reason": reason(), "change": changed}
        )
        frame = dataset.features.assign(**{settings.data.target: dataset.target})
        mlflow.log_input(
            SampledDataset(
                frame[~dataset.holdout], f"{settings.name}-train", settings.data.target, digest=dataset.hash[:36]
            ),
            context="training",
        )
        mlflow.log_artifacts(str(pictures), "plots")
        mlflow.log_artifact(str(content / "feature_importance.json"))
        mlflow.log_dict(json.loads(settings.model_dump_json()), "settings.json")
    # Outside of the run, or MLflow would make the model's link to it once more, which is there already.
    logged = mlflow.sklearn.log_model(
        model,
        model_id=empty.model_id,
        serialization_format="skops",
        skops_trusted_types=sklearn_model.types_beyond(sklearn_model.dumps(model)),  # all of them were judged
        signature=infer_signature(sample, y_pred[:3]),
        input_example=sample,
        pip_requirements=[f"{name}=={version(name)}" for name in ("scikit-learn", "pandas", "numpy", "skops")],
    )
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


def reason() -> str:
    """Why this was trained: what SLIPWAY_REASON says (a retraining begins with "retrain"), else "push" in a workflow, "local" here."""
    return os.environ.get("SLIPWAY_REASON", "").strip()[:200] or ("push" if outputs.is_workflow() else "local")


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
    unknown = onnx_model.untrusted(model, trusted)
    if unknown:
        raise ProjectError(
            f"the model holds types that are not trusted: {', '.join(unknown)}",
            trusted_types.advice(unknown, trusted),
        )


if __name__ == "__main__":
    sys.exit(main())
