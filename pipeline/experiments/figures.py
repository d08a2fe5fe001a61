"""The variants of an experiment in figures, and what must not get worse besides the outcome."""

from scipy import special

from pipeline.experiments.judgement import Agreement, Arm, Guardrail
from pipeline.experiments.looks import deviation
from pipeline.experiments.sample_ratio import LEVEL
from serving.experiment.count import records
from serving.experiment.count.records import Sums
from serving.experiment.experiment import Guardrails


def arm_of(variant: str, version: str, counted: records.Arm, sums: Sums) -> Arm:
    """One variant; `counted` are its sums up to the last day."""
    speed = sums.speeds.get(variant) or records.Speed()
    return Arm(
        variant=variant,
        version=version,
        subjects=counted.subjects,
        measured=counted.measured,
        requests=counted.requests,
        rows=counted.rows,
        outcomes=counted.outcomes,
        mean=counted.mean if counted.measured else None,
        deviation=deviation(counted),
        failures=sums.failures.get(version, 0),
        seconds_median=speed.median,
        seconds_p95=speed.p95,
    )


def difference(a: Arm, b: Arm) -> float | None:
    """B - A, of the means; None where one of them is not known."""
    return None if a.mean is None or b.mean is None else b.mean - a.mean


def relative(a: Arm, b: Arm) -> float | None:
    """The difference as a share of A's mean."""
    apart = difference(a, b)
    return apart / abs(a.mean) if apart is not None and a.mean else None


def agreement(sums: Sums) -> Agreement | None:
    """How alike both models answered, in mode shadow."""
    if sums.shadow is None:
        return None
    rows = sums.shadow.rows
    numbers = sums.plan.outcome == "error"
    return Agreement(
        rows=rows,
        same=sums.shadow.same / rows if rows else None,
        difference=sums.shadow.difference / rows if rows and numbers else None,
        unanswered=sums.shadow.unanswered,
    )


def guardrails(sums: Sums, a: Arm, b: Arm, limits: Guardrails) -> list[Guardrail]:
    """All of them; in mode shadow nobody met the challenger, so there are none."""
    if sums.plan.mode == "shadow":
        return []
    return [_answered(a, b, limits), _fast(a, b, limits), _with_outcomes(a, b)]


def _answered(a: Arm, b: Arm, limits: Guardrails) -> Guardrail:
    ours, theirs = (_share(arm.failures, arm.failures + arm.requests) for arm in (a, b))
    return Guardrail(
        name="requests without an answer",
        unit="share",
        a=ours,
        b=theirs,
        limit=limits.max_failures,
        broken=theirs is not None and b.requests + b.failures >= limits.min_requests and theirs > limits.max_failures,
        words="requests that the version had no answer to, on the days of the phase; production's model answers those of B",
    )


def _fast(a: Arm, b: Arm, limits: Guardrails) -> Guardrail:
    ours, theirs = a.seconds_p95, b.seconds_p95
    limit = None if ours is None else ours * limits.max_latency_ratio + limits.latency_margin_ms / 1000
    return Guardrail(
        name="95th percentile of a request",
        unit="seconds",
        a=ours,
        b=theirs,
        limit=limit,
        broken=limit is not None
        and theirs is not None
        and min(a.requests, b.requests) >= limits.min_requests
        and theirs > limit,
        words="as logged, within 5 %; the service itself watches the time of the model for a row",
    )


def _with_outcomes(a: Arm, b: Arm) -> Guardrail:
    """Whether outcomes come for as many subjects of both; a chi-squared test at the level of the sample ratio."""
    ours, theirs = _share(a.measured, a.subjects), _share(b.measured, b.subjects)
    return Guardrail(
        name="subjects with outcomes",
        unit="share",
        a=ours,
        b=theirs,
        broken=_p_of_shares(a, b) < LEVEL,
        words="where outcomes are missing more often on one side, those that came are of other subjects",
    )


def _p_of_shares(a: Arm, b: Arm) -> float:
    total, hits = a.subjects + b.subjects, a.measured + b.measured
    if not a.subjects or not b.subjects or not 0 < hits < total:
        return 1.0
    among = hits / total
    z = (a.measured / a.subjects - b.measured / b.subjects) ** 2
    return float(special.chdtrc(1, z / (among * (1 - among) * (1 / a.subjects + 1 / b.subjects))))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
