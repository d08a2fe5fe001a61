"""What a replay found, to read: Markdown, one HTML file that needs nothing else, and a few lines for a terminal."""

from collections.abc import Mapping
from datetime import UTC, datetime

from matplotlib.figure import Figure

from pipeline.evaluation import findings, pages
from pipeline.evaluation.figures import BLUE, QUIET, panels_of, styled
from pipeline.evaluation.findings import MOST_ROWS, Cell, Headline, Name, Section, Table
from pipeline.evaluation.pages import Page
from pipeline.evaluation.record import Compared
from pipeline.evaluation.wording import Mark, change, clean, in_words, known, number, places, setting, signed
from pipeline.experiments.paired import Paired
from pipeline.experiments.replay.result import LEVELS, Replay, SliceRow

PICTURES = {"differences": "Rows by how much the answers differ; the first and the last bar hold all that is beyond."}
QUANTILES = (2, 4, 6)  # of LEVELS: three that fit a table
CAUSES = "This holds where an answer does not change its outcome. Where it does, as with an offer or a warning, only an A/B test tells."


def markdown(found: Replay) -> str:
    """The report for a job's summary."""
    return pages.markdown(_page(found))


def html(found: Replay, plots: Mapping[str, bytes] | None = None) -> str:
    """The report as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    return pages.html(_page(found), plots)


def terminal(found: Replay) -> list[str]:
    """The verdict and the figures that one wants first, in lines."""
    head = headline(found)
    lines = [f"{found.challenger} on {found.rows:,} rows of {found.environment}: {head.word[0].lower()}{head.word[1:]}"]
    lines += [
        f"  {label}: {figure}{f' ({note})' if note else ''}" for label, figure, note in _tiles(found) if label != "rows"
    ]
    lines += [f"  refused: {rows:,} rows: {clean(why, 200)}" for why, rows in found.refused.items()]
    lines += [f"  left out: {rows:,} rows {clean(why, 200)}" for why, rows in found.left_out.items()]
    return [*lines, *(f"  note: {note}" for note in found.notes)]


def figures_for(found: Replay) -> dict[str, Figure]:
    """Every figure that there is something to show in, by name."""
    return {"differences": differences(found)} if found.histogram else {}


@styled
def differences(found: Replay) -> Figure:
    """A histogram of B - A over the rows. Needs a replay with a histogram."""
    if found.histogram is None:
        raise ValueError("no histogram")
    figure, (axes,) = panels_of("How far the answers are apart", 8.1, 3.2, 1)
    axes.stairs(found.histogram.counts, found.histogram.edges, fill=True, facecolor=BLUE, edgecolor="white")
    axes.axvline(0, color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
    what = f"probability of {found.shifts[0].of}" if found.classes else "value, in units of the target"
    axes.set(xlabel=f"{found.challenger} − production, {what}", ylabel="rows")
    axes.grid(True, axis="y")
    return figure


def headline(found: Replay) -> Headline:
    """What the replay says, in a word."""
    span = f"{_day(found.since)} to {_day(found.until)} (UTC)"
    meaning = f"{_capital(found.challenger)} was asked the rows that {found.environment} answered from {span}. Nobody got its answers."
    if found.note:
        return Headline("Not replayed", found.note, "·", "⏸️")
    if not found.rows:
        return Headline("No row answered", meaning, "✕", "❌")
    if found.same():
        return Headline("Same answers", meaning, "=", "⏸️")
    match found.paired.better if found.paired else "":
        case "B":
            return Headline("Better on these rows", meaning, "▲", "✅")
        case "A":
            return Headline("Worse on these rows", meaning, "▼", "❌")
        case _:
            if found.classes and found.agreement() == 1:
                return Headline("The same classes, with other probabilities", meaning, "≈", "🔍")
            differ = _percent(1 - found.agreement())
            none = "; no difference in quality is shown" if found.paired and found.paired.outcomes else ""
            return Headline(f"{differ} of the answers differ{none}", meaning, "≠", "🔍")


def _tone(found: Replay) -> str:
    if found.rows and found.paired and found.paired.better and not found.same():
        return "accept" if found.paired.better == "B" else "refuse"
    return "warn" if found.refused else "keep"


def _page(found: Replay) -> Page:
    refused = sum(found.refused.values())
    reasons = [f"{_capital(found.challenger)} has no answer to {refused:,} of the rows."] if refused else []
    parts = [outcomes(found), _confusion(found), _shifts(found), _slices(found), _examples(found), _rows(found)]
    sections = [part for part in parts if part] if found.rows else [part for part in [_rows(found)] if part]
    return Page(
        f"{found.name}, replay of {found.environment}",
        _tone(found),
        headline(found),
        [*reasons, *found.notes],
        [] if found.note else sections,
        PICTURES,
        [] if found.note else _tiles(found),
    )


def _tiles(found: Replay) -> list[tuple[str, str, str]]:
    tiles = [
        ("rows", f"{found.rows:,}", "" if found.share == 1 else f"about {setting(100 * found.share)} % of all"),
        ("same answers", _percent(found.agreement()), ""),
    ]
    one = found.paired
    if one and one.outcomes:
        b, a, difference, interval = findings.compared(as_compared(one))
        metric = in_words(one.metric)
        mark = change(as_compared(one), one.higher_is_better)
        tiles += [
            (f"{metric}, {found.challenger}", b, ""),
            (f"{metric}, production", a, f"{one.outcomes:,} outcomes"),
            ("difference", difference, f"{mark.word}: {interval}" if interval != "–" else mark.word),
        ]
    return tiles


def as_compared(one: Paired) -> Compared:
    """B in the candidate's place, A in production's."""
    return Compared(candidate=one.b, production=one.a, difference=one.difference, lower=one.lower, upper=one.upper)


def outcomes(found: Replay) -> Section:
    """Both models beside what turned out to be true."""
    one = found.paired
    heading = "Beside the outcomes"
    if one is None or not one.outcomes:
        return Section(
            heading,
            ["No outcome of these rows has come yet, so nothing says which answers are better. /feedback takes them."],
        )
    row = as_compared(one)
    heads = ("metric", found.challenger, "production", "difference", "interval", f"{found.challenger} is")
    cells = [(in_words(one.metric), *findings.compared(row), change(row, one.higher_is_better))]
    about = f"; they are of {one.subjects:,} subjects" if one.subjects is not None else ""
    sure = number(100 * one.confidence, 1).removesuffix(".0")
    notes = [
        f"Difference: {found.challenger} − production. Interval: {sure} % confidence in each bound, by the gate's paired bootstrap over the "
        + ("subjects: rows of one are drawn together." if one.subjects is not None else "rows."),
        *(["A row without a subject counts as one of its own."] if one.subjects is not None else []),
        "▲ ▼ the whole interval says so. △ ▽ the estimate says so, the interval does not.",
    ]
    sentence = f"{one.outcomes:,} of the {one.rows:,} rows have an outcome{about}. {CAUSES}"
    return Section(heading, [sentence], Table(heads, cells, words=(0, 5), strong=0), notes)


def _confusion(found: Replay) -> Section | None:
    if not found.classes:
        return None
    shown = found.classes[:8]  # more columns than that fit no page
    heads = ("production answered", *(f"{found.challenger}: {name}" for name in shown), "rows")
    cells: list[tuple[Cell, ...]] = [
        (Name(name), *(f"{count:,}" for count in row[: len(shown)]), f"{sum(row):,}")
        for name, row in zip(found.classes[:MOST_ROWS], found.confusion, strict=False)
    ]
    notes = (
        [f"{len(found.classes) - len(shown)} more classes are in replay.json."]
        if len(shown) < len(found.classes)
        else []
    )
    moved = found.rows - sum(row[place] for place, row in enumerate(found.confusion))
    return Section(
        "From class to class", [f"{moved:,} of {found.rows:,} rows get another class."], Table(heads, cells), notes
    )


def _shifts(found: Replay) -> Section | None:
    if not found.shifts:
        return None
    cells = []
    for one in found.shifts[:MOST_ROWS]:
        digits = places(one.a, one.b, figures=4)
        spread = max(digits, places(*one.quantiles))
        what: Cell = Name(one.of) if one.of else "value"
        moved = [signed(value, spread) for value in (one.b - one.a, *(one.quantiles[place] for place in QUANTILES))]
        cells.append((what, number(one.a, digits), number(one.b, digits), *moved))
    heads = ("probability of" if found.classes else "answer", "production, mean", f"{found.challenger}, mean", "shift",
             *("median" if LEVELS[place] == 0.5 else f"{100 * LEVELS[place]:.0f} %" for place in QUANTILES))  # fmt: skip
    sentence = f"The answers to a row are at most {setting(found.largest)} apart."
    notes = ["Shift: the difference of the means. The columns after it: quantiles of the difference over the rows."]
    return Section("How far the answers are apart", [sentence], Table(heads, cells), notes, ("differences",))


def _slices(found: Replay) -> Section | None:
    if not found.slices:
        return None
    one = found.paired
    told = bool(one and one.outcomes)
    heads = ["slice", "rows", "same answers"]
    shifted = all(row.shift is not None for row in found.slices)
    heads += ["shift"] if shifted else []
    heads += ["outcomes", "difference", "interval", "result"] if told else []
    cells = []
    for row in sorted(found.slices, key=lambda row: not row.worse)[:MOST_ROWS]:
        cell: list[Cell] = [Name(row.slice), f"{row.rows:,}", _percent(row.agreement)]
        cell += [signed(row.shift, places(row.shift))] if shifted else []
        if told and one:
            cell += [f"{row.outcomes:,}", *findings.compared(row)[2:], _mark(row, one.higher_is_better)]
        cells.append(cell)
    sentence = "The slices of pipeline.toml [gate]." + (
        f" Difference in {in_words(one.metric)}: the more slices are judged, the wider each interval."
        if told and one
        else ""
    )
    return Section("Slices", [sentence], Table(heads, cells, words=(0, len(heads) - 1) if told else (0,)))


def _mark(row: SliceRow, higher_is_better: bool) -> Mark:
    if not row.outcomes:
        return Mark("·", "no outcome", "quiet")
    if not row.judged:
        return Mark("·", "not judged: too few", "quiet")
    return Mark("▼", "worse", "worse") if row.worse else change(row, higher_is_better)


def _examples(found: Replay) -> Section | None:
    if not found.examples:
        return None
    named, told = any(one.request_id for one in found.examples), any(one.outcome for one in found.examples)
    heads = ["day", "version", "production", found.challenger, "apart", *(["outcome"] if told else [])]
    heads += ["request"] if named else []
    cells = []
    for one in found.examples:
        digits = places(one.a_value, one.b_value, figures=3)
        a, b = (
            f"{clean(word, 40)} {number(value, digits)}".strip()
            for word, value in ((one.a, one.a_value), (one.b, one.b_value))
        )
        cell: list[Cell] = [one.day, one.version, a, b, number(one.apart, places(one.apart))]
        cell += [one.outcome or "–"] if told else []
        cell += [Name(f"{one.request_id}, row {one.row}")] if named else []
        cells.append(cell)
    words = (0, 1, 2, 3, *range(5, len(heads)))
    what = "A class and its probability. " if found.classes else ""
    sentence = f"The rows whose answers are furthest apart. {what}Their features stay in the prediction log."
    return Section("Largest differences", [sentence], Table(heads, cells, words=words))


def _rows(found: Replay) -> Section | None:
    cells: list[tuple[Cell, ...]] = [
        (f"compared, answered by version {version}", f"{rows:,}") for version, rows in found.versions.items()
    ]
    cells += [(Name(f"refused by {found.challenger}: {why}"), f"{rows:,}") for why, rows in found.refused.items()]
    cells += [(f"left out: {why}", f"{rows:,}") for why, rows in found.left_out.items()]
    sentences = ["Rows that callers got an answer to; delivery's own tests are none of them."]
    if found.share < 1:
        sentences.append(
            f"The log has more, so about {setting(100 * found.share)} % of the requests were drawn, by a hash of their ids."
        )
    return Section("Rows", sentences, Table(("rows", "number"), cells[:MOST_ROWS])) if cells else None


def _percent(share: float | None) -> str:
    """A share in percent; one that is not quite all, or not quite nothing, is never rounded to that."""
    if not known(share):
        return "–"
    digits = 1
    while digits < 6 and 0 < share < 1 and f"{100 * share:.{digits}f}" in (f"{100:.{digits}f}", f"{0:.{digits}f}"):
        digits += 1
    return f"{100 * share:.{digits}f} %"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
