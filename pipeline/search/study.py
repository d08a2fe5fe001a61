"""A search for parameters of build(): trials, each cross-validated on the training side, of which the best is the candidate.

Trials are proposed in batches of a constant size, and a batch is judged whole before the next is proposed. So the outcome does not
depend on how many fits run at once, nor on which ends first; and a search that was killed proposes the same again, and takes from its
journal what it had finished. Only the time limit may change what is found.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pipeline import artifacts
from pipeline.data.dataset import Dataset
from pipeline.errors import ProjectError, StageError, in_project
from pipeline.evaluation.record import Search, SearchTrial
from pipeline.evaluation.wording import in_words, number, places
from pipeline.search import builders, fold, journal, progress, scoring, space, workers
from pipeline.search.scoring import Fit, Score
from pipeline.settings import Settings

NAME = "search.json"
BATCH = {"grid": 64, "random": 64, "optimise": 4}  # trials proposed at once; the optimiser learns between batches
SHOWN = 10  # trials in the report
HOPELESS = 10  # trials without a score, and none with one: the others would fail as well


def find(dataset: Dataset) -> Search | None:
    """Search as [search] of pipeline.toml says, and write build/search.json; None where it is off.

    Raises SettingsError for a parameter that build() does not take, ProjectError where no trial could be scored.
    """
    (artifacts.BUILD / NAME).unlink(missing_ok=True)  # an older search must not speak for this candidate
    settings = dataset.settings
    if settings.search.method == "off":
        if settings.search.space:
            print('[search.space] is not used: [search] method = "off" takes [train.parameters] as they are')
        return None
    with in_project("importing project/model.py"):
        from project.model import build

    space.check(build, settings.train, settings.search)
    folds = fold.of_training_side(dataset, settings.search.folds)
    metric = scoring.deciding(folds.side)
    trials = list(tried(folds, journal.Journal(journal.key(dataset)), metric.higher_is_better))
    search = outcome(settings, trials, metric.higher_is_better)
    artifacts.write_json(artifacts.BUILD / NAME, msgspec.to_builtins(search))
    print(in_a_line(search))
    for name in space.at_ends(settings.search.space, search.parameters):
        print(
            f"search: {name} = {search.parameters[name]} is at an end of its range in [search.space]: a wider one may hold a better value"
        )
    return search


def of_run(run: Mapping[str, Any]) -> Search | None:
    """The search that found the parameters of a run of build/run.json, or None where there was none.

    Raises StageError where build/search.json is missing, damaged or of another run.
    """
    if run.get("search", "off") == "off":  # older runs do not say
        return None
    search = artifacts.read_as(artifacts.BUILD / NAME, Search)
    if search.parameters != run["parameters"]:
        raise StageError("build/search.json is not of build/run.json", "run `make train`")
    return search


def best_of(search: Search, most: int = SHOWN) -> Search:
    """The search with its best trials alone, the winner first."""
    sign = -1 if search.higher_is_better else 1
    ranked = sorted(search.trials, key=lambda one: (one.mean is None, sign * (one.mean or 0.0), one.number))
    return msgspec.structs.replace(search, trials=ranked[:most])


def tried(folds: fold.Folds, kept: journal.Journal, higher_is_better: bool) -> Iterator[SearchTrial]:
    """Every trial that is finished before the time limit, in the order of their numbers; from 1 on they are proposed."""
    settings, asks = folds.side.settings, folds.side.settings.search
    left, number, scored, failed = proposed(settings), 0, 0, 0
    if kept.found:
        print(f"search: {len(kept.found)} trials that an earlier run finished are taken over")
    proposals = space.Proposals(asks, settings.train.seed, higher_is_better)
    seconds = 60 * asks.minutes
    with workers.workers(folds, asks.parallel) as at_work, progress.shown("search", planned(settings), seconds) as bar:
        best = Best(settings.gate.metric, higher_is_better)
        judge = Judge(
            settings, len(folds), kept, at_work, time.monotonic() + seconds, lambda one: bar.step(best.with_(one))
        )
        batch = as_they_stand(settings)
        while left:
            asked = dict(enumerate(proposals.ask(min(left, BATCH[asks.method])), number + 1))
            number, left = number + len(asked), left - len(asked)
            found = judge.scores({**batch, **asked})
            proposals.tell([found[each].mean if each in found else None for each in asked])
            yield from (found[each] for each in sorted(found))
            if len(found) < len(batch) + len(asked):
                return
            failed += sum(one.mean is None for one in found.values())
            scored += sum(one.mean is not None for one in found.values())
            if not scored and failed >= HOPELESS:
                return
            batch = {}


def as_they_stand(settings: Settings) -> dict[int, dict[str, Any]]:
    """Trial 0, the searched parameters as [train.parameters] has them, where it has them all: what is found stands beside it."""
    names, given = settings.search.space, settings.train.parameters
    return {0: {name: given[name] for name in names}} if names.keys() <= given.keys() else {}


def proposed(settings: Settings) -> int:
    """How many trials are proposed from the space."""
    return settings.search.grid_points() if settings.search.method == "grid" else settings.search.trials


def planned(settings: Settings) -> int:
    """How many trials there are, with trial 0."""
    return proposed(settings) + len(as_they_stand(settings))


@dataclass
class Best:
    """The best trial so far, in words."""

    metric: str
    higher_is_better: bool
    trial: SearchTrial | None = None

    def with_(self, one: SearchTrial) -> str:
        """The best so far, now that there is one more."""
        if one.mean is not None and (self.trial is None or better(one, self.trial, self.higher_is_better)):
            self.trial = one
        return (
            f"best {in_words(self.metric)} {number(self.trial.mean)} (trial {self.trial.number})" if self.trial else ""
        )


def better(one: SearchTrial, other: SearchTrial, higher_is_better: bool) -> bool:
    """Whether a trial beats another; where both score alike, that of the lower number."""
    assert one.mean is not None and other.mean is not None
    if one.mean == other.mean:
        return one.number < other.number
    return (one.mean > other.mean) == higher_is_better


@dataclass(frozen=True)
class Judge:
    """Scores trials: from the journal where they are finished already, else by fits. `tell` is told each that is finished."""

    settings: Settings
    folds: int
    kept: journal.Journal
    at_work: workers.Workers
    deadline: float
    tell: Callable[[SearchTrial], None]

    def scores(self, batch: Mapping[int, dict[str, Any]]) -> dict[int, SearchTrial]:
        """The trials by number, without those for which the time did not suffice. Equal parameters are fitted once."""
        found: dict[int, SearchTrial] = {}
        waiting: dict[str, list[int]] = {}
        for each, parameters in batch.items():
            if known := self.kept.get(parameters):
                found[each] = msgspec.structs.replace(known, number=each)
                self.tell(found[each])
            else:
                waiting.setdefault(_text(self._whole(parameters)), []).append(each)
        fits = [
            Fit(builders.BUILD, self._whole(batch[numbers[0]]), place)
            for numbers in waiting.values()
            for place in range(self.folds)
        ]
        given: dict[str, dict[int, Score]] = {}
        for fit, score in self.at_work.run(fits, self.deadline):
            text = _text(fit.parameters)
            scores = given.setdefault(text, {})
            scores[fit.fold] = score
            for each in waiting[text] if score.value is None or len(scores) == self.folds else ():
                if each not in found:
                    found[each] = made(each, batch[each], scores)
                    self.tell(found[each])
                    if (
                        found[each].mean is not None
                    ):  # what failed may have failed for want of memory: it is tried again
                        self.kept.add(found[each])
        return found

    def _whole(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return self.settings.train.parameters | parameters


def _text(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True, default=str)


def made(number: int, parameters: dict[str, Any], scores: Mapping[int, Score]) -> SearchTrial:
    """A trial of its scores, by fold; the first reason counts where one failed."""
    seconds = round(sum(one.fit_seconds for one in scores.values()), 3)
    if reasons := [scores[place].reason for place in sorted(scores) if scores[place].value is None]:
        return SearchTrial(number=number, parameters=parameters, reason=reasons[0], seconds=seconds)
    values = [float(scores[place].value or 0.0) for place in sorted(scores)]
    return SearchTrial(
        number=number,
        parameters=parameters,
        scores=values,
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values),
        seconds=seconds,
    )


def outcome(settings: Settings, trials: list[SearchTrial], higher_is_better: bool) -> Search:
    """The search, with its different trials; raises ProjectError with the first reason where none has a score."""
    distinct = list({_text(one.parameters): one for one in reversed(trials)}.values())[::-1]
    asks, scored = settings.search, [one for one in distinct if one.mean is not None]
    if not scored:
        why = (
            f"the first trial failed: {trials[0].reason}"
            if trials
            else "the time limit came before the first trial was finished"
        )
        then = (
            "correct build() in project/model.py or [search.space]"
            if trials
            else "raise [search] minutes in pipeline.toml"
        )
        raise ProjectError(f"the search found no parameters: {why}", then)
    winner = scored[0]
    for one in scored[1:]:
        winner = one if better(one, winner, higher_is_better) else winner
    return Search(
        method=asks.method,
        metric=settings.gate.metric,
        higher_is_better=higher_is_better,
        folds=asks.folds,
        planned=planned(settings),
        finished=len(trials),
        failed=sum(one.mean is None for one in distinct),
        winner=winner.number,
        parameters=settings.train.parameters | winner.parameters,
        trials=distinct,
    )


def in_a_line(search: Search) -> str:
    """What was found, for the terminal."""
    best = next(one for one in search.trials if one.number == search.winner)
    digits = places(best.mean, figures=4)
    named = ", ".join(f"{name} = {value}" for name, value in best.parameters.items())
    cut = "" if search.finished == search.planned else f", then the time limit came: {search.planned} were planned"
    return (
        f"search: {search.finished} trials of {search.folds} folds{cut}; trial {search.winner} is best: {named}, "
        f"{in_words(search.metric)} {number(best.mean, digits)} ± {number(best.deviation, digits)}"
    )
