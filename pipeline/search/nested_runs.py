"""The trials of a search in MLflow: a run for each, nested in that of the candidate or of the comparison."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.evaluation.record import Search, SearchTrial
from pipeline.registry import once, versions
from pipeline.search.model_comparison import Model, Models
from pipeline.settings import Settings

PARENT = "mlflow.parentRunId"  # by this tag MLflow shows a run within another
AT_ONCE = 4  # requests: a trial takes three of them, and a search may have hundreds of trials


@dataclass(frozen=True)
class Nested:
    """What is logged of one trial: its name, parameters, the score in each fold and other figures; `reason` says why it failed."""

    name: str
    parameters: Mapping[str, Any]
    metric: str
    scores: Sequence[float]
    figures: Mapping[str, float]
    reason: str = ""
    winner: bool = False


def log(settings: Settings, run: Mapping[str, Any], search: Search) -> None:
    """Log each trial under the candidate's run (its run_id and experiment_id), and say there that a search found its parameters."""
    client = versions.connect(settings)
    said = f"{search.method}: trial {search.winner} is the best of {search.finished}, in {search.folds} folds"
    client.set_tag(run["run_id"], "search", said)
    log_all(client, run["experiment_id"], run["run_id"], [_trial(one, search) for one in search.trials])


def _trial(one: SearchTrial, search: Search) -> Nested:
    figures = {} if one.mean is None else {search.metric: one.mean, f"{search.metric}_sd": one.deviation or 0.0}
    parameters = {f"train.{key}": value for key, value in one.parameters.items()}
    return Nested(
        f"trial {one.number}", parameters, search.metric, one.scores, figures | {"seconds": one.seconds}, one.reason,
        one.number == search.winner,
    )  # fmt: skip


def log_models(client, found: Models, files: Sequence[Path]) -> None:
    """Log a comparison as a run of the experiment NAME-models with its files, and a run within it for each model."""
    experiment = versions.experiment(client, f"{found.name}-models")
    tags = {"commit": found.commit, "data_hash": found.data_hash, "best": found.best().name}
    parent = once.run(client, experiment, f"{len(found.models)} models, best {found.best().name}", tags).info.run_id
    for file in files:
        client.log_artifact(parent, str(file))
    parameters = {f"train.{key}": value for key, value in found.parameters.items()}
    log_all(client, experiment, parent, [_model(one, found, parameters) for one in found.models])
    client.set_terminated(parent)


def _model(one: Model, found: Models, parameters: Mapping[str, Any]) -> Nested:
    known = {
        found.metric: one.candidate,
        f"{found.metric}_sd": one.deviation,
        "difference": one.difference,
        "fit_seconds": one.fit_seconds,
        "row_microseconds": one.row_microseconds,
    }
    figures = {name: value for name, value in known.items() if value is not None}
    return Nested(one.name, parameters, found.metric, one.scores, figures, one.reason, one == found.best())


def log_all(client, experiment: str, parent: str, trials: Sequence[Nested]) -> None:
    """Log each of these under a run, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: _log(client, experiment, parent, one), trials))


def _log(client, experiment: str, parent: str, one: Nested) -> None:
    import time

    from mlflow.entities import Metric, Param

    tags = (
        {PARENT: parent}
        | ({"failed": one.reason[:500]} if one.reason else {})
        | ({"winner": "yes"} if one.winner else {})
    )
    run_id = once.run(client, experiment, one.name, tags).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(f"fold_{one.metric}", value, now, step) for step, value in enumerate(one.scores, 1)]
    metrics += [Metric(name, value, now, 0) for name, value in one.figures.items()]
    client.log_batch(run_id, metrics=metrics, params=[Param(key, str(value)) for key, value in one.parameters.items()])
    client.set_terminated(run_id, "FAILED" if one.reason else "FINISHED")
