"""Starting and ending an experiment: a challenger beside the version in production, through staging as every release.

What production serves decides. A command that is killed, or fails, leaves a record that says `starting` or `stopping`; the next command
compares it with what serves, and finishes or undoes it (`deployment.settle`).
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from delivery import targets
from delivery.deployment import EXPERIMENT, WAIT_SECONDS, deploy, last_served, settle
from delivery.experiment.admission import (
    here,
    notes,
    planned,
    refuse_stopped,
    refuse_words,
    the_running,
    told_stop,
    undisturbed,
)
from delivery.reconciliation import prove, wish_kept
from pipeline import processes
from pipeline.errors import SlipwayError, StageError, reason
from pipeline.registry import deployments, experiments, model_version, promotion, versions
from pipeline.registry.experiments import ENDED, RUNNING, STARTING, STOPPING, ExperimentRecord, Phase
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

STOP = "experiment-stop"  # `action` of the deployment that takes the challenger away
B = "B"


def start(client, settings: Settings, challenger: str, share: float, mode: str, name: str) -> ExperimentRecord:
    """Have a share of production answered by a challenger, or by both models in the shadow; the experiment as it runs.

    Everything is checked before anything is changed; raises DeployError, RegistryError or StageError. When staging or production refuses
    the release, what served before serves on, and the experiment has ended.
    """
    refuse_words(challenger, mode, name)
    with processes.lock("delivery", f"start of experiment {name}", WAIT_SECONDS):
        for environment in targets.ENVIRONMENTS:
            settle(client, settings, environment)
        champion = undisturbed(client, settings)
        other = versions.by_number(client, settings.name, challenger)
        record = planned(client, settings, champion, other, share, mode, name)
        refuse_stopped(settings, name, "the prediction log keeps that for ever: take another NAME")
        for note in notes(settings, other):
            print(f"note: {note}", flush=True)
        record = experiments.begin(client, settings.name, record)
        with undone(client, settings, champion):
            with wish_kept(client, settings):
                prove(client, settings, champion, EXPERIMENT)
            deploy(client, settings, "production", champion, EXPERIMENT, why=f"starts experiment {name}")
            return serves_now(client, settings, record)


def change_share(client, settings: Settings, share: float) -> ExperimentRecord:
    """Raise the share of the running experiment; a new phase begins, from which on is counted. Raises as `start` does."""
    with processes.lock("delivery", "change of an experiment's share", WAIT_SECONDS):
        settle(client, settings, "production")
        record = the_running(client, settings)
        if share <= record.share:
            raise StageError(
                f"the share of experiment {record.name} is {record.share:g}, and {share:g} is not more",
                "a smaller share would move subjects from B back to A, who have met both models and count for neither: "
                "`make experiment-stop`, and start a new one with another NAME",
            )
        refuse_stopped(settings, record.name, "`make experiment-stop` ends it: version A answers everybody already")
        champion = versions.by_number(client, settings.name, record.champion)
        phases = (*record.phases, Phase(time.time(), share))
        record = experiments.change(client, record, state=STARTING, phases=phases, image=None, **here())
        with undone(client, settings, champion):
            with wish_kept(client, settings):
                prove(client, settings, champion, EXPERIMENT)
            deploy(client, settings, "production", champion, EXPERIMENT, why=f"share {share:g} of {record.name}")
            return serves_now(client, settings, record)


def stop(client, settings: Settings, winner: str = "", reason: str = "") -> ExperimentRecord:
    """End the running experiment: the champion answers everybody again, or with winner "B" the challenger goes to production.

    Without B the champion's own image comes back at once. With B the challenger goes through staging and its tests, and takes over as
    every release does; its tag `forced` says that it won, where the gate had not accepted it. Raises as `start` does; the experiment then
    runs on, if production still serves it.
    """
    if winner not in ("", "A", B):
        raise StageError(f"{winner} is no winner", "WINNER=A or WINNER=B, or neither")
    with processes.lock("delivery", "end of an experiment", WAIT_SECONDS):
        settle(client, settings, "production")
        record = the_running(client, settings)
        if winner == B:
            return promote_challenger(client, settings, record, reason)
        champion = versions.by_number(client, settings.name, record.champion)
        why = reason or (f"version {champion.number} won" if winner else "ended by a person")
        with ending(client, settings, record, winner, why):
            deploy(client, settings, "production", champion, STOP, why=f"ends experiment {record.name}: {why}")
    return replace(record, state=ENDED, winner=winner, reason=why)


def promote_challenger(client, settings: Settings, record: ExperimentRecord, reason: str) -> ExperimentRecord:
    """End an experiment by putting its challenger into production, by way of staging."""
    challenger = experiments.challenger(client, settings.name, record)
    if told := told_stop(settings, record.name):
        print(f"note: {told}", flush=True)
    why = reason or f"version {challenger.number} won"
    with ending(client, settings, record, B, why):
        if not promotion.is_allowed(challenger):
            model_version.set_tags(client, settings.name, challenger.number, forced=record.victory)
        with wish_kept(client, settings):
            prove(client, settings, challenger, EXPERIMENT)
        deploy(client, settings, "production", challenger, EXPERIMENT, moves=True, why=record.victory)
    return replace(record, state=ENDED, winner=B, reason=why)


def serves_now(client, settings: Settings, record: ExperimentRecord) -> ExperimentRecord:
    """Record that production serves it, from now on with this share."""
    now = time.time()
    phases = (*record.phases[:-1], Phase(now, record.share))
    changed = {"state": RUNNING, "phases": phases, "started": record.started or now}
    with deployments.afterwards(f"production serves experiment {record.name}, but that could not be recorded"):
        return experiments.change(client, record, **changed)
    return replace(record, **changed)


@contextmanager
def undone(client, settings: Settings, champion: ModelVersion) -> Iterator[None]:
    """When what is done here fails, the record says so, and staging no longer carries what did not come to production."""
    try:
        yield
    except BaseException as error:
        with deployments.afterwards("the experiment's record could not be brought up to date"):
            experiments.settle(client, settings.name, serving(client, settings), ours=True, why=reason(error))
            plain_staging(client, settings, champion)
        raise


@contextmanager
def ending(client, settings: Settings, record: ExperimentRecord, winner: str, why: str) -> Iterator[None]:
    """End an experiment by the deployment that is made here; it runs on when that fails and production still serves it."""
    record = experiments.change(client, record, state=STOPPING, winner=winner, reason=why, **here())
    try:
        yield
    except BaseException:
        with deployments.afterwards("the experiment's record could not be brought up to date"):
            experiments.settle(client, settings.name, serving(client, settings), ours=True)
        raise
    with deployments.afterwards(f"experiment {record.name} has ended, but that could not be recorded"):
        experiments.end(client, settings.name, record)
        if winner != B:
            plain_staging(client, settings, versions.by_number(client, settings.name, record.champion))


@contextmanager
def ended_by_rollback(client, settings: Settings, environment: str, version: ModelVersion) -> Iterator[None]:
    """A rollback of production, which ends the experiment that runs, whatever its state."""
    record = experiments.running(client, settings.name) if environment == "production" else None
    if record is None:
        yield
        return
    why = f"production was rolled back to version {version.number}"
    with ending(client, settings, record, "", why):
        yield
    print(f"experiment {record.name} has ended: {why}", flush=True)


def serving(client, settings: Settings):
    """What production serves, asked when it is needed."""
    return lambda: last_served(client, settings, "production")


def plain_staging(client, settings: Settings, champion: ModelVersion) -> None:
    """Have staging serve the champion alone, where it carries an experiment that production does not; a failure is only told."""
    try:
        served = targets.serving("staging", settings)
        if served and served.experiment and served.version == champion.number:
            deploy(client, settings, "staging", champion, STOP)
    except SlipwayError as error:
        print(f"note: staging still carries the experiment: {error.what}", file=sys.stderr, flush=True)
