"""The judgement: daily counts and what the versions were trained on become findings. Pure: no file and no network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from msgspec.structs import replace

from pipeline.evaluation.wording import in_words, number, setting
from pipeline.monitor import columns, performance, streams
from pipeline.monitor.detector import Alarm, Trace, log_limit, replay
from pipeline.monitor.findings import (
    DayRow,
    Findings,
    Incident,
    Limit,
    OutcomeCounts,
    Performance,
    Released,
    WatchedVersion,
    verdict,
)
from pipeline.monitor.plan import Plan, Trained
from pipeline.monitor.streams import Before, History, Watched
from pipeline.settings import Settings
from serving.counts.records import Day, Log, Outcomes, Version

SHOWN = 90  # days in tables and pictures
STEADY = 14  # days with rows, after which a day without any is a finding
OLD = "it is not among the newest versions in MLflow, whose bundles are looked at"
SILENT = 2  # days on which others answered, after which a version is no longer among those that serve
FEW = 0.1  # share of outcomes that could not be used, above which people are told
TIMES = 10  # a day with so many times fewer or more rows than usual is one too


@dataclass(frozen=True)
class Judged:
    """A version's history, its streams, and what the detector made of them."""

    number: str
    version: Version
    trained: Trained
    history: History
    watched: list[Watched]
    traces: list[Trace]
    limit: float


def judge(
    settings: Settings,
    environment: str,
    plan: Plan,
    trained: Mapping[str, Trained],
    gone: Mapping[str, str],
    log: Log,
    days: Sequence[Day],
) -> Findings:
    """What the daily counts say; `gone` says why a version's bundle could not be loaded. Only whole days before `log.now` are judged."""
    last = _day(log.now - 86_400)
    mature = _day(log.now - 86_400 * (1 + settings.monitor.label_delay_days))
    histories = _histories(days, last)
    judged = _replayed(settings, plan, trained, histories, mature)
    unjudged = _unjudged(days, last, gone)
    seen = [*unjudged, *(_watched_version(history, judged, gone) for history in histories)]
    empty = replace(_empty(settings, environment, log.now, _notes(settings, log, days, histories, seen)), versions=seen)
    if not judged:
        return empty
    current, serving = judged[-1], _serving(judged)
    window = _window(current, settings.monitor.window_days)
    evidence = _of_labels(current, -1)
    measured = _performance(settings, current, window, mature)
    incidents = [one for each in judged for one in _incidents(each, replaced=each.number not in serving)]
    incidents += _volume(current, _asked(days, last), settings)
    incidents += [one for each in judged for one in _limits_broken(each, settings, mature, each.number not in serving)]
    incidents.sort(key=lambda one: (not one.open, one.alarm_day))
    counts = _outcome_counts(days, window, current)
    unknown = any(one.last_day > current.history.dates[-1] for one in unjudged)
    said = verdict(incidents)
    return replace(
        empty,
        verdict="unknown" if unknown and said == "ok" else said,
        notes=[*empty.notes, *_unused(counts, current)],
        daily_metric="accuracy" if current.version.contract.classes else "mae",
        incidents=incidents,
        columns=columns.rows(current.number, current.version, current.trained, window, evidence),
        performance=measured,
        estimated=performance.estimated([day.rows for day in window if day.rows]),
        outcomes=counts,
        distributions=columns.distributions(current.version, current.trained, window, evidence),
        days=[row for each in judged for row in _day_rows(each)][-SHOWN:],
        releases=[Released(version=each.version, day=each.dates[0]) for each in histories],
    )


def nothing(settings: Settings, environment: str, note: str) -> Findings:
    """The findings where there is nothing to judge; `note` says why."""
    return _empty(settings, environment, time.time(), [note])


