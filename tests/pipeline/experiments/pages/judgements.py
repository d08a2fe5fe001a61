"""Judgements of an experiment as they look on a page: one for each way in which it can stand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
from msgspec.structs import replace

from pipeline.experiments.judgement import Agreement, Arm, Guardrail, Judgement, LeftOut, Look
from pipeline.experiments.sample_ratio import sample_ratio
from pipeline.experiments.welch import summary, welch
from pipeline.registry.experiments import ExperimentRecord, Phase

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
CASES = (
    "no data", "no difference", "B better", "A better", "ratio mismatch", "stopped itself", "shadow", "shadow without outcomes",
    "unreachable", "ended",
)  # fmt: skip


def record(case: str, days: int = 21) -> ExperimentRecord:
    """The record of such an experiment."""
    since = START.timestamp()
    phases = [Phase(since, 0.1), Phase(since + 5 * 86400, 0.5)] if case == "no difference" else [Phase(since, 0.5)]
    ended = {"ended": 1, "unreachable": 0}.get(case, 0)
    return ExperimentRecord(
        name="greener", mode="shadow" if "shadow" in case else "ab",
        champion="7", champion_digest="a" * 64, challenger="8", challenger_digest="b" * 64,
        state="ended" if ended else "running", phases=tuple(phases), started=since,
        ended=since + days * 86400 if ended else 0, winner="B" if ended else "", reason="it is better" if ended else "",
        run_id="0" * 32,
    )  # fmt: skip


def judgement(case: str, days: int = 21) -> Judgement:
    """A judgement after so many days, of which the numbers were drawn."""
    shadow, seed = "shadow" in case, 3
    rng = np.random.default_rng(seed)
    effect = {"B better": 0.05, "A better": -0.06, "ended": 0.05, "shadow": 0.02}.get(case, 0.0)
    share, since = 0.5, record(case).phases[-1].since
    base = Judgement(
        model="breast-cancer", experiment="greener", mode="shadow" if shadow else "ab", state=record(case).state, share=share,
        champion="7", challenger="8", started=START.timestamp(), since=since, until=since + days * 86400,
        time=_day(since, days) + "T06:00:00+00:00", outcome="correct", measure="share of right answers", higher_is_better=True,
        verdict="running", words="There are no subjects with outcomes yet.", a=Arm(variant="A", version="7"), b=Arm(variant="B", version="8"),
    )  # fmt: skip
    if case == "unreachable":
        note = "production does not serve on this machine, and SLIPWAY_DATABASE_URL is not set"
        return replace(
            base, until=0.0, words="Nothing could be counted, because the prediction log is out of reach.", notes=[note]
        )
    if case == "no data":
        return replace(base, a=Arm(variant="A", version="7", subjects=3, requests=4, rows=4))
    if case == "shadow without outcomes":
        arm = Arm(variant="A", version="7", subjects=900, requests=1900, rows=1900)
        return replace(
            base, a=arm, b=replace(arm, variant="B", version="8"), agreement=Agreement(rows=1700, same=0.964, unanswered=200),
            words="No outcomes have come for rows that both models answered.",
        )  # fmt: skip
    daily, last = 140, 9 if case == "stopped itself" else days
    a = rng.binomial(1, 0.80, daily * last).astype(float)
    b = rng.binomial(1, 0.80 + effect, int(daily * last * (0.8 if case == "ratio mismatch" else 1))).astype(float)
    looks = [_look(n, since, a[: n * daily], b[: n * len(b) // last], shadow) for n in range(1, last + 1)]
    end = looks[-1]
    arms = [
        Arm(
            variant=letter, version=version, subjects=int(len(x) * 1.3), measured=len(x), requests=len(x) * 2, rows=len(x) * 2,
            outcomes=len(x), mean=float(x.mean()), deviation=float(x.std()), failures=failures, seconds_median=0.0008,
            seconds_p95=0.0021,
        )
        for letter, version, x, failures in (("A", "7", a, 0), ("B", "8", b, 3))
    ]  # fmt: skip
    words = {
        "B better": "Version 8 is better than version 7: its share of right answers is higher, and the band leaves out zero.",
        "A better": "Version 7 is better than version 8: its share of right answers is higher, and the band leaves out zero.",
        "ended": "Version 8 is better than version 7: its share of right answers is higher, and the band leaves out zero.",
        "shadow": "Version 8 is better than version 7 on the same rows.",
        "ratio mismatch": "B has 44 % of the subjects, 50 % were set: something decides who is counted.",
        "stopped itself": "The challenger had no answer to 3.1% of 480 requests, 2.0% are allowed.",
    }.get(case, "The band does not leave out zero: no difference can be told from none.")
    verdict = {"ratio mismatch": "sample ratio mismatch", "ended": "B better", "shadow": "B better",
               "no difference": "no difference so far"}.get(case, case)  # fmt: skip
    broken = case == "stopped itself"
    return replace(
        base, verdict=verdict, words=words, a=arms[0], b=arms[1], difference=end.difference, low=end.low, high=end.high,
        relative=end.difference / arms[0].mean, looks=looks, decided_day=looks[11].day if verdict in ("B better", "A better") else None,
        welch=None if shadow else welch(summary(a), summary(b)),
        ratio=None if shadow else sample_ratio(arms[0].subjects, arms[1].subjects, share),
        agreement=Agreement(rows=len(a), same=0.964, unanswered=214) if shadow else None,
        guardrails=[
            Guardrail(name="requests without an answer", unit="share", a=0.0, b=0.031 if broken else 0.001, limit=0.02, broken=broken),
            Guardrail(name="95th percentile of a request", unit="seconds", a=0.0021, b=0.0024, limit=0.0092),
            Guardrail(name="subjects with outcomes", unit="share", a=0.77, b=0.76),
        ],
        left_out=[
            LeftOut(number=812, of="requests", why="without a subject"),
            LeftOut(number=31, of="outcomes", why="after the window of 30 days"),
            LeftOut(number=4, of="subjects", why="answered by both models"),
        ],
        stop_reason=words if broken else "", stopped=since + 9 * 86400 - 3600 if broken else None,
    )  # fmt: skip


def _day(since: float, number: int) -> str:
    return (datetime.fromtimestamp(since, UTC) + timedelta(days=number - 1)).date().isoformat()


def _look(number: int, since: float, a: np.ndarray, b: np.ndarray, shadow: bool) -> Look:
    difference, error = (
        float(b.mean() - a.mean()),
        math.sqrt(a.var() / len(a) + b.var() / len(b)) * (0.4 if shadow else 1),
    )
    reach = error * math.sqrt(7.5 + 60 / number)  # about what a sequence takes
    return Look(
        day=_day(since, number), number=number, subjects_a=int(len(a) * 1.3), subjects_b=int(len(b) * 1.3),
        measured_a=len(a), measured_b=len(b), mean_a=float(a.mean()), mean_b=float(b.mean()), difference=difference,
        low=difference - reach, high=difference + reach,
    )  # fmt: skip
