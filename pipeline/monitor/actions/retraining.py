"""Whether the monitor starts a retraining: a pure decision over its findings, [retrain] of pipeline.toml, what was tried before, and what goes on.

A retraining is started for a reason, and every reason against it is told. It is no repair of everything: broken data would be learnt,
the same data give the same model, rows without outcomes teach nothing, and what two trainings did not fix, a third will not fix either.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.wording import clean
from pipeline.monitor.actions.alerts import beside_holdout
from pipeline.monitor.findings import Findings, Incident
from pipeline.registry.training_run.run_reason import LONGEST, RETRAIN
from pipeline.settings import Retrain

DAY = 86400
MONTH = 30  # days of `max_per_30_days`
ENOUGH = 2  # retrainings that did not end an incident


@dataclass(frozen=True)
class Attempt:
    """A retraining that was begun or asked for: when (seconds since 1970), and why, without "retrain: " in front."""

    when: float
    reason: str


@dataclass(frozen=True)
class World:
    """What is not in the findings. An empty text says that nothing stands against a retraining."""

    now: float  # seconds since 1970
    attempts: Sequence[Attempt] = ()
    trained: str = (
        ""  # the day on which the production version was trained; outcomes of days from then on are new to it
    )
    under_way: str = ""  # a delivery, rollback or experiment that goes on
    unapproved: str = ""  # why nobody could approve it
    same_data: str = ""  # that the data are those of production


@dataclass(frozen=True)
class Decision:
    """Whether a retraining starts, for which reason, what stands against it, and why no further one is tried, if so."""

    start: bool
    reason: str = ""
    refusals: Sequence[str] = ()
    exhausted: str = ""


def decide(found: Findings, rules: Retrain, label_delay_days: float, world: World) -> Decision:
    """Start or refuse, with all reasons."""
    incident = cause(found, rules)
    if incident is None:
        return Decision(False, refusals=[nothing(rules)])
    given_up = exhausted(found, incident, rules, world)
    refusals = [
        broken(found),
        unripe(found, incident, label_delay_days),
        few(found, rules, world),
        soon(rules, world),
        given_up,
        world.under_way,
        world.unapproved,
        world.same_data,
    ]
    against = [one for one in refusals if one]
    return Decision(not against, reason(found, incident), against, given_up)


def cause(found: Findings, rules: Retrain) -> Incident | None:
    """The open incident for which a retraining is started: of the kind that stands first in [retrain] on, the surest."""
    asked = [one for one in found.open_incidents() if one.kind in rules.on]
    return min(asked, key=lambda one: (rules.on.index(one.kind), -one.evidence), default=None)  # type: ignore[arg-type]


def reason(found: Findings, incident: Incident) -> str:
    """The reason of a training in one line: the kind, what moved, and since when; not longer than MLflow allows."""
    end, words = f", since {incident.since}", incident.words
    now = next((one for one in found.performance.metrics if one.name == found.daily_metric), None)
    if incident.kind == "performance" and now and now.holdout is not None:
        words = beside_holdout(now)
    return clean(f"{incident.kind}: {words}", LONGEST - len(RETRAIN) - len(end)) + end


def nothing(rules: Retrain) -> str:
    """Why there is nothing to decide."""
    if not rules.on:
        return "retraining by itself is off: [retrain] on in pipeline.toml is empty"
    return f"there is no open incident of {', '.join(rules.on)}"


def broken(found: Findings) -> str:
    """Broken data are fixed at the source; a model trained on them would learn the fault."""
    first = next((one for one in found.open_incidents() if one.kind == "data_broken"), None)
    return f"the data are broken since {first.since}: {first.words}; fix them first" if first else ""


def unripe(found: Findings, incident: Incident, label_delay_days: float) -> str:
    """Of the rows since the incident began, the outcomes that arrive first are not representative."""
    known = datetime.date.fromisoformat(incident.since) + datetime.timedelta(days=label_delay_days)
    if datetime.date.fromisoformat(found.last_day) >= known:
        return ""
    days = f"{label_delay_days:g} day{'' if label_delay_days == 1 else 's'}"
    return f"the outcomes are not known yet: they take {days} ([monitor] label_delay_days), those of {incident.since} until {known}"


def few(found: Findings, rules: Retrain, world: World) -> str:
    """Too few outcomes since production was trained to change a model."""
    labels = sum(day.labelled for day in found.days if day.day >= world.trained)
    if labels >= rules.min_new_labels:
        return ""
    return f"there are {labels:,} new outcomes, of at least {rules.min_new_labels:,} ([retrain] min_new_labels)"


def soon(rules: Retrain, world: World) -> str:
    """The last retraining is too recent, whoever started it: its model serves, or soon will."""
    last = max(world.attempts, key=lambda one: one.when, default=None)
    if last is None or world.now - last.when >= rules.min_days_between * DAY:
        return ""
    again = _date(last.when + rules.min_days_between * DAY)
    return f"the last retraining was on {_date(last.when)} ({clean(last.reason, 80)}), the next may be on {again} ([retrain] min_days_between)"


def exhausted(found: Findings, incident: Incident, rules: Retrain, world: World) -> str:
    """Why retraining has been tried often enough: twice for this incident, or as often as a month allows."""
    alarm = datetime.datetime.fromisoformat(_began(found, incident)).replace(tzinfo=datetime.UTC).timestamp()
    for_it = [one for one in world.attempts if one.when >= alarm and one.reason.startswith(f"{incident.kind}:")]
    if len(for_it) >= ENOUGH:
        days = " and ".join(_date(one.when) for one in sorted(for_it, key=lambda one: one.when))
        return f"retrainings on {days} did not end it, a person must look: {reason(found, incident)}"
    recent = [one for one in world.attempts if world.now - one.when < MONTH * DAY]
    if len(recent) >= rules.max_per_30_days:
        return f"{len(recent)} retrainings within {MONTH} days are as many as [retrain] max_per_30_days allows"
    return ""


def _began(found: Findings, incident: Incident) -> str:
    """The first alarm of this trouble: a retrained version that soon has the same kind of incident as the one before has not ended it."""
    first = incident
    for one in sorted(found.incidents, key=lambda one: one.alarm_day, reverse=True):
        if one.kind != incident.kind or one.version == incident.version or not one.closed_day:
            continue
        apart = datetime.date.fromisoformat(first.since) - datetime.date.fromisoformat(one.closed_day)
        if apart.days <= MONTH:
            first = one
    return first.alarm_day


def _date(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
