"""What the monitor found, to read: Markdown for GitHub, one HTML file that needs nothing else, and a few lines for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.evaluation import pages
from pipeline.evaluation.findings import MOST_ROWS, Cell, Headline, Name, Section, Table
from pipeline.evaluation.pages import Page
from pipeline.evaluation.wording import Mark, clean, in_words, known, number, places, setting
from pipeline.monitor.actions import alerts
from pipeline.monitor.findings import ColumnRow, Findings, Incident, Measured, Performance

PICTURES = {
    "evidence": "Evidence of drift of each column by day: the darker, the more; orange is an alarm, white a day without rows.",
    "distributions": "Distributions of the columns with most evidence: in training, and now. The first and the last step hold all rows that are beyond.",
    "performance": "Performance by day, measured from outcomes and estimated, and the share of rows with an outcome.",
    "rows": "Rows by day, share of empty cells, refused requests.",
}
MOST_COLUMNS = 15  # of the Markdown; monitor.json has all
MOST_ON_PAGE = 30
MOST_REASONS = 8
SURE = 0.001  # p-value below which the verdict mentions worse answers that are no alarm
TONES = {"ok": "accept", "watch": "warn", "broken": "refuse", "falling": "refuse", "unknown": "keep"}  # of the page
COLOURS = {"accept": "green", "warn": "yellow", "refuse": "red", "keep": "default"}  # of the terminal


def markdown(found: Findings) -> str:
    """The report for a job's summary."""
    return pages.markdown(_page(found, MOST_COLUMNS))


