"""An experiment, to read: Markdown for GitHub, one HTML file that needs nothing else, and a few lines for a terminal.

The order is that in which one may look: who stopped it, whether the subjects were divided as they should be, and then the difference.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.evaluation import pages
from pipeline.evaluation.findings import Cell, Headline, Name, Section, Table
from pipeline.evaluation.pages import Page
from pipeline.evaluation.wording import Mark, clean, in_words, known, number, places, signed
from pipeline.experiments.judgement import Agreement, Arm, Guardrail, Judgement, Look
from pipeline.experiments.paired import Paired
from pipeline.experiments.welch import Welch
from pipeline.registry.experiments import ExperimentRecord, Phase

PICTURES = {
    "difference": "Difference of the means, B minus A, by day, with its confidence sequence and a line at zero; below, the subjects with "
    "outcomes. Grey days belong to earlier shares and are not counted."
}
WIDEST = 140  # columns of a terminal that the table takes at most
MOST_LOOKS = 60  # of the table, the last ones; experiment.json has all
TONES = {
    "running": "keep",
    "no difference so far": "keep",
    "B better": "accept",
    "A better": "warn",
    "sample ratio mismatch": "refuse",
    "stopped itself": "refuse",
}
COLOURS = {"accept": "green", "warn": "yellow", "refuse": "red", "keep": "default"}  # of the terminal
SIGNS = {
    "running": ("·", "⏳"),
    "no difference so far": ("=", "⏳"),
    "B better": ("▲", "✅"),
    "A better": ("▼", "📉"),
    "sample ratio mismatch": ("✕", "❌"),
    "stopped itself": ("✕", "🛑"),
}


def markdown(judged: Judgement, record: ExperimentRecord) -> str:
    """The page for a job's summary."""
    return pages.markdown(_page(judged, record))


def html(judged: Judgement, record: ExperimentRecord, plots: Mapping[str, bytes] | None = None) -> str:
    """The page as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    return pages.html(_page(judged, record), plots)


def headline(judged: Judgement) -> Headline:
    """The verdict in words."""
    sign, icon = SIGNS[judged.verdict]
    word = judged.verdict[0].upper() + judged.verdict[1:]
    if judged.verdict == "running":
        word = "Nothing to judge yet" if judged.state != "ended" else "Nothing was judged"
        word = word if judged.until else "Not counted"
    elif judged.verdict == "no difference so far" and judged.state == "ended":
        word = "No difference was found"
    elif judged.verdict in ("A better", "B better"):
        word = f"Version {clean(judged.challenger if judged.verdict[0] == 'B' else judged.champion, 40)} ({judged.verdict[0]}) is better"
    said = judged.verdict[0].upper() + judged.verdict[1:]
    words = clean(judged.words, 600).removeprefix(f"{judged.verdict}: ").removeprefix(f"{said}: ")
    return Headline(word, words[:1].upper() + words[1:], sign, icon)


def next_steps(judged: Judgement, record: ExperimentRecord) -> list[str]:
    """What a reader may do now, with the commands."""
    if judged.state == "ended":
        kept = {"A": f"Version {judged.champion} stayed.", "B": f"Version {judged.challenger} replaced it."}
        why = f": {clean(record.reason, 300)}" if record.reason else ""
        return [f"Ended on {_when(record.ended)} (UTC){why}.", *([kept[record.winner]] if record.winner else [])]
    if judged.state in ("starting", "stopping"):
        return [f"It is {judged.state}. Where the command that did so was killed, `make status` says what came of it."]
    look = "You may look again on any day: the band holds for all days at once, so looking often makes no mistake likelier."
    then = f": version {judged.champion} answers everybody" if judged.mode == "ab" else ""
    end = f"`make experiment-stop` ends it{then}."
    win = f"`make experiment-stop WINNER=B` ends it and promotes version {judged.challenger}, by way of the gate, staging and the canary."
    match judged.verdict:
        case "running" if not judged.until:
            return [
                "`make experiment` counts where the prediction log is, or with SLIPWAY_DATABASE_URL set (docs/monitoring.md)."
            ]
        case "running":
            return [look]
        case "no difference so far":
            more = f"Let it run on, or give it up. {end}"
            faster = "`make experiment-share SHARE=0.5` gives B more subjects, and begins counting anew."
            return [look, more, *([faster] if judged.mode == "ab" and judged.share < 0.5 else [])]
        case "B better" if judged.mode == "shadow":
            return [win, "If decisions taken on the answers change the outcomes, only an experiment in mode ab tells which model is better."]  # fmt: skip
        case "B better":
            return [win]
        case "A better":
            return [end]
        case "sample ratio mismatch":
            return [
                "No difference is shown, for it would be none of the model's. Find out who is missing on one side (docs/experiments.md), mend it, and start again under another name.",
                end,
            ]
        case _:
            return [
                "`make experiment-stop` ends it; docs/runbooks/experiment-stopped-itself.md says what to look for.",
            ]


def terminal(judged: Judgement, record: ExperimentRecord, page: Path) -> None:
    """Print the verdict, both variants side by side, what to do next, and where the page is."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    head = headline(judged)
    # As wide as the table: a narrower terminal wraps its lines, rather than losing the ends of figures.
    console = Console(highlight=False, soft_wrap=True, width=max(WIDEST, Console().width))
    title = f"{head.sign} {judged.experiment} ({judged.mode}): {head.word}"
    console.print(Text(title, style=f"bold {COLOURS[TONES[judged.verdict]]}"))
    console.print(Text(f"  {head.meaning}"))
    grid = Grid(box=None, padding=(0, 2), pad_edge=True)
    heads = ("", "version", "subjects", "with outcomes", "requests", "mean", "deviation")
    for place, word in enumerate(heads):
        grid.add_column(word, justify="left" if place == 0 else "right", no_wrap=True)
    for arm in (judged.a, judged.b):
        mean, deviation = _mean(arm, judged)
        grid.add_row(
            arm.variant,
            clean(arm.version, 20),
            f"{arm.subjects:,}",
            f"{arm.measured:,}",
            f"{arm.requests:,}",
            mean,
            deviation,
        )
    if judged.until:
        console.print(grid)
    if _comparable(judged):
        console.print(Text(f"  B − A, {judged.measure}: {_difference(judged)}"))
    for line in next_steps(judged, record):
        console.print(Text(f"  {line}"))
    for note in judged.notes:
        console.print(Text(f"  note: {clean(note, 300)}"))
    console.print(Text(f"  the whole page: {page}"))


