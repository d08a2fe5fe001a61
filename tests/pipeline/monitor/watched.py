"""Findings with days, columns, distributions and outcomes, for tests of the pages that show them."""

import math
from datetime import date, timedelta
from typing import Any

from pipeline.monitor.findings import (
    ColumnRow,
    DayRow,
    Distribution,
    Estimate,
    Findings,
    Limit,
    Measured,
    OutcomeCounts,
    Performance,
    Released,
    SliceRow,
    TTest,
    WatchedVersion,
)
from tests.pipeline.monitor.found import findings, incident, performance

FIRST = date(2026, 11, 1)
NAMES = ("mean_area", "mean_texture", "worst_radius", "hospital", "mean_compactness", "benign")


def day(number: int) -> str:
    """A day by its number."""
    return (FIRST + timedelta(days=number)).isoformat()


def evidence(column: int, number: int) -> float:
    """Evidence that grows in the first column from day 18 on, and comes and goes in the others."""
    wave = 0.12 + 0.1 * math.sin(number * (column + 2) / 5 + column)
    return max(0.0, wave + (0.22 * (number - 18) if column == 0 and number > 18 else 0))


def days(count: int = 30, names: tuple[str, ...] = NAMES, outcomes: bool = True) -> list[DayRow]:
    """Rows, evidence and performance of each day; version 4 answers from day 20 on."""
    return [
        DayRow(
            day=day(number),
            version="4" if number >= 20 else "3",
            rows=900 + 37 * (number % 7) * (-1) ** number,
            evidence={name: evidence(column, number) for column, name in enumerate(names)},
            missing={names[-1]: 0.01 + (0.09 if number > 22 else 0), names[0]: 0.002},
            refused=int(number % 9 == 4) * 12,
            labelled=int(outcomes) * max(0, min(700, 60 * (count - number) - 50)),
            measured=0.91 - 0.004 * max(0, number - 12) if outcomes and number < count - 1 else None,
            estimated=0.905 - 0.001 * (number % 5),
        )
        for number in range(count)
    ]


def columns(names: tuple[str, ...] = NAMES) -> list[ColumnRow]:
    """What is known of each column; the last is the prediction."""
    return [
        ColumnRow(
            name=name, kind="prediction" if name == "benign" else "feature", version="4", rows=6300,
            evidence=evidence(number, 29), alarm=number == 0, missing_before=0.01, missing_now=0.01 * (number + 1),
            outside=0.001, unseen=0.02 if name == "hospital" else None, mean_before=654.9, mean_now=711.2, ks=0.21 / (number + 1),
            psi=0.3 / (number + 1), chi2=12.5, wasserstein=0.4 / (number + 1), p_value=0.0004 * number,
            p_adjusted=0.003 * number, drifted=number < 2,
        )
        for number, name in enumerate(names)
    ]  # fmt: skip


def numbers(name: str, shift: float = 0.3, scale: float = 100.0) -> Distribution:
    """A bell in a hundred bins, moved by `shift` deviations."""
    edges = [scale * (4 + value / 24) for value in range(-49, 50)]

    def shares(moved: float) -> list[float]:
        below = [0.5 * (1 + math.erf((value / 24 - moved) / math.sqrt(2))) for value in range(-49, 50)]
        return [b - a for a, b in zip([0.0, *below], [*below, 1.0], strict=True)]

    return Distribution(name=name, edges=edges, before=shares(0), now=shares(shift))


def watched(**given: Any) -> Findings:
    """All that a monitor may find, in one."""
    made: dict[str, Any] = {
        "versions": [
            WatchedVersion(version="3", first_day=day(0), last_day=day(19), rows=18000, judged=True),
            WatchedVersion(version="4", first_day=day(20), last_day=day(29), rows=9000, judged=True),
            WatchedVersion(version="2", first_day=day(0), last_day=day(0), rows=12, judged=False, why_not="its bundle is gone"),
        ],
        "columns": columns(),
        "performance": Performance(
            metrics=[
                Measured(name="accuracy", value=0.843, low=0.821, high=0.863, holdout=0.912, rows=4000, higher_is_better=True),
                Measured(name="log_loss", value=0.41, low=0.37, high=0.45, holdout=0.24, rows=4000, higher_is_better=False),
            ],
            coverage=0.64,
            delay_seconds={"0.5": 93600.0, "0.9": 345600.0},
            limits=[Limit(metric="accuracy", limit=0.8, value=0.843, rows=4000, broken=False)],
            slices=[SliceRow(slice="hospital=north", rows=900, wrong=0.24, loss=0.6), SliceRow(slice="hospital=south", rows=3100, wrong=0.12, loss=0.3)],
            t_test=TTest(rows=1000, mean_before=0.24, mean_now=0.41, t=4.2, p_value=0.00003, drifted=True),
        ),
        "estimated": [Estimate(name="accuracy", value=0.902, rows=6300)],
        "outcomes": OutcomeCounts(matched=4000, late=12, repeated=3, orphaned=1, unknown=2),
        "distributions": [
            numbers("mean_area", 0.9),
            numbers("mean_texture", 0.0, 5.0),
            Distribution(name="hospital", values=["north", "south", "east"], before=[0.5, 0.3, 0.2, 0.0], now=[0.3, 0.3, 0.2, 0.2]),
            Distribution(name="worst_radius", edges=[1.0, 2.0, 3.0], before=[0.1, 0.5, 0.3, 0.1], now=[0.2, 0.4, 0.3, 0.1]),
        ],
        "days": days(),
        "releases": [Released(version="3", day=day(0)), Released(version="4", day=day(20))],
        "notes": ["The reference of version 3 has deciles only, so its distances are coarse."],
        "daily_metric": "accuracy",
    }  # fmt: skip
    incidents = [
        incident(since=day(19), alarm_day=day(22)),
        performance(since=day(14), alarm_day=day(21), unit="share of wrong answers"),
        incident(
            "data_broken",
            "hospital",
            check="unseen",
            open=False,
            closed_day=day(25),
            words="hospital: 20 % of the rows have values never seen",
        ),
    ]
    return findings(*given.pop("incidents", incidents), **made | given)
