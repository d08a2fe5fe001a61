"""Judgements of an experiment as they look on a page: one for each way in which it can stand, judged from sums that were drawn."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from pipeline.experiments.judge import judge, plan_of
from pipeline.experiments.judgement import Judgement
from pipeline.experiments.paired import Paired
from pipeline.registry.experiments import ENDED, RUNNING, ExperimentRecord, Phase
from pipeline.settings import Settings
from serving.experiment.count.records import Arm, Day, Difference, LeftOut, Shadow, Speed, Stop, Sums

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY, DAILY = 86_400, 150  # subjects of each variant a day
NOTE = "production does not serve on this machine, and SLIPWAY_DATABASE_URL is not set: there is no prediction log to read."


@dataclass(frozen=True)
class Case:
    """How an experiment goes: for so many days, with B better by so much, as so many subjects as A."""

    days: int = 21
    effect: float = 0.0
    b: float = 1.0
    mode: str = "ab"
    outcomes: bool = True
    stop: str = ""
    ended: bool = False
    earlier: bool = False  # there was a smaller share before


CASES = {
    "no data": Case(days=0),
    "no difference": Case(earlier=True),
    "B better": Case(effect=0.07),
    "A better": Case(effect=-0.08),
    "ratio mismatch": Case(b=0.8),
    "stopped itself": Case(days=9, stop="the challenger had no answer to 3.1% of 480 requests, 2.0% are allowed"),
    "ended": Case(effect=0.07, ended=True),
    "shadow": Case(effect=0.05, mode="shadow"),
    "shadow without outcomes": Case(days=6, mode="shadow", outcomes=False),
}


def record(name: str) -> ExperimentRecord:
    """The record of such an experiment."""
    case, since = CASES[name], START.timestamp()
    phases = (Phase(since - 5 * DAY, 0.1), Phase(since, 0.5)) if case.earlier else (Phase(since, 0.5),)
    return ExperimentRecord(
        name="greener", mode=case.mode, champion="7", champion_digest="a" * 64, challenger="8", challenger_digest="b" * 64,
        state=ENDED if case.ended else RUNNING, phases=phases, started=phases[0].since, run_id="0" * 32,
        ended=since + case.days * DAY if case.ended else 0.0, winner="B" if case.ended else "", reason="B is better" * case.ended,
    )  # fmt: skip


def settings() -> Settings:
    """The settings of its model."""
    return Settings.model_validate(
        {
            "name": "breast-cancer", "data": {"task": "binary", "id": "id", "target": "sick", "positive": "yes"},
            "split": {"holdout": 0.25, "salt": "s"}, "train": {"seed": 1}, "gate": {"metric": "log_loss", "margin": 0.01},
        }
    )  # fmt: skip


def judgement(name: str) -> Judgement:
    """The judgement of such an experiment."""
    case = CASES[name]
    paired = Paired(
        metric="log_loss", higher_is_better=False, confidence=0.95, rows=3000, agreement=0.964, outcomes=2900, subjects=2700,
        a=0.4127, b=0.3911, difference=-0.0216, lower=-0.031, upper=-0.012,
    ) if case.mode == "shadow" and case.outcomes else None  # fmt: skip
    return judge(record(name), sums(name), settings(), paired)


def sums(name: str) -> Sums:
    """What the log's counter gave for it."""
    case, rng = CASES[name], np.random.default_rng(5)
    most = max(case.days, 1) * DAILY
    a = rng.binomial(1, 0.8, most).astype(float)
    b = rng.binomial(1, 0.8 + case.effect, most).astype(float)
    if case.mode == "shadow":
        b = np.where(rng.random(most) < 0.9, a, b)  # mostly alike
    now = (START + timedelta(days=case.days, hours=6)).timestamp()
    return Sums(
        plan=plan_of(record(name), settings(), window=30 * DAY),
        now=now,
        days=[_day(case, number, a, b) for number in range(1, case.days + 1)],
        left_out=LeftOut(no_subject=812, late=31, crossed=4) if case.days else LeftOut(),
        failures={"8": 15 if case.stop else 3} if case.days else {},
        speeds={"A": Speed(median=0.0008, p95=0.0021), "B": Speed(median=0.0009, p95=0.0024)} if case.days else {},
        shadow=Shadow(rows=5000, same=4820, unanswered=214) if case.mode == "shadow" else None,
        stop=Stop(now - DAY, case.stop) if case.stop else None,
    )


def _day(case: Case, number: int, a: np.ndarray, b: np.ndarray) -> Day:
    many = number * DAILY
    day = (START + timedelta(days=number - 1)).date().isoformat()
    first, second = a[:many], b[: int(many * case.b)]
    found = Day(day=day, number=number, a=_arm(case, first), b=_arm(case, second))
    if case.mode == "shadow" and case.outcomes:
        measured, mean, squares = _moments(second - first)
        found.difference = Difference(measured=measured, mean=mean, squares=squares)
    return found


def _arm(case: Case, values: np.ndarray) -> Arm:
    subjects = int(len(values) * 1.3)
    if not case.outcomes:
        return Arm(subjects=subjects, requests=2 * subjects, rows=2 * subjects)
    measured, mean, squares = _moments(values)
    return Arm(
        subjects=subjects, requests=2 * subjects, rows=2 * subjects, outcomes=measured, measured=measured, mean=mean, squares=squares
    )  # fmt: skip


def _moments(values: np.ndarray) -> tuple[int, float, float]:
    return len(values), float(values.mean()), float(((values - values.mean()) ** 2).sum())


def jsonable(judged: Judgement) -> Judgement:
    """The same after it was written and read."""
    return msgspec.json.decode(msgspec.json.encode(judged), type=Judgement)