# --- the page ---


def _page(judged: Judgement, record: ExperimentRecord) -> Page:
    counted = judged.a.requests or judged.b.requests
    mismatch = judged.verdict == "sample ratio mismatch"
    sections = [
        _ratio(judged) if mismatch else None,
        None if mismatch or not judged.until else _difference_section(judged),
        _variants(judged) if counted else None,
        None if mismatch else _ratio(judged),
        None if mismatch else _fixed(judged),
        _agreement(judged.agreement),
        _paired(judged.paired),
        _guardrails(judged.guardrails),
        _left_out(judged),
        _phases(judged, record.phases),
        Section("Notes", judged.notes) if judged.notes else None,
        None if mismatch else _looks(judged),
    ]
    tone = TONES[judged.verdict]
    return Page(
        f"{judged.model}, experiment {judged.experiment}",
        tone,
        headline(judged),
        [line.replace("`", "") for line in next_steps(judged, record)],
        [section for section in sections if section],
        PICTURES,
        _tiles(judged),
    )


def _tiles(judged: Judgement) -> list[tuple[str, str, str]]:
    """The key figures: name, value and a remark."""
    a, b, share = judged.a, judged.b, f"{100 * judged.share:.4g} %"
    tiles = [
        ("mode", judged.mode, f"{share} of the subjects get B" if judged.mode == "ab" else f"callers get A; B is asked for {share} of the requests"),
        ("versions", f"{clean(judged.champion, 12)} | {clean(judged.challenger, 12)}", "A in production | B"),
    ]  # fmt: skip
    if _comparable(judged):
        digits = _digits(judged)
        tiles.append(("B − A", signed(judged.difference, digits), _between(judged.low, judged.high, digits)))
    if a.measured or b.measured:
        if judged.mode == "shadow":
            tiles.append(("subjects with outcomes", f"{a.measured:,}", "of both answers"))
        else:
            parts = f"A {a.measured:,}, B {b.measured:,}"
            tiles.append(("subjects with outcomes", f"{a.measured + b.measured:,}", parts))
    return tiles


