"""The judgement of an experiment: its record and its sums become what people are shown. Pure: no file and no network."""

from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.evaluation.wording import number, places, signed
from pipeline.experiments.confidence_sequence import FEWEST, Interval
from pipeline.experiments.figures import agreement, arm_of, difference, guardrails, relative
from pipeline.experiments.judgement import Arm, Judgement, LeftOut, Verdict
from pipeline.experiments.looks import looks_of, size_of, summary_of
from pipeline.experiments.paired import Paired
from pipeline.experiments.sample_ratio import SampleRatio, sample_ratio
from pipeline.experiments.welch import welch
from pipeline.registry.experiments import ExperimentRecord
from pipeline.settings import Settings
from serving.experiment.count import records
from serving.experiment.count.records import Day, Outcome, Plan, Sums
from serving.experiment.experiment import Guardrails

MEASURES: dict[Outcome, str] = {
    "correct": "share of correct answers",
    "error": "absolute error",
    "value": "value sent with the outcome",
}


def plan_of(
    record: ExperimentRecord, settings: Settings, outcome: Outcome | None = None, window: float | None = None
) -> Plan:
    """What to count of an experiment: its last phase, up to its end or now.

    Without `outcome`, it is whether a class came true, or the error of a regression. `window` in seconds, as in the plan. Raises
    RegistryError where the record was damaged in MLflow.
    """
    _ = record.share  # which raises it
    return Plan(
        model=settings.name,
        experiment=record.name,
        mode="shadow" if record.mode == "shadow" else "ab",
        champion=record.champion,
        challenger=record.challenger,
        since=record.phases[-1].since,
        until=record.ended or None,
        outcome=outcome or ("error" if settings.data.task == "regression" else "correct"),
        window=window,
    )


def judge(
    record: ExperimentRecord,
    sums: Sums,
    settings: Settings,
    paired: Paired | None = None,
    limits: Guardrails | None = None,
) -> Judgement:
    """What is known of an experiment; `paired` is the gate's comparison of the pairs that a shadow gave (pairs.py).

    Raises RegistryError where the record was damaged in MLflow.
    """
    plan, share = sums.plan, record.share
    better = plan.outcome != "error"
    looks, intervals = looks_of(sums.days, plan.mode, share)
    last = sums.days[-1] if sums.days else Day(day="", number=0, a=records.Arm(), b=records.Arm())
    a = arm_of("A", record.champion, last.a, sums)
    b = arm_of("B", record.challenger, last.b, sums)
    ratio = sample_ratio(a.subjects, b.subjects, share) if plan.mode == "ab" else None
    decided = next((place for place, one in enumerate(intervals) if one and one.decided), None)
    now = intervals[-1] if intervals else None
    verdict = _verdict(sums, ratio, intervals, decided, better)
    return Judgement(
        model=settings.name,
        experiment=record.name,
        mode=plan.mode,
        state=record.state,
        share=share,
        champion=record.champion,
        challenger=record.challenger,
        started=record.started,
        since=plan.since,
        until=plan.until or sums.now,
        time=datetime.fromtimestamp(sums.now, UTC).isoformat(timespec="seconds"),
        outcome=plan.outcome,
        measure=MEASURES[plan.outcome],
        higher_is_better=better,
        verdict=verdict,
        words=_words(
            verdict, sums, share, ratio, now, None if decided is None else (looks[decided].day, intervals[decided])
        ),
        decided_day=None if decided is None else looks[decided].day,
        a=a,
        b=b,
        difference=now.difference if now else difference(a, b),
        low=now.low if now else None,
        high=now.high if now else None,
        relative=relative(a, b),
        looks=looks,
        welch=welch(summary_of(last.a), summary_of(last.b)) if plan.mode == "ab" else None,
        ratio=ratio,
        agreement=agreement(sums),
        paired=paired,
        guardrails=guardrails(sums, a, b, limits or Guardrails()),
        left_out=_left_out(sums, a, b),
        stop_reason=sums.stop.reason if sums.stop else "",
        stopped=sums.stop.time if sums.stop else None,
        notes=_notes(sums, record, a, b, now, decided),
    )


def _verdict(
    sums: Sums, ratio: SampleRatio | None, intervals: Sequence[Interval | None], decided: int | None, better: bool
) -> Verdict:
    if sums.stop:
        return "stopped itself"
    if ratio and ratio.mismatch:
        return "sample ratio mismatch"
    if decided is not None:
        return "B better" if (_at(intervals, decided).low > 0) == better else "A better"
    return "no difference so far" if intervals and intervals[-1] else "running"