def html(found: Findings, plots: Mapping[str, bytes] | None = None) -> str:
    """The report as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    return pages.html(_page(found, MOST_ON_PAGE), plots)


def terminal(found: Findings, page: Path) -> None:
    """Print the verdict, the open incidents, what to do about them, and where the report is."""
    from rich.console import Console
    from rich.text import Text

    head, console = headline(found), Console(highlight=False, soft_wrap=True)
    title = f"{head.sign} {found.name}, {found.environment}: {head.word[0].lower()}{head.word[1:]}"
    console.print(Text(title, style=f"bold {COLOURS[TONES[found.verdict]]}"))
    console.print(Text(f"  {head.meaning}"))
    standing = _by_weight(found.open_incidents())
    for one in standing[:MOST_REASONS]:
        console.print(Text(f"  {_kind(one)} since {one.since}: {clean(one.words, 300)}"))
    if len(standing) > MOST_REASONS:
        console.print(Text(f"  {len(standing) - MOST_REASONS} more"))
    for note in found.notes[:MOST_REASONS]:
        console.print(Text(f"  note: {clean(note, 300)}"))
    for runbook in dict.fromkeys(alerts.KINDS[one.kind].runbook for one in standing):
        console.print(Text(f"  what to do: docs/runbooks/{runbook}.md"))
    console.print(Text(f"  the whole report: {page}"))


def headline(found: Findings) -> Headline:
    """The verdict in words."""
    until = f"Judged up to {found.last_day} (UTC)."
    kinds = list(dict.fromkeys(alerts.KINDS[one.kind].words for one in _by_weight(found.open_incidents())))
    said = f"Found: {', '.join(kinds)}. "
    match found.verdict:
        case "ok":
            return Headline("No alarm", f"{_yet(found.performance, found.daily_metric)} {until}", "✓", "✅")
        case "watch":
            return Headline("Something moved", f"{said}Watch it: that alone makes no model wrong. {until}", "!", "👀")
        case "broken":
            meaning = f"{said}Fix it at the source: a model that is trained on such data learns the fault. {until}"
            return Headline("Data broken", meaning, "✕", "❌")
        case "falling":
            meaning = f"{said}Production answers worse than at its release. {until}"
            return Headline("Performance is falling", meaning, "▼", "📉")
        case _:
            why = "No version could be judged." if found.versions else "There is no day to judge."
            if any(one.judged for one in found.versions):
                why = "The version that answers now could not be judged."
            return Headline("Nothing judged", why, "·", "⏸️")


def _yet(measured: Performance, name: str) -> str:
    """What no alarm means: all is as it was, or the evidence that answers are worse is not enough yet."""
    test, metric = measured.t_test, next((one for one in measured.metrics if one.name == name), None)
    if not (test and metric and test.p_value < SURE and test.mean_now > test.mean_before):
        return "Production is as it was in training."
    return (
        f"Answers are worse than on the hold-out, {alerts.beside_holdout(metric)} over the last {metric.rows:,} outcomes, "
        "but not surely beyond the tolerance and what a hold-out of this size leaves to chance. A limit in [monitor.limits] is quicker."
    )


def _page(found: Findings, most: int) -> Page:
    standing = _by_weight(found.open_incidents())
    more = [f"{len(standing) - MOST_REASONS} more are in the table."] if len(standing) > MOST_REASONS else []
    sections = [
        _incidents(standing),
        _over([one for one in found.incidents if not one.open]),
        _days(found),
        *_columns(found, most),
        *_performance(found),
        _outcomes(found),
        _versions(found),
        _notes(found),
    ]
    return Page(
        f"{found.name}, {found.environment}",
        TONES[found.verdict],
        headline(found),
        [*(one.words for one in standing[:MOST_REASONS]), *more, *(found.notes if found.verdict == "unknown" else [])],
        [section for section in sections if section],
        PICTURES,
        _tiles(found),
    )


def _tiles(found: Findings) -> list[tuple[str, str, str]]:
    """The key figures: name, value and a remark."""
    standing = found.open_incidents()
    days = len({row.day for row in found.days if row.rows})
    tiles = [("open incidents", f"{len(standing)}", "")]
    for row in _decisive(found):
        estimated = {each.name: each.value for each in found.estimated}.get(row.name)
        beside = f"hold-out {number(row.holdout)}" if known(row.holdout) else ""
        tiles.append((f"{in_words(row.name)}, measured", number(row.value), beside))
        if known(estimated):
            tiles.append((f"{in_words(row.name)}, estimated", number(estimated), "without outcomes"))
    if found.days:
        rows, span = sum(row.rows for row in found.days), len({row.day for row in found.days})
        tiles.append(
            (
                "rows",
                f"{rows:,}",
                "on one day" if days == 1 else f"on {days} of {span} days" if days < span else f"on {days} days",
            )
        )
    return tiles


def _decisive(found: Findings) -> list[Measured]:
    rows = found.performance.metrics
    return [row for row in rows if row.name == found.daily_metric] or rows[:1]


# --- incidents ---


def _by_weight(incidents: Sequence[Incident]) -> list[Incident]:
    """What is worst first: broken data and falling performance, then by evidence."""
    order = {"data_broken": 0, "performance": 1}
    return sorted(incidents, key=lambda one: (order.get(one.kind, 2), -one.evidence, one.since, one.column or ""))


def _kind(one: Incident) -> str:
    return alerts.KINDS[one.kind].words


def _incidents(standing: Sequence[Incident]) -> Section | None:
    if not standing:
        return None
    several = len({one.version for one in standing}) > 1
    heads = ("column", "incident", "since", "noticed", "then → now", "of what", "rows", *(["version"] if several else []), "evidence")  # fmt: skip
    rows: list[list[Cell]] = [
        [
            Name(one.column) if one.column is not None else "all rows",
            f"{_kind(one)}: {alerts.CHECKS[one.check]}",
            one.since,
            one.alarm_day,
            change(one),
            one.unit or "–",
            f"{one.rows:,}",
            *([Name(one.version)] if several else []),
            number(one.evidence, 1),
        ]
        for one in standing
    ]
    notes = [
        "Then: at release, or the limit; now and rows: since the first day. Evidence: 1 is an alarm. All columns and days together share the budget of false alarms."
    ]
    return Section("Open incidents", [], Table(heads, rows, words=(0, 1, 5, *([7] if several else []))), notes)


def change(one: Incident) -> str:
    """The figure that moved, at release and now: shares in percent."""
    return _then_now(lambda value: alerts.figure(one, value), one.before, one.now)


def _over(ended: Sequence[Incident]) -> Section | None:
    if not ended:
        return None
    heads = ("column", "incident", "since", "over on", "then → now", "rows")
    rows = [
        (
            Name(one.column) if one.column is not None else "all rows",
            f"{_kind(one)}: {alerts.CHECKS[one.check]}",
            one.since,
            one.closed_day or "–",
            change(one),
            f"{one.rows:,}",
        )
        for one in sorted(ended, key=lambda one: one.closed_day or "", reverse=True)
    ]
    return Section("Incidents that are over", [], Table(heads, rows, words=(0, 1)))


# --- columns ---


def _days(found: Findings) -> Section | None:
    if not found.days:
        return None
    days = sorted({row.day for row in found.days})
    span = f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"
    none = len(days) - len({row.day for row in found.days if row.rows})
    without = f", {none:,} of these {len(days):,} days without any" if none else ""
    sentence = f"{sum(row.rows for row in found.days):,} rows {span}{without}. Days are UTC days."
    first = [f"Version {one.version} answers since {one.day}." for one in found.releases]
    return Section("Day by day", [sentence], notes=first, plots=("evidence", "rows"))


def _columns(found: Findings, most: int) -> list[Section]:
    if not found.columns:
        return []
    ranked = sorted(found.columns, key=lambda one: -(one.evidence if known(one.evidence) else -1))
    shown = ranked[:most]
    several = len({one.version for one in found.columns}) > 1
    head = ["column", *(["version"] if several else [])]
    firsts: list[list[Cell]] = [[Name(one.name), *([Name(one.version)] if several else [])] for one in shown]
    judged = Table(
        [*head, "kind", "rows", "evidence", "empty, then → now", "outside", "unseen", "result"],
        [[*first, *_judged(one)] for first, one in zip(firsts, shown, strict=True)],
        words=(*range(len(head) + 1), len(head) + 6),
    )
    distances = Table(
        [*head, "mean, then → now", "KS", "PSI", "chi²", "Wasserstein", "p", "p, adjusted"],
        [[*first, *_distances(one)] for first, one in zip(firsts, shown, strict=True)],
        words=range(len(head)),
    )
    alarms, drifted = sum(one.alarm for one in found.columns), sum(one.drifted for one in found.columns)
    total = f"{len(found.columns):,} column{'s' if len(found.columns) > 1 else ''}"
    more = [f"{len(ranked) - len(shown):,} more are in monitor.json."] if len(shown) < len(ranked) else []
    return [
        Section(
            "Columns",
            [f"{alarms} of {total} with an alarm."],
            judged,
            [
                "Evidence: 1 is an alarm. Outside: of the range that the contract knows. Unseen: values that it does not know.",
                *more,
            ],
            plots=("distributions",),
        ),
        Section(
            "Distances to training",
            [
                f"Numbers of the last days, which call nobody. By the usual rule, p below 0.05, {drifted} of {total} would count as drifted."
            ],
            distances,
            ["p, adjusted: by Benjamini and Hochberg, over all columns.", *more],
        ),
    ]


def _judged(one: ColumnRow) -> list[Cell]:
    return [
        one.kind,
        f"{one.rows:,}",
        number(one.evidence, 2),
        _then_now(alerts.percent, one.missing_before, one.missing_now),
        alerts.percent(one.outside),
        alerts.percent(one.unseen),
        Mark("▲", "alarm", "worse") if one.alarm else Mark("=", "quiet", "quiet"),
    ]


def _distances(one: ColumnRow) -> list[Cell]:
    digits = places(one.mean_before, one.mean_now, figures=4)
    return [
        _then_now(lambda value: number(value, digits), one.mean_before, one.mean_now),
        number(one.ks, 3),
        number(one.psi, 3),
        number(one.chi2, 1),
        number(one.wasserstein, 3),
        _p(one.p_value),
        _p(one.p_adjusted),
    ]


def _then_now(written: Callable[[float | None], str], before: float | None, now: float | None) -> str:
    return f"{written(before)} → {written(now)}" if known(before) or known(now) else "–"


def _p(value: float | None) -> str:
    return "< 0.0001" if known(value) and value < 0.0001 else number(value, 4)


# --- performance ---


def _performance(found: Findings) -> list[Section]:
    one = found.performance
    if not found.days:
        return []
    sections = [_measured(found)]
    if one.limits:
        rows = [
            (
                in_words(limit.metric),
                number(limit.value),
                setting(limit.limit),
                f"{limit.rows:,}",
                _holds(limit.value, limit.broken),
            )
            for limit in one.limits
        ]
        heads = ("metric", "measured", "limit", "outcomes", "result")
        sections.append(Section("Absolute limits", [], Table(heads, rows, words=(0, 4))))
    if one.slices:
        worst = sorted(one.slices, key=lambda row: (-row.wrong, -row.loss))[:MOST_ROWS]
        table = Table(
            ("slice", "outcomes", "wrong", "mean loss"),
            [(Name(row.slice), f"{row.rows:,}", alerts.percent(row.wrong), number(row.loss)) for row in worst],
        )
        notes = [
            "Wrong: the share of wrong answers; for a regression, of errors larger than four in five were at release."
        ]
        sections.append(Section("Slices", ["The worst first."], table, notes))
    return sections


def _measured(found: Findings) -> Section:
    one, estimated = found.performance, {each.name: each for each in found.estimated}
    heads = ("metric", "measured", "interval", "hold-out", "estimated", "outcomes", "measured is")
    rows: list[tuple[Cell, ...]] = []
    for row in one.metrics:
        guess = estimated.pop(row.name, None)
        digits = places(row.value, row.holdout, row.low, row.high, figures=4)
        interval = (
            f"{number(row.low, digits)} to {number(row.high, digits)}" if known(row.low) and known(row.high) else "–"
        )
        rows.append((in_words(row.name), number(row.value, digits), interval, number(row.holdout, digits),
                     number(guess.value if guess else None, digits), f"{row.rows:,}", _beside(row)))  # fmt: skip
    for each in estimated.values():
        rows.append((in_words(each.name), "–", "–", "–", number(each.value), "0", Mark("·", "not measured", "quiet")))
    sentences = []
    if not one.metrics:
        sentences.append(
            "No outcome that can be used has come for the rows of the last days, so performance is not measured. The service takes outcomes at /feedback."
        )
    if known(one.coverage):
        sentences.append(f"Of the rows that are old enough, {alerts.percent(one.coverage)} have an outcome.")
    if known(half := one.delay_seconds.get("0.5")):
        most = one.delay_seconds.get("0.9")
        tail = f", nine in ten after {_duration(most)}" if known(most) else ""
        sentences.append(f"Half of the outcomes came after {_duration(half)}{tail}.")
    if test := one.t_test:
        sentences.append(
            f"Mean loss of the last {test.rows:,} rows with outcomes: {number(test.mean_now)}, on the hold-out "
            f"{number(test.mean_before)} (Welch's t {number(test.t, 2)}, p {_p(test.p_value)}); a number that calls nobody."
        )
    notes = ["Interval: 95 % confidence. Estimated: what the model's own probabilities promise, before outcomes come."]
    return Section(
        "Performance",
        sentences,
        Table(heads, rows, words=(0, 6)) if rows else None,
        notes if rows else (),
        plots=("performance",),
    )


def _beside(row: Measured) -> Mark:
    """Whether the whole interval is on one side of the hold-out's value."""
    if not (known(row.holdout) and known(row.low) and known(row.high)):
        return Mark("·", "not compared", "quiet")
    if row.low <= row.holdout <= row.high:
        return Mark("=", "as at release", "quiet")
    better = (row.value > row.holdout) == row.higher_is_better
    return Mark("▲", "better", "better") if better else Mark("▼", "worse", "worse")


