"""Models side by side, cross-validated on the same folds of the training side: what `make try-models` finds. The hold-out has no part in it."""

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from pipeline.ci import lineage
from pipeline.data.dataset import Dataset
from pipeline.errors import ProjectError
from pipeline.evaluation.record import Compared
from pipeline.evaluation.wording import in_words, number
from pipeline.search import builders, fold, progress, scoring, workers
from pipeline.search.fold import Folds
from pipeline.search.scoring import Fit, Score

NAME = "models.json"
CONFIDENCE = 0.95  # of an interval, two-sided


class Model(Compared, frozen=True, kw_only=True):
    """One model: `candidate` is its mean over the folds, `production` that of build(), `difference` the first minus the second.

    `lower` and `upper` bound the difference. Without scores, `reason` says why.
    """

    name: str
    scores: list[float] = field(default_factory=list)
    deviation: float | None = None
    reason: str = ""
    fit_seconds: float | None = None  # of one fold
    row_microseconds: float | None = None  # of the answer to a row, among all that are judged


class Models(Struct, frozen=True, kw_only=True):
    """A comparison: which data, metric and folds, and the models, best first."""

    name: str
    commit: str
    data_hash: str
    metric: str
    higher_is_better: bool
    folds: int
    rows: int  # of the training side
    parameters: dict[str, Any]
    models: list[Model]

    def best(self) -> Model:
        """The model with the best mean."""
        return self.models[0]


def compare(dataset: Dataset) -> Models:
    """Judge build() and the models beside it; raises ProjectError where build() itself fails."""
    settings = dataset.settings
    folds = fold.of_training_side(dataset, settings.search.folds)
    metric = scoring.deciding(folds.side)
    names = list(builders.known(dataset))
    fits = [Fit(name, settings.train.parameters, place) for name in names for place in range(len(folds))]
    scores: dict[str, dict[int, Score]] = {name: {} for name in names}
    seconds = 60 * settings.search.minutes
    with (
        workers.workers(folds, settings.search.parallel) as at_work,
        progress.shown("models", len(fits), seconds) as bar,
    ):
        for fit, score in at_work.run(fits, time.monotonic() + seconds):
            scores[fit.builder][fit.fold] = score
            bar.step(f"{fit.builder} {number(score.value)}" if score.value is not None else f"{fit.builder} failed")
    ours = scores[builders.BUILD]
    if why := _missing(ours, len(folds)):
        raise ProjectError(
            f"build() has no score to compare with: {why}", "correct project/model.py, or raise [search] minutes"
        )
    made = [model(name, scores[name], ours, folds) for name in names]
    sign = -1 if metric.higher_is_better else 1
    return Models(
        name=settings.name,
        commit=lineage.commit()[0],
        data_hash=dataset.hash,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        folds=len(folds),
        rows=int((~dataset.holdout).sum()),
        parameters=settings.train.parameters,
        models=sorted(made, key=lambda one: (one.candidate is None, sign * (one.candidate or 0.0))),
    )


def model(name: str, scores: Mapping[int, Score], ours: Mapping[int, Score], folds: Folds) -> Model:
    """A model by its scores, beside those of build() on the same folds."""
    if why := _missing(scores, len(folds)):
        return Model(name=name, reason=why)
    values, theirs = ([_value(given[place]) for place in range(len(folds))] for given in (scores, ours))
    judged = sum(len(judge) for _, judge in folds.places)
    answering = sum(one.answer_seconds for one in scores.values())
    lower, upper = bounds([a - b for a, b in zip(values, theirs, strict=True)], folds)
    itself = name == builders.BUILD
    return Model(
        name=name,
        scores=values,
        candidate=statistics.fmean(values),
        production=statistics.fmean(theirs),
        deviation=statistics.stdev(values),
        difference=None if itself else statistics.fmean(values) - statistics.fmean(theirs),
        lower=None if itself else lower,
        upper=None if itself else upper,
        fit_seconds=round(statistics.fmean(one.fit_seconds for one in scores.values()), 4),
        row_microseconds=round(1e6 * answering / judged, 2),
    )


def bounds(differences: list[float], folds: Folds) -> tuple[float, float]:
    """An approximate 95 % interval of the mean of paired differences over folds.

    Student's t with the variance of Nadeau and Bengio (Inference for the Generalization Error, Machine Learning 52, 2003, section 3):
    the models of two folds learned from much the same rows, so the scores vary less than on new data; rows judged over rows fitted
    makes up for it.
    """
    from scipy.stats import t

    count = len(differences)
    share = statistics.fmean(len(judge) / len(fit) for fit, judge in folds.places)
    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * math.sqrt(
        (1 / count + share) * statistics.variance(differences)
    )
    mean = statistics.fmean(differences)
    return mean - half, mean + half


def _value(score: Score) -> float:
    assert score.value is not None
    return score.value


def _missing(scores: Mapping[int, Score], count: int) -> str:
    """Why a model has no score on each fold; "" where it has."""
    reasons = [scores[place].reason for place in sorted(scores) if scores[place].value is None]
    if reasons:
        return reasons[0]
    return "" if len(scores) == count else "the time limit came first"


def headline(found: Models) -> str:
    """What was found, in a sentence."""
    best, metric = found.best(), in_words(found.metric)
    if best.name == builders.BUILD:
        return f"build() has the best {metric}: {number(best.candidate)}."
    zero_outside = best.lower is not None and best.upper is not None and (best.lower > 0 or best.upper < 0)
    sure = "" if zero_outside else ", which may be by chance"
    return f"{best.name} has the best {metric}: {number(best.candidate)}, build() {number(best.production)}{sure}."