def _at(intervals: Sequence[Interval | None], place: int) -> Interval:
    found = intervals[place]
    assert found is not None
    return found


def _words(
    verdict: Verdict,
    sums: Sums,
    share: float,
    ratio: SampleRatio | None,
    now: Interval | None,
    decided: tuple[str, Interval | None] | None,
) -> str:
    measure = MEASURES[sums.plan.outcome]
    if verdict == "stopped itself" and sums.stop:
        return f"The experiment stopped itself: {sums.stop.reason}. Version {sums.plan.champion} answers everybody."
    if verdict == "sample ratio mismatch" and ratio:
        return (
            f"B has {ratio.found:.2%} of the subjects and should have {ratio.expected:.2%} (p = {ratio.p_value:.1g}). "
            "Something decides who is counted, so the outcomes of A and B cannot be compared."
        )
    if decided and (known := decided[1]):
        if not now or not now.decided or (now.low > 0) != (known.low > 0):
            return (
                f"{verdict}: in the {measure}, B − A was {_between(known)} on {decided[0]}. More days cannot undo that."
            )
        found = f"{verdict}: in the {measure}, B − A is {_between(now)}."
        if sums.plan.until is None and decided[0] == _day_of(sums.now):
            return f"{found} Decided today, so far: if that still holds at midnight (UTC), more days cannot undo it."
        return f"{found} Decided on {decided[0]}; more days cannot undo that."
    if now:
        return f"No difference so far: in the {measure}, B − A is {_between(now)}, and zero is in between."
    if sums.plan.mode == "ab" and share == 1:
        return "B answers every subject, so there is nothing to compare it with."
    if sums.days and size_of(sums.days[-1]):
        same = (
            "the difference is the same for each subject"
            if sums.plan.mode == "shadow"
            else "all subjects of a variant are alike"
        )
        return f"Nothing can be told: in the {measure}, {same}, so nothing says how sure a difference is."
    needed = (
        f"outcomes of {FEWEST} subjects"
        if sums.plan.mode == "shadow"
        else f"{FEWEST} subjects of each variant with outcomes"
    )
    of = " that both models have answered" if sums.plan.mode == "shadow" else ""
    return f"Too early: {needed}{of} are needed."


def _day_of(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _between(found: Interval) -> str:
    digits = places(found.low, found.high)
    return f"between {signed(found.low, digits)} and {signed(found.high, digits)}"


# --- what was not counted, and what to know ---
def _left_out(sums: Sums, a: Arm, b: Arm) -> list[LeftOut]:
    left = sums.left_out
    without = a.subjects + b.subjects - a.measured - b.measured
    found = [
        (left.tests, "requests", "delivery's own tests"),
        (left.no_subject, "requests", "they named no subject, so production's model answered outside of the experiment"),
        (left.outside, "requests", "production's model answered them outside of the experiment, because the challenger had no answer or was taken out, or another version did"),
        (left.crossed, "subjects", "both variants answered them"),
        (without if sums.plan.mode == "ab" else a.subjects - a.measured, "subjects", "no outcome has come yet"),
        (left.late, "outcomes", "they came after the window"),
        (left.unusable, "outcomes", "they say nothing of the answer: of another kind, of a row that was not asked, or no finite number"),
        (left.repeated, "requests", "another request with the same id has their outcomes"),
        (left.alone, "outcomes", "they are of requests that B was not asked (a hash of the request's id decides, as the share says), or had no answer to"),
        (left.unmatched, "outcomes", "they are of requests before this phase, of another model, or of no request in the log"),
    ]  # fmt: skip
    return [LeftOut(number=number, of=of, why=why) for number, of, why in found if number]


def _notes(
    sums: Sums, record: ExperimentRecord, a: Arm, b: Arm, now: Interval | None, decided: int | None
) -> list[str]:
    found = []
    if len(record.phases) > 1:
        found.append("Counted from the last change of the share: before it, subjects of B were in A.")
    if a.subjects + b.subjects and not a.outcomes + b.outcomes:
        what = "`value`" if sums.plan.outcome == "value" else "outcomes"
        found.append(f"No {what} came with /feedback yet for this experiment's requests.")
    if sums.plan.outcome == "value" and a.measured + b.measured < a.subjects + b.subjects:
        found.append("Subjects without a value are left out. Where no event means 0, send 0.")
    if decided is not None and now and not now.decided:
        found.append(
            "Today's interval includes zero again. The decision stands: it may be wrong in one of twenty experiments."
        )
    if sums.paired > sums.pairs:
        found.append(
            f"The metric of the gate rests on {number(sums.pairs, 0)} pairs, taken at random from {number(sums.paired, 0)}."
        )
    return found
