"""The production model on the hold-out: its answers as it serves them, or why there are none, and how the data has changed."""

from dataclasses import dataclass

import numpy as np

from pipeline.comparison.registered import ask, content, incomparable, unseen
from pipeline.data import drift
from pipeline.data.dataset import Dataset
from pipeline.errors import PortabilityError, RegistryError
from pipeline.evaluation import gate, record
from pipeline.evaluation.measures import distinct
from pipeline.evaluation.record import DataChange, InProduction
from pipeline.registry import versions
from pipeline.registry.deployment_record import last_deployment
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings
from serving.model.decision import Threshold, threshold_of


@dataclass(frozen=True)
class Production:
    """The model in production and its answers: on `rows` (mask over the hold-out) or, with `problem`, none."""

    facts: InProduction
    rows: np.ndarray
    y_pred: np.ndarray
    data: DataChange
    problem: gate.Problem | None = None
    threshold: Threshold | None = None  # its own; None: it answers with the most probable class
    best: str = ""  # the number of the best version so far; "": it is this one


def in_production(
    client, settings: Settings, dataset: Dataset, anew: bool, units: np.ndarray | None = None
) -> Production | None:
    """The production model's answers, or None when nothing has ever been put into production.

    Raises RegistryError when the deployment record speaks of a production version that MLflow no longer has, unless
    the user chose to start anew.
    """
    version = versions.by_alias(client, settings.name, "production")
    last = last_deployment(client, settings.name, "production")
    if version is None:
        if last is None or anew or not versions.was_promoted(client, settings.name, last.version):
            return None
        raise RegistryError(
            f"alias production of {settings.name} is on no version, but version {last.version} was in production: "
            "was it deleted in MLflow?",
            "`make rollback VERSION=n` puts an existing version into production; "
            "`python evaluate.py --first` or `make ship FIRST=yes` starts anew",
        )
    facts = InProduction(
        version=version.number,
        run_id=version.run_id,
        commit=version.commit,
        since=versions.timestamp(last.since) if last else "",
    )
    contract, files, reference = content(client, version)
    rows = unseen(version, settings, dataset)
    data = data_change(client, version, contract, reference, dataset)
    problem = incomparable(contract, dataset, int(rows.sum()), distinct(rows, units), version.number)
    if problem:
        return Production(facts, rows, np.empty(0), data, problem)
    best = version.best_version
    best = "" if best == version.number or settings.gate.reference == "production" else best
    try:
        y_pred = ask(files, contract, dataset, rows)
        return Production(facts, rows, y_pred, data, threshold=threshold_of(contract), best=best)
    except PortabilityError as error:
        return Production(facts, rows, np.empty(0), data, unaskable(error, version.number))


def unaskable(error: PortabilityError, version: str) -> gate.Problem:
    """Why production, a stored scikit-learn model, does not answer here: it may be of another scikit-learn than there is now."""
    return gate.Problem(
        "refuse",
        f"production version {version} cannot be asked, so the two cannot be compared: {error.what}. Restore the packages that it "
        "was made with, or give the new model a name of its own in pipeline.toml.",
    )


def data_change(client, version: ModelVersion, contract: dict, reference: dict, dataset: Dataset) -> DataChange:
    """How the data differs from what production was trained on: rows, columns, and the drift of each column.

    Which rows came or went is known only when the data is the same: production's ids are not kept.
    """
    was = client.get_run(version.run_id).data.params
    counts = [was.get(f"rows.{side}", "") for side in ("train", "holdout")]
    names = [field["name"] for field in contract["inputs"]]
    same = contract["data_hash"] == dataset.hash
    return DataChange(
        version=version.number,
        same=same,
        rows=len(dataset.ids),
        rows_before=sum(map(int, counts)) if all(count.isdecimal() for count in counts) else None,
        rows_added=0 if same else None,
        rows_removed=0 if same else None,
        columns_added=[name for name in dataset.kinds if name not in names],
        columns_removed=[name for name in names if name not in dataset.kinds],
        drift=record.drift_of(drift.compare(reference, dataset, ~dataset.holdout)),
    )