def _holds(value: float | None, broken: bool) -> Mark:
    if value is None:
        return Mark("·", "too few outcomes", "quiet")
    return Mark("✕", "broken", "worse") if broken else Mark("✓", "holds", "better")


def _duration(seconds: float | None) -> str:
    """A time in the largest unit that leaves at least one and a half of it."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if known(seconds) and seconds >= 1.5 * size:
            return f"{number(seconds / size, 1).removesuffix('.0')} {unit}"
    return f"{number(seconds, 0)} seconds"


def _outcomes(found: Findings) -> Section | None:
    one = found.outcomes
    counted = (
        ("matched to a row", one.matched),
        ("late: after the window", one.late),
        ("sent again", one.repeated),
        ("without a request in the log", one.orphaned),
        ("of an unknown class or type", one.unknown),
    )
    if not any(count for _, count in counted):
        return None
    return Section(
        "Outcomes that came", [], Table(("outcomes", "count"), [(what, f"{count:,}") for what, count in counted])
    )


# --- what was judged ---


def _versions(found: Findings) -> Section | None:
    if not found.versions:
        return None
    rows = [
        (
            Name(one.version),
            f"{one.first_day} to {one.last_day}",
            f"{one.rows:,}",
            Mark("✓", "judged", "better")
            if one.judged
            else Mark("·", f"not judged: {one.why_not or 'no reason is recorded'}", "quiet"),
        )
        for one in found.versions
    ]
    return Section("Versions", [], Table(("version", "days (UTC)", "rows", "result"), rows, words=(0, 1, 3)))


def _notes(found: Findings) -> Section | None:
    return Section("Notes", found.notes) if found.notes and found.verdict != "unknown" else None
