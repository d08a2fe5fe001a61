"""What an experiment's callers were told, compared with the share, with the log and with what was done meanwhile."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.registry.experiments import ExperimentRecord
from serving.experiment.experiment import A, B, position
from serving.log.identity import identity

SETTLE = 2.0  # seconds after a command in which what served before it may still answer over a connection that it had
LOSES = 1.0  # seconds before a kill whose answers may be missing in the log: it is written every 0.15 s, later on a busy machine
DEVIATIONS = 4.0  # of a share from what it should be, in standard errors


class Answer(NamedTuple):
    """What a caller was told; times in seconds since 1970. Outside of the experiment, variant and experiment are ""."""

    asked: float
    at: float
    subject: str | None
    version: str
    experiment: str
    variant: str
    said: str  # the prediction


class Trouble(NamedTuple):
    """A request that was not answered: `how` is the status, or "cut" where the connection was refused or ended."""

    request_id: str
    asked: float
    at: float
    how: str


class Event(NamedTuple):
    """A command that was run meanwhile, and the share after it."""

    began: float
    ended: float
    command: str
    kills: bool
    share: float


class Logged(NamedTuple):
    """A request in the log."""

    version: str
    experiment: str
    variant: str
    role: str
    subject: str | None
    said: str


@dataclass
class Seen:
    """What the callers saw; `share` is that at the beginning."""

    share: float
    began: float = 0.0
    turn: float = 0.0  # when the last request was due
    made: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)  # by request id
    troubles: list[Trouble] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class Window(NamedTuple):
    """The time between two commands: how many subjects asked, and for how many of them B answered."""

    label: str
    subjects: int
    b: int
    share: float

    @property
    def spread(self) -> float:
        """The standard error of the share."""
        return (self.share * (1 - self.share) / max(self.subjects, 1)) ** 0.5

    @property
    def holds(self) -> bool:
        """Whether the share is where chance leaves it."""
        return abs(self.b / max(self.subjects, 1) - self.share) <= DEVIATIONS * self.spread


@dataclass(frozen=True)
class Found:
    """What came of it. `wrong` counts what must not be, and the rest what a kill or a change may do."""

    windows: list[Window]
    wrong: dict[str, int]
    lost: dict[
        str, list[float]
    ]  # by command that kills: when an answer was given that it took from the log, seconds after it began
    both: int  # subjects whom A answered after B had, while one release replaced the other

    @property
    def faults(self) -> list[str]:
        """What must not be, in words."""
        return [f"{count} {what}" for what, count in self.wrong.items() if count]


def compare(seen: Seen, record: ExperimentRecord, logged: dict[str, list[Logged]]) -> Found:
    """Compare the answers with the share that was in force, and with the log, which has a list of rows for each request id."""
    answers, shares = seen.answers, Shares(seen)
    serves = {A: record.champion, B: record.challenger, "": record.champion}
    kills = [event for event in seen.events if event.kills]
    missing = [answer for one, answer in answers.items() if one not in logged]
    lost = _lost(missing, kills)
    cut = {trouble.request_id for trouble in seen.troubles}
    windows = _windows(seen)
    wrong = {
        "answers by another version than their variant's": sum(one.version != serves[one.variant] for one in answers.values()),
        "answers by the wrong variant": sum(_misled(one, shares.during(one), record.name) for one in answers.values()),
        "answers under another name": sum(one.experiment != (record.name if one.subject else "") for one in answers.values()),
        "subjects that met both variants with one share": _inconstant(answers.values(), shares),
        "shares outside of their interval": sum(not window.holds for window in windows),
        "requests without an answer, and nothing was killed": sum(
            not any(one.asked <= event.ended + SETTLE and one.at >= event.began for event in kills) for one in seen.troubles
        ),
        "rows in the log that differ from the answer": sum(
            row != _row(answer) for one, answer in answers.items() for row in logged.get(one, [])
        ),
        "requests that are in the log twice": sum(len(rows) > 1 for rows in logged.values()),
        "rows in the log that nobody asked for": sum(one not in answers and one not in cut for one in logged),
        "answers that are not in the log, and nothing was killed": len(missing) - sum(map(len, lost.values())),
    }  # fmt: skip
    return Found(windows, wrong, lost, _moved_back(answers.values()))


class Shares:
    """Which share was in force when: from the command that set it until SETTLE after the one that replaced it."""

    def __init__(self, seen: Seen):
        self._periods = [(-math.inf, math.inf, seen.share)]
        for event in seen.events:
            start, _, share = self._periods[-1]
            if event.share != share:
                self._periods[-1] = (start, event.ended + SETTLE, share)
                self._periods.append((event.began, math.inf, event.share))

    def during(self, answer: Answer) -> list[float]:
        """The shares that may have decided an answer; more than one while they changed."""
        return [share for start, end, share in self._periods if start <= answer.at and answer.asked <= end]


def _misled(answer: Answer, shares: list[float], name: str) -> bool:
    if answer.subject is None:
        return answer.variant != ""
    place = position(name, identity(answer.subject))
    return answer.variant not in {B if place < share else A for share in shares}


def _lost(missing: list[Answer], kills: list[Event]) -> dict[str, list[float]]:
    """The answers missing in the log that one of the kills explains, by its command: when they were given, in seconds after it began."""
    lost: dict[str, list[float]] = defaultdict(list)
    for answer in missing:
        for kill in kills:
            if kill.began - LOSES <= answer.at <= kill.ended + SETTLE:
                lost[kill.command].append(answer.at - kill.began)
                break
    return lost


def _row(answer: Answer) -> Logged:
    subject = identity(answer.subject) if answer.subject else None
    return Logged(answer.version, answer.experiment, answer.variant, "served", subject, answer.said)


def _inconstant(answers, shares: Shares) -> int:
    """Subjects that more than one variant answered while one share was in force, by the answers alone."""
    met: dict[tuple[str, float], set[str]] = defaultdict(set)
    for answer in answers:
        if answer.subject and len(in_force := shares.during(answer)) == 1:
            met[answer.subject, in_force[0]].add(answer.variant)
    return sum(len(variants) > 1 for variants in met.values())


def _moved_back(answers) -> int:
    first_b: dict[str, float] = {}
    last_a: dict[str, float] = {}
    for answer in answers:
        if answer.subject and answer.variant == B:
            first_b[answer.subject] = min(answer.at, first_b.get(answer.subject, math.inf))
        elif answer.subject:
            last_a[answer.subject] = max(answer.asked, last_a.get(answer.subject, 0.0))
    return sum(at < last_a.get(subject, 0.0) for subject, at in first_b.items())


def _windows(seen: Seen) -> list[Window]:
    """What was answered between two commands, each asked and answered within."""
    starts = [(0.0, "from the start", seen.share)]
    starts += [(event.ended + SETTLE, f"after {event.command}", event.share) for event in seen.events]
    ends = [*(event.began for event in seen.events), math.inf]
    windows = []
    for (start, label, share), end in zip(starts, ends, strict=True):
        subjects = {
            one.subject: one.variant
            for one in seen.answers.values()
            if one.subject and start <= one.asked and one.at < end
        }
        windows.append(Window(label, len(subjects), sum(variant == B for variant in subjects.values()), share))
    return windows


def quiet(seen: Seen) -> list[Answer]:
    """The answers that no command disturbed."""
    busy = [(event.began, event.ended + SETTLE) for event in seen.events]
    return [one for one in seen.answers.values() if not any(one.at >= start and one.asked <= end for start, end in busy)]  # fmt: skip
