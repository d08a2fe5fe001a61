"""The run of a training in MLflow: what was trained, from what and why, and the model itself."""

import json
import re
import time
from collections.abc import Mapping

import numpy as np

from pipeline.ci import lineage
from pipeline.data.dataset import Dataset
from pipeline.formats.family import family_of
from pipeline.registry import once, versions
from pipeline.settings import Settings

STEPS = 500  # of a curve at most


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
        log_history(client, run.info.run_id, family_of(model).history(model))
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


def log_history(client, run_id: str, history: Mapping[str, list[float]]) -> None:
    """Log how the training went as metrics with steps, which MLflow draws as curves; long ones are thinned."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    for name, values in history.items():
        steps = np.unique(np.linspace(0, len(values) - 1, min(len(values), STEPS)).astype(int))
        clean = re.sub(r"[^\w .\-/]", "_", name)  # CatBoost's "Quantile:alpha=0.1"
        client.log_batch(run_id, metrics=[Metric(clean, float(values[step]), now, int(step) + 1) for step in steps])


def log_model(model, dataset: Dataset, y_pred: np.ndarray, model_id: str):
    """Log the trained model, without pickle, as the logged model of that id."""
    from mlflow.models import infer_signature

    sample = dataset.features.head(3)
    return family_of(model).log(model, dataset, model_id, infer_signature(sample, y_pred[:3]), sample)