def _empty(settings: Settings, environment: str, now: float, notes: list[str]) -> Findings:
    return Findings(
        name=settings.name,
        environment=environment,
        time=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        last_day=_day(now - 86_400),
        verdict="unknown",
        notes=notes,
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _histories(days: Sequence[Day], last: str) -> list[History]:
    """The history of each version that answered, in the order in which they did; the last is the one that serves.

    Of several that answered on the last day, as in a canary release, that is the one with most rows. Its history reaches to the
    last day that is over, unless a version that cannot be judged has answered since.
    """
    numbers = {day.version for day in days if day.version}
    found = [History.of(number, days, last) for number in numbers]
    found = sorted((one for one in found if one.dates), key=_order)
    others = max(
        (day.day for day in days if day.version and not day.rows and _asks(day) and day.day <= last), default=""
    )
    return [*found[:-1], *(one if one.dates[-1] < others else one.until(last) for one in found[-1:])]


def _order(history: History) -> tuple[str, int, str, str]:
    return history.dates[-1], history.rows()[-1].rows, history.dates[0], history.version


def _asks(day: Day) -> bool:
    """Whether callers sent requests, not only delivery's own tests."""
    return day.requests > day.tests


def _serving(judged: Sequence[Judged]) -> set[str]:
    """The versions that answered on one of the last days on which any did: a canary and what it may replace are two."""
    busy = sorted({day.day for each in judged for day in each.history.days if day and day.rows and day.rows.rows})
    return {
        each.number
        for each in judged
        if any(day and day.day in busy[-SILENT:] and day.rows and day.rows.rows for day in each.history.days)
    }


def _replayed(
    settings: Settings, plan: Plan, trained: Mapping[str, Trained], histories: Sequence[History], mature: str
) -> list[Judged]:
    """Every version that can be judged, oldest first. How alike the rows of a day are is handed from one to the next."""
    found: list[Judged] = []
    before: Before = {}
    for history in histories:
        if history.version not in trained:
            continue
        version = plan.versions[history.version]
        history = history.fitting(version)
        watched = streams.streams(settings, version, trained[history.version], history, mature, before)
        limit = log_limit(len(watched), settings.monitor.false_alarms_per_year)
        traces = replay([one.stream for one in watched], limit, settings.monitor.min_rows)
        before = before | {one.key: trace.likeness for one, trace in zip(watched, traces, strict=True)}
        found.append(Judged(history.version, version, trained[history.version], history, watched, traces, limit))
    return found


def _unjudged(days: Sequence[Day], last: str, gone: Mapping[str, str]) -> list[WatchedVersion]:
    """Versions whose rows could only be counted in total."""
    found = []
    for version in sorted({day.version for day in days if day.version and day.rows is None}):
        own = [day for day in days if day.version == version and _asks(day) and day.day <= last]
        if own and not any(day.rows for day in own):
            found.append(
                WatchedVersion(
                    version=version,
                    first_day=own[0].day,
                    last_day=own[-1].day,
                    rows=sum(day.asked for day in own),
                    judged=False,
                    why_not=gone.get(version, OLD),
                )
            )
    return found


def _watched_version(history: History, judged: Sequence[Judged], gone: Mapping[str, str]) -> WatchedVersion:
    known = any(each.number == history.version for each in judged)
    return WatchedVersion(
        version=history.version,
        first_day=history.dates[0],
        last_day=history.dates[-1],
        rows=sum(day.rows for day in history.rows()),
        judged=known,
        why_not="" if known else gone.get(history.version, OLD),
    )


def _window(current: Judged, days: int) -> list[Day]:
    """The last days of the version that serves."""
    return [day for day in current.history.days[-days:] if day]


# --- incidents ---


def _incidents(judged: Judged, replaced: bool) -> list[Incident]:
    found = []
    for watched, trace in zip(judged.watched, judged.traces, strict=True):
        for alarm in trace.alarms:
            found.append(_incident(judged, watched, trace, alarm, replaced))
    return found


def _incident(judged: Judged, watched: Watched, trace: Trace, alarm: Alarm, replaced: bool) -> Incident:
    dates, cells = judged.history.dates, watched.stream.cells
    end = len(dates) - 1 if alarm.closed is None else alarm.closed
    counts = watched.stream.table[alarm.since : end + 1].sum(axis=0)
    hits, rows = float(counts @ cells.pick[alarm.cell]), float(counts @ cells.among[alarm.cell])
    cell, before, now = cells.names[alarm.cell], float(cells.share[alarm.cell]), hits / max(rows, 1)
    closed = dates[alarm.closed] if alarm.closed is not None else (dates[-1] if replaced else None)
    return Incident(
        kind=watched.kind,
        check=watched.check,
        version=judged.number,
        column=watched.column or (watched.label if watched.kind == "prediction_drift" else None),
        since=dates[alarm.since],
        alarm_day=dates[alarm.day],
        open=closed is None,
        closed_day=closed,
        evidence=round(float(trace.evidence[end]) / judged.limit, 3),
        before=round(before, 6),
        now=round(now, 6),
        unit=watched.unit(cell),
        rows=int(rows),
        words=f"{watched.words(cell)}: {before:.1%} at release, {now:.1%} since {dates[alarm.since]} ({int(rows):,} rows)",
    )


def _asked(days: Sequence[Day], last: str) -> dict[str, int]:
    """The rows that callers asked of all versions, of each day from the first to the last, those of an experiment's challenger too."""
    own = [day for day in days if day.version and day.day <= last and (_asks(day) or day.challenged)]
    first = date.fromisoformat(min((day.day for day in own), default=last))
    found = {str(first + timedelta(number)): 0 for number in range((date.fromisoformat(last) - first).days + 1)}
    for day in own:
        found[day.day] += day.challenged + (day.rows.rows + day.rows.unreadable if day.rows else day.asked)
    return found


def _volume(current: Judged, asked: Mapping[str, int], settings: Settings) -> list[Incident]:
    """A day with far fewer or far more rows than the days before it, until a day is as usual again, whichever versions answered.

    The last days that were as usual are the measure. There must be STEADY of them, none too small to be judged: where nobody
    asks at weekends, a day without rows says nothing.
    """
    usual: list[int] = []
    found: list[Incident] = []
    for day, rows in asked.items():
        last = usual[-2 * STEADY :]
        median = float(np.median(last)) if last else 0.0
        steady = len(last) >= STEADY and min(last) >= settings.monitor.min_rows
        odd = steady and (rows * TIMES < median or rows > median * TIMES)
        if not odd:
            usual.append(rows)
        if odd and not (found and found[-1].open):
            found.append(_volume_incident(current, day, median, rows))
        elif not odd and found and found[-1].open:
            found[-1] = _closed(found[-1], day)
    return found


def _volume_incident(current: Judged, day: str, usual: float, rows: int) -> Incident:
    return Incident(
        kind="data_broken",
        check="volume",
        version=current.number,
        since=day,
        alarm_day=day,
        open=True,
        evidence=1.0,
        before=usual,
        now=float(rows),
        unit="rows a day",
        rows=rows,
        words=f"rows a day: {usual:,.0f} usually, {rows:,} on {day}",
    )


def _closed(incident: Incident, day: str) -> Incident:
    return replace(incident, open=False, closed_day=day)


def _limits_broken(current: Judged, settings: Settings, mature: str, replaced: bool) -> list[Incident]:
    """A limit that the metric of the last days is beyond with its whole interval, since the first day on which it was."""
    history, days = current.history, settings.monitor.window_days
    found: list[Incident] = []
    outcomes = history.outcomes(mature)
    open_since: dict[str, int] = {}
    for place in range(len(outcomes)):
        window = performance.total(outcomes[max(0, place + 1 - days) : place + 1])
        if not outcomes[place].rows or window.rows < settings.monitor.min_outcomes:
            continue
        metrics = performance.measured(current.version, window, {}, intervals=False)
        for limit in performance.limits(settings.monitor.limits, metrics, window.rows, settings.monitor.min_outcomes):
            standing = open_since.get(limit.metric)
            if standing is None and limit.broken and _surely(current.version, window, limit):
                open_since[limit.metric] = len(found)
                found.append(_limit_incident(current, history.dates[place], limit))
            elif standing is not None and limit.value is not None and not limit.broken:
                found[standing] = _closed(found[standing], history.dates[place])
                del open_since[limit.metric]
    return [_closed(one, history.dates[-1]) if replaced and one.open else one for one in found]


def _surely(version: Version, window: Outcomes, limit: Limit) -> bool:
    """Whether the whole interval of a metric is beyond its limit; of one that has none, RMSE or R², the value decides."""
    metric = next(one for one in performance.measured(version, window, {}) if one.name == limit.metric)
    edge = metric.high if metric.higher_is_better else metric.low
    return edge is None or (edge < limit.limit) == metric.higher_is_better


def _limit_incident(current: Judged, day: str, limit: Limit) -> Incident:
    return Incident(
        kind="performance",
        check="limit",
        version=current.number,
        since=day,
        alarm_day=day,
        open=True,
        evidence=1.0,
        before=limit.limit,
        now=limit.value,
        unit=f"{in_words(limit.metric)}, beside its limit",
        rows=limit.rows,
        words=f"{in_words(limit.metric)}: {number(limit.value)} on {limit.rows:,} outcomes up to {day}, the limit is {setting(limit.limit)}",
    )


# --- figures ---


def _performance(settings: Settings, current: Judged, window: Sequence[Day], mature: str) -> Performance:
    outcomes = [day.outcomes for day in window if day.outcomes]
    whole = performance.total(outcomes)
    metrics = performance.measured(current.version, whole, current.trained.reference.get("metrics", {}))
    old_enough = [day for day in window if day.day <= mature and day.rows]
    asked = sum(day.rows.rows for day in old_enough if day.rows)
    known = sum(day.outcomes.rows for day in old_enough if day.outcomes)
    everything = [one for one in current.history.outcomes() if one.rows]
    return Performance(
        metrics=metrics,
        coverage=known / asked if asked else None,
        delay_seconds=performance.delays(whole),
        limits=performance.limits(settings.monitor.limits, metrics, whole.rows, settings.monitor.min_outcomes),
        slices=performance.slices(whole),
        t_test=performance.t_test(everything, current.trained.reference),
    )


def _outcome_counts(days: Sequence[Day], window: Sequence[Day], current: Judged) -> OutcomeCounts:
    whole: Outcomes = performance.total([day.outcomes for day in window if day.outcomes])
    first = window[0].day if window else ""
    orphaned = sum(day.orphaned for day in days if not day.version and day.day >= first)
    return OutcomeCounts(
        matched=whole.rows, late=whole.late, repeated=whole.repeated, orphaned=orphaned, unknown=whole.unknown
    )


def _of_labels(judged: Judged, place: int) -> dict[str, float]:
    """The evidence of each label on a day, as a share of the limit."""
    found: dict[str, float] = {}
    for watched, trace in zip(judged.watched, judged.traces, strict=True):
        if len(trace.evidence):
            found[watched.label] = max(found.get(watched.label, 0.0), float(trace.evidence[place]) / judged.limit)
    return {label: round(value, 4) for label, value in found.items()}


def _day_rows(judged: Judged) -> list[DayRow]:
    found = []
    for place, (name, day) in enumerate(zip(judged.history.dates, judged.history.days, strict=True)):
        if place < len(judged.history.dates) - SHOWN:
            continue
        asked, told = (day.rows if day else None), (day.outcomes if day else None)
        rows = asked.rows if asked else 0
        found.append(
            DayRow(
                day=name,
                version=judged.number,
                rows=rows,
                evidence=_of_labels(judged, place),
                missing={
                    label: round(column.missing / rows, 6)
                    for label, column in (asked.features if asked else {}).items()
                    if rows
                },
                refused=sum(day.refused.values()) if day else 0,
                labelled=told.rows if told else 0,
                measured=_measured(told, bool(judged.version.contract.classes)),
                estimated=round(asked.expected_correct / rows, 6) if asked and asked.labels and rows else None,
            )
        )
    return found


def _measured(told: Outcomes | None, classifies: bool) -> float | None:
    if told is None or not told.rows:
        return None
    return round(1 - told.wrong / told.rows if classifies else told.loss_sum / told.rows, 6)


def _unused(counts: OutcomeCounts, current: Judged) -> list[str]:
    """Why many outcomes of the last days are in no figure."""
    classes, target = current.version.contract.classes, current.version.contract.target
    wanted = f"a class: {', '.join(classes[:8])}{' …' if len(classes) > 8 else ''}" if classes else "a number"
    reasons = [
        (counts.unknown, f"are no {target} that the model knows; an outcome must be {wanted}"),
        (counts.late, "came later than [monitor] label_window_days in pipeline.toml allows"),
        (counts.orphaned, "name a request that is not in the log: callers must send the request_id of the answer"),
    ]
    came = counts.matched + counts.unknown + counts.late + counts.orphaned
    return [
        f"{number:,} outcomes of the last days are not used: they {why}."
        for number, why in reasons
        if number > FEW * came
    ]


def _notes(
    settings: Settings, log: Log, days: Sequence[Day], histories: Sequence[History], seen: Sequence[WatchedVersion]
) -> list[str]:
    """What people should know of what could not be judged."""
    if not log.models:
        return ["The prediction log is empty: nothing was asked yet."]
    if settings.name not in log.models:
        others = ", ".join(sorted(log.models))
        return [f"The prediction log has no request to {settings.name}, only to {others}."]
    if not seen:
        return ["No day is over yet on which callers asked: days are judged when they are over (UTC)."]
    newest = max(one.last_day for one in seen)
    found = [
        f"Version {one.version} answered from {one.first_day} to {one.last_day} and could not be judged: {one.why_not}."
        for one in seen
        if not one.judged and one.last_day >= newest
    ]
    today = date.fromisoformat(_day(log.now))
    if not histories:
        return found
    asked = max(day.day for each in histories for day in each.days if day and day.rows and day.rows.rows)
    begin = str(today - timedelta(days=settings.monitor.window_days))
    if challenged := sum(day.challenged for day in days if begin <= day.day < str(today)):
        found.append(
            f"The challenger of an experiment answered {challenged:,} rows of the last days, which are judged there alone."
        )
    silent = max([asked, *(one.last_day for one in seen if not one.judged)])
    if silent < begin and not challenged:
        found.append(f"Nobody has asked since {silent}: nothing can be said of the days after it.")
    if date.fromisoformat(min(each.dates[0] for each in histories)) > today - timedelta(days=28):
        found.append("How much this data varies from day to day is known after 28 days; until then alarms come later.")
    return found
