"""What was known of an experiment at the end of each day."""

import math
from collections.abc import Sequence
from typing import Literal

from scipy import special

from pipeline.experiments.confidence_sequence import (
    FEWEST,
    Interval,
    effective,
    interval,
    paired_interval,
)
from pipeline.experiments.judgement import Look
from pipeline.experiments.sample_ratio import sample_ratio
from pipeline.experiments.welch import ALPHA, Summary, Welch, vary, welch
from serving.experiment.count import records
from serving.experiment.count.records import Day

TUNED = 14  # the day on which the sequence is narrowest


def looks_of(
    days: Sequence[Day], mode: Literal["ab", "shadow"], share: float
) -> tuple[list[Look], list[Interval | None]]:
    """What was known at the end of each day, and the confidence sequence; None where there were too few subjects."""
    looks, intervals = [], []
    planned: float | None = None
    for day in days:
        size = size_of(day)
        if planned is None and size is not None:  # by counts alone, and then for good: no outcome has a say in it
            planned = size * max(TUNED / day.number, 1)
        found = _interval(day, planned) if planned else None
        fixed = _fixed(day)
        ratio = sample_ratio(day.a.subjects, day.b.subjects, share) if mode == "ab" else None
        looks.append(
            Look(
                day=day.day,
                number=day.number,
                subjects_a=day.a.subjects,
                subjects_b=day.b.subjects,
                measured_a=day.a.measured,
                measured_b=day.b.measured,
                mean_a=day.a.mean if day.a.measured else None,
                mean_b=day.b.mean if day.b.measured else None,
                difference=found.difference if found else None,
                low=found.low if found else None,
                high=found.high if found else None,
                fixed_low=fixed.low if fixed else None,
                fixed_high=fixed.high if fixed else None,
                p_value=fixed.p_value if fixed else None,
                ratio_p=ratio.p_value if ratio else None,
            )
        )
        intervals.append(found)
    return looks, intervals


def size_of(day: Day) -> float | None:
    """How many subjects the certainty of a day rests on; None for too few."""
    if day.difference:
        return day.difference.measured if day.difference.measured >= FEWEST else None
    enough = min(day.a.measured, day.b.measured) >= FEWEST
    return effective(day.a.measured, day.b.measured) if enough else None


def _interval(day: Day, planned: float) -> Interval | None:
    if day.difference:
        return paired_interval(_differences(day.difference), planned)
    return interval(summary_of(day.a), summary_of(day.b), planned)


def _fixed(day: Day) -> Welch | None:
    """The test for one look; of pairs, the t-test of their differences, which is that of a sample beside zero."""
    if not day.difference:
        return welch(summary_of(day.a), summary_of(day.b))
    found = _differences(day.difference)
    if found.count < 2 or not vary(found):
        return None
    error, df = math.sqrt(found.variance / found.count), found.count - 1
    t, reach = found.mean / error, -float(special.stdtrit(df, ALPHA / 2)) * error
    return Welch(
        count_a=found.count, count_b=found.count, mean_a=day.a.mean, mean_b=day.b.mean,
        deviation_a=deviation(day.a) or 0.0, deviation_b=deviation(day.b) or 0.0, difference=found.mean,
        t=t, df=df, p_value=2 * float(special.stdtr(df, -abs(t))), low=found.mean - reach, high=found.mean + reach,
    )  # fmt: skip


def summary_of(arm: records.Arm) -> Summary:
    """The subjects of a variant that have outcomes."""
    return Summary(arm.measured, arm.mean, arm.squares)


def _differences(found: records.Difference) -> Summary:
    return Summary(found.measured, found.mean, found.squares)


def deviation(counted: records.Arm) -> float | None:
    """Of one number for each subject; None with fewer than two."""
    return math.sqrt(counted.squares / (counted.measured - 1)) if counted.measured > 1 else None
