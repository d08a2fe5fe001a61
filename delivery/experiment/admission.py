"""Which experiment may start: what is asked for, the two versions, and whether production is at rest."""

import math
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec

from delivery import watch
from delivery.deployment import fetched, last_served
from delivery.release import CurrentRelease
from pipeline.errors import DeployError, RegistryError, SlipwayError, StageError
from pipeline.experiments.limits import guardrails
from pipeline.registry import deployments, experiments, model_version, promotion, versions
from pipeline.registry.deployment_record import BEGUN, last_unsettled
from pipeline.registry.experiments import RUNNING, ExperimentRecord, Phase
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings
from serving.experiment.experiment import NAME

MODES = ("ab", "shadow")


def share_of(text: str) -> float:
    """The share that somebody typed; raises StageError when it is none."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        says = f"SHARE is {text}" if text.strip() else "SHARE is missing"
        raise StageError(says, "it is the share of the subjects: above 0, at most 1, as in SHARE=0.1")
    return share


def refuse_words(challenger: str, mode: str, name: str) -> None:
    """Refuse what no experiment can be."""
    if not challenger:
        raise StageError("CHALLENGER is missing", "CHALLENGER=n names a version in MLflow")
    if mode not in MODES:
        raise StageError(
            f"MODE is {mode or 'missing'}", "MODE=ab: B answers its share; MODE=shadow: callers get A's answers alone"
        )
    if not re.fullmatch(NAME, name):
        raise StageError(
            f"{name!r} cannot be the name of an experiment", "NAME=greener: 1 to 40 of a-z and 0-9, and - between them"
        )


def undisturbed(client, settings: Settings) -> ModelVersion:
    """The version in production, where production is at rest and MLflow says the same; raises DeployError otherwise."""
    served = last_served(client, settings, "production")
    if served is None:
        raise DeployError("production serves nothing that a challenger could be put beside", "`make ship`")
    if isinstance(served, CurrentRelease) and served.note:
        raise DeployError(f"production is not at rest: {served.note}", "wait for it, or `make reconcile` repairs it")
    for environment in ("production", "staging"):
        last = last_unsettled(client, settings.name, environment)
        if last and last.result == BEGUN and time.time() - last.began < deployments.FORGOTTEN_SECONDS:
            raise DeployError(
                f"a release is under way: version {last.version} to {environment} ({last.action}, on {last.host})",
                "start the experiment when it has ended; `make status` shows it",
            )
    champion = versions.by_alias(client, settings.name, "production")
    if champion is None:
        raise DeployError(
            f"production serves version {served.version}, and no version has the alias production in MLflow",
            f"set it on version {served.version} there, or `make rollback VERSION={served.version}` does",
        )
    if not promotion.is_served(champion, served):
        raise DeployError(
            f"production serves version {served.version}, and MLflow's alias production is on version {champion.number}",
            "a deployment or a rollback is unfinished: `make promote` or `make reconcile` makes them agree",
        )
    return champion


def planned(
    client, settings: Settings, champion: ModelVersion, challenger: ModelVersion, share: float, mode: str, name: str
) -> ExperimentRecord:
    """The experiment, not recorded yet, if these two versions may be in one."""
    for known in experiments.records(client, settings.name):
        if not known.over:
            raise DeployError(
                f"{known.in_words()}, and one is all that production holds",
                "`make experiment` says how it stands; `make experiment-stop` ends it",
            )
        if known.name == name:
            raise StageError(
                f"there was an experiment {name}, of version {known.challenger} beside {known.champion}",
                "its subjects would be divided in the same way again: take another NAME",
            )
    if challenger.number == champion.number:
        raise StageError(
            f"version {challenger.number} is in production already", "CHALLENGER=n names another version in MLflow"
        )
    refuse_unfit(challenger)
    record = ExperimentRecord(
        name=name,
        mode=mode,
        champion=champion.number,
        champion_digest=champion.digest,
        challenger=challenger.number,
        challenger_digest=challenger.digest,
        phases=(Phase(time.time(), share),),
        guardrails=msgspec.json.encode(guardrails(settings)).decode(),
        actor=versions.actor(),
        **here(),
    )
    with fetched(client, champion, record):  # both bundles are there, sound, and answer the same question
        return record


def refuse_unfit(challenger: ModelVersion) -> None:
    """Refuse a challenger that fails a limit of the gate, or that nobody can serve; it need not be better than production."""
    if not challenger.bundle or not challenger.digest:
        raise RegistryError(
            f"version {challenger.number} was not registered by this pipeline, and has no bundle to serve",
            "`make register CHALLENGER=yes` registers the candidate that `make evaluate` has judged",
        )
    if not promotion.is_allowed(challenger) and challenger.limits != model_version.HELD:
        raise DeployError(
            f"version {challenger.number} has no accepted verdict, and nothing says that it keeps the limits of the gate",
            "`make evaluate` and `make register CHALLENGER=yes` register a candidate that keeps them, better or not",
        )


def refuse_stopped(settings: Settings, name: str, then: str) -> None:
    """Raise DeployError for an experiment that has stopped itself, and where the log cannot be read: then nothing would be counted."""
    if why := watch.experiment_stopped("production", settings, name):
        raise DeployError(f"experiment {name} has stopped itself: {why}", then)


def told_stop(settings: Settings, name: str) -> str:
    """The same in words for a person, where that can be known: "" otherwise."""
    with suppress(SlipwayError):
        if why := watch.experiment_stopped("production", settings, name):
            return f"experiment {name} has stopped itself, and production's model answers everybody: {why}"
    return ""


def notes(settings: Settings, challenger: ModelVersion) -> Iterator[str]:
    """What whoever starts should know."""
    if challenger.rolled_back is not None:
        yield f"version {challenger.number} was rolled back on {challenger.rolled_back}"
    if not challenger.is_accepted:
        yield f"the gate's verdict on version {challenger.number} is {challenger.verdict or 'unknown'}: {challenger.reason}"


def the_running(client, settings: Settings) -> ExperimentRecord:
    """The experiment that runs; raises RegistryError when none does, DeployError when another machine is at work on it."""
    record = experiments.running(client, settings.name)
    if record is None:
        served = last_served(client, settings, "production")
        if served and served.experiment:
            raise RegistryError(
                f"production carries experiment {served.experiment}, and MLflow has no record of it",
                "`make reconcile` takes the challenger away",
            )
        raise RegistryError("no experiment runs", "`make experiment-start` starts one (docs/experiments.md)")
    if record.state != RUNNING:
        raise DeployError(
            f"experiment {record.name} is {record.state}, by a command on {record.host or 'another machine'}",
            "wait for it; if it was killed, the next command after six hours, or one on that machine, finishes it",
        )
    return record


def here() -> dict:
    """Where and when a command begins to change an experiment."""
    return {"host": socket.gethostname(), "touched": time.time()}