def _difference_section(judged: Judgement) -> Section:
    better = "higher is better" if judged.higher_is_better else "lower is better"
    if not known(judged.difference):
        why = "No difference can be told yet: it takes outcomes of subjects on both sides."
        if judged.mode == "shadow":
            why = "No difference can be told yet: it takes outcomes of rows that both models answered."
        return Section("The difference", [f"Compared is: {judged.measure} ({better}). {why}"])
    day = f"The last day is {judged.looks[-1].day} (UTC). " if judged.looks else ""
    decided = ""
    if judged.decided_day:
        over = judged.state == "ended" or judged.decided_day != judged.time[:10]
        decided = (
            f"The band left zero on {judged.decided_day}; later days do not undo that. "
            if over
            else "The band has left zero today, and the day is not over. "
        )
    rule = "decide when it leaves zero, and not before."
    if judged.verdict == "stopped itself":
        rule = "but no winner is taken from an experiment that was stopped, for the moment of the stop was no accident."
    relative = f" That is {signed(100 * judged.relative, 1)} % of A's mean." if known(judged.relative) else ""
    return Section(
        "The difference",
        [
            f"Compared is: {judged.measure} ({better}). B − A is {_difference(judged)}.{relative}",
            f"{day}{decided}The band covers the true difference on all days at once, in 95 of 100 experiments: {rule}",
        ],
        plots=("difference",),
    )  # fmt: skip


def _variants(judged: Judgement) -> Section:
    heads = ("variant", "version", "subjects", "with outcomes", "requests", "outcomes", "mean", "standard deviation")
    rows: list[list[Cell]] = [
        [
            "A, in production" if arm.variant == "A" else "B, the challenger",
            Name(arm.version),
            f"{arm.subjects:,}",
            f"{arm.measured:,}",
            f"{arm.requests:,}",
            f"{arm.outcomes:,}",
            *_mean(arm, judged),
        ]
        for arm in (judged.a, judged.b)
    ]
    start = f"Since {_when(judged.since)} (UTC)."
    unit = "A subject counts once: its mean over its rows."
    return Section("Both variants", [f"{start} {unit}"], Table(heads, rows, words=(0, 1)))


def _ratio(judged: Judgement) -> Section | None:
    one = judged.ratio
    if one is None:
        return None
    result = Mark("✕", "not as set", "worse") if one.mismatch else Mark("✓", "as set", "better")
    rows = [
        (
            "subjects of B",
            f"{100 * one.expected:.4g} %",
            f"{100 * one.found:.4g} %",
            number(one.chi2, 2),
            _p(one.p_value),
            result,
        )
    ]
    notes = ["Looked at before any result: if subjects are missing on one side, something decides who is counted, and the difference is no effect of the model."]  # fmt: skip
    return Section("Sample ratio", [], Table(("what", "set", "found", "chi²", "p", "result"), rows, words=(0, 5)), notes)  # fmt: skip


def _fixed(judged: Judgement) -> Section | None:
    one: Welch | None = judged.welch
    if one is None:
        return None
    digits = places(one.difference, one.low, one.high)
    rows = [
        (
            "B − A",
            signed(one.difference, digits),
            _between(one.low, one.high, digits),
            number(one.t, 2),
            number(one.df, 1),
            _p(one.p_value),
        )
    ]
    warning = (
        "Right for one look, on a day that was chosen before the start. Whoever looks at it daily and stops below 0.05 is wrong in about one of "
        "four experiments in which nothing differs. The verdict does not use it."
    )
    heads = ("what", "difference", "95 % interval", "t", "degrees of freedom", "p")
    return Section("As if this were the only look", [warning], Table(heads, rows), ["Welch's t-test over subjects."])


def _guardrails(guardrails: Sequence[Guardrail]) -> Section | None:
    if not guardrails:
        return None
    rows = []
    for one in guardrails:
        written = _milliseconds if one.unit == "seconds" else _share
        if one.broken:
            result = Mark("✕", "broken", "worse")
        elif one.a is None or one.b is None:
            result = Mark("·", "not known", "quiet")
        else:
            result = Mark("✓", "holds", "better")
        rows.append((one.name, written(one.a), written(one.b), written(one.limit), result))
    notes = [f"{one.name[0].upper()}{one.name[1:]}: {one.words}." for one in guardrails if one.words]
    return Section("Guardrails", [], Table(("what", "A", "B", "allowed", "result"), rows, words=(0, 4)), notes)


def _agreement(one: Agreement | None) -> Section | None:
    if one is None:
        return None
    total = one.rows + one.unanswered
    rows = [
        ("rows with both answers", f"{one.rows:,}"),
        ("of these, with the same answer", _share(one.same)),
        *([("mean size of the difference", number(one.difference))] if known(one.difference) else []),
        ("rows without an answer of B", f"{one.unanswered:,}{f' ({_share(one.unanswered / total)})' if total else ''}"),
    ]
    notes = ["Without an answer: outside of the sample, dropped because B is too slow, or B had none."]
    return Section("Both answers to the same rows", [], Table(("what", "value"), rows), notes)


