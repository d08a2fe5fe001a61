"""The best version so far on the hold-out: a second comparison, so that many small losses do not add up."""

from dataclasses import dataclass

import numpy as np

from pipeline.comparison.production import Production
from pipeline.comparison.registered import ask, content, incomparable, unseen
from pipeline.data.dataset import Dataset
from pipeline.errors import SlipwayError, reason
from pipeline.evaluation import gate
from pipeline.evaluation.measures import Measures, distinct
from pipeline.evaluation.record import BestSoFar
from pipeline.registry import versions
from pipeline.settings import Settings
from serving.model.decision import Threshold, threshold_of


@dataclass(frozen=True)
class BestVersion:
    """The best version so far and its answers on `rows` (mask over the hold-out), or why there are none."""

    version: str
    rows: np.ndarray
    y_pred: np.ndarray
    problem: str = ""
    threshold: Threshold | None = None  # its own


def best_version(
    client, settings: Settings, dataset: Dataset, production: Production, units: np.ndarray | None
) -> BestVersion | None:
    """The best version so far on the rows that it did not see either, or None when it is production's.

    It is only a second comparison: a version that is gone, broken or does not fit the data is a note, and no error.
    """
    from mlflow.exceptions import MlflowException

    if not production.best:
        return None
    none = np.zeros(len(production.rows), dtype=bool)
    try:
        version = versions.by_number(client, settings.name, production.best)
        contract, files, _ = content(client, version)
        rows = production.rows & unseen(version, settings, dataset)
        problem = incomparable(contract, dataset, int(rows.sum()), distinct(rows, units), version.number)
        if problem is None:
            y_pred = ask(files, contract, dataset, rows)
            return BestVersion(version.number, rows, y_pred, threshold=threshold_of(contract))
        return BestVersion(version.number, none, np.empty(0), best_misfit(problem))
    except (SlipwayError, MlflowException, OSError, KeyError, ValueError) as error:
        return BestVersion(production.best, none, np.empty(0), reason(error))


def best_misfit(problem: gate.Problem) -> str:
    """Why the best version so far does not fit the data, in a few words: nothing needs to be done about it."""
    if problem.columns:
        return "it needs other columns than the data has"
    return "it answers another question" if problem.verdict == "refuse" else "too few rows are held out from both"


def compare_with_best(
    best: BestVersion, measures: Measures, y_pred: np.ndarray, threshold: Threshold | None = None
) -> gate.Best:
    """The gate's metric of candidate and best version; `y_pred` is the candidate's on the whole hold-out, decided by `threshold`."""
    rows, y_true = best.rows, measures.y_true
    drawn = measures.drawn(rows)
    metric = measures.decides
    both = metric.seen(y_pred[rows], threshold), metric.seen(best.y_pred, best.threshold)
    comparison = gate.compare(metric, y_true[rows], *both, **drawn)
    identical = threshold == best.threshold and gate.identical(y_pred[rows], best.y_pred)
    return gate.Best(best.version, comparison, identical)


def best_row(best: BestVersion, compared: gate.Best | None) -> BestSoFar:
    """The best version so far as the report and later stages read it."""
    values = compared.comparison.plain() if compared else {}
    figures = {key: values.get(key) for key in ("candidate", "difference", "lower", "upper")}
    return BestSoFar(
        version=best.version,
        rows=int(best.rows.sum()),
        problem=best.problem,
        best=values.get("production"),
        **figures,
    )


def best_afterwards(
    production: Production | None, best: gate.Best | None, comparison: gate.Comparison | None, rules: gate.Rules
) -> str | None:
    """The number of the best version once the candidate serves; None: it is the candidate.

    It takes more than a better estimate: of many estimates one is good by chance, and the reference would follow it down.
    """
    if production is None or comparison is None:
        return None
    if best is not None:
        return None if gate.surely_better(best.comparison, rules) else best.version
    return None if gate.surely_better(comparison, rules) else production.facts.version