def _paired(one: Paired | None) -> Section | None:
    """The gate's own comparison, by the gate's metric."""
    if one is None or not known(one.a) or not known(one.b):
        return None
    digits = max(places(one.a, one.b, figures=4), places(one.difference, one.lower, one.upper))
    result = {
        "B": Mark("▲", "B is better", "better"),
        "A": Mark("▼", "A is better", "worse"),
        "": Mark("=", "not told apart", "quiet"),
    }[one.better]
    row = (
        in_words(one.metric),
        number(one.a, digits),
        number(one.b, digits),
        signed(one.difference, digits),
        _between(one.lower, one.upper, digits),
        result,
    )
    sure = number(100 * one.confidence, 1).removesuffix(".0")
    of = "" if one.subjects is None else f" of {one.subjects:,} subjects"
    sentence = f"By the metric of the gate, on {one.outcomes:,} rows{of} with an outcome."
    notes = [
        f"{sure} % confidence in each bound, by a paired bootstrap. Right for one look: the band above is for every day."
    ]
    return Section(
        "As the gate compares",
        [sentence],
        Table(("metric", "A", "B", "B − A", "interval", "result"), [row], words=(0, 5)),
        notes,
    )


def _left_out(judged: Judgement) -> Section | None:
    if not judged.left_out:
        return None
    rows = [(f"{one.of}: {one.why}", f"{one.number:,}") for one in judged.left_out]
    return Section("What was left out", [], Table(("what", "number"), rows))


def _phases(judged: Judgement, phases: Sequence[Phase]) -> Section | None:
    if not phases:
        return None
    last = len(phases) - 1
    rows = [
        (
            _when(phase.since),
            f"{100 * phase.share:.4g} %",
            Mark("✓", "counted", "better") if place == last and judged.until else Mark("·", "not counted", "quiet"),
        )
        for place, phase in enumerate(phases)
    ]
    notes = (
        ["A larger share moves subjects from A to B. Counted are those of the last share alone, for others have seen both models."]
        if last
        else []
    )  # fmt: skip
    table = Table(("since (UTC)", "share of B", "result"), rows, words=(0, 2))
    return Section("Shares", [], table, notes)


def _looks(judged: Judgement) -> Section | None:
    if not judged.looks:
        return None
    shown = judged.looks[-MOST_LOOKS:][::-1]
    digits = _digits(judged)
    rows = [_look_row(look, digits) for look in shown]
    heads = ("day (UTC)", "with outcomes, A", "B", "mean of A", "of B", "B − A", "band")
    hidden = len(judged.looks) - len(shown)
    notes = [f"{hidden:,} earlier days are in experiment.json."] if hidden else []
    return Section("Day by day", [], Table(heads, rows), notes)


def _look_row(look: Look, digits: int) -> list[Cell]:
    return [
        look.day,
        f"{look.measured_a:,}",
        f"{look.measured_b:,}",
        number(look.mean_a, digits),
        number(look.mean_b, digits),
        signed(look.difference, digits),
        _between(look.low, look.high, digits),
    ]


# --- figures in words ---


def _comparable(judged: Judgement) -> bool:
    """Whether the difference may be shown: where subjects are missing on one side, it is none of the model's."""
    return known(judged.difference) and judged.verdict != "sample ratio mismatch"


def _digits(judged: Judgement) -> int:
    """Decimals that show the difference and its band."""
    return places(judged.difference, judged.low, judged.high)


def _difference(judged: Judgement) -> str:
    digits = _digits(judged)
    return f"{signed(judged.difference, digits)} (band {_between(judged.low, judged.high, digits)})"


def _between(low: float | None, high: float | None, digits: int) -> str:
    return f"{signed(low, digits)} to {signed(high, digits)}" if known(low) and known(high) else "–"


def _mean(arm: Arm, judged: Judgement) -> tuple[str, str]:
    """Mean and standard deviation, with the decimals of the difference."""
    if judged.verdict == "sample ratio mismatch":
        return "–", "–"
    digits = max(_digits(judged), places(judged.a.mean, judged.b.mean)) if known(arm.mean) else 4
    return number(arm.mean, digits), number(arm.deviation, digits)


def _milliseconds(seconds: float | None) -> str:
    return f"{number(1000 * seconds, places(1000 * seconds))} ms" if known(seconds) else "–"


def _share(value: float | None) -> str:
    return f"{number(100 * value, 2)} %" if known(value) else "–"


def _p(value: float | None) -> str:
    return "< 0.0001" if known(value) and value < 0.0001 else number(value, 4)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
