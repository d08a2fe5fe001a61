"""The comment on a pull request, as Markdown made here from the report's numbers and texts.

Every text of the report is shown letter by letter: the report may be a stranger's. The HTML tags are ours only.
"""

from collections.abc import Sequence

from pipeline.data import drift
from pipeline.evaluation import record, report
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.report import Cell, Mark, Name, Section, Table
from pipeline.pull_request.schema import Change, Data, PullRequest

MOST = 60_000  # characters; GitHub takes 65,536
HEADER = "slipway"  # by this a later comment finds the earlier one, to replace it
LABEL = 36  # characters of a name under a bar

AS_STAGE = {
    "validate": "The data was not validated",
    "validate-model": "The model's code did not pass its checks",
    "train": "The model was not trained",
    "evaluate": "The candidate was not compared",
}
WHAT_TO_DO = {
    "validate": "Correct the data, or the rule in project/checks.py that does not hold.",
    "validate-model": "Correct project/model.py, or the rule in project/checks.py that does not hold.",
    "train": "The log of the step says why.",
    "evaluate": "The log of the step says why.",
}


def markdown(found: PullRequest, link: str, head: str | None) -> str:
    """The whole comment; `link` and `head` are of the run and commit as GitHub says, not as the report says."""
    blocks = [
        [f"## {title(found)}: {report.code(found.name)}", ""],
        [f"**On merge:** {on_merge(found)}", ""],
        *findings(found),
        _footer(found, link, head),
    ]
    return fitted(blocks, MOST)


def findings(found: PullRequest) -> list[list[str]]:
    """Everything that was found, in blocks that are shown whole or not at all."""
    blocks = [_reasons(found)]
    if found.evaluation:
        evaluation = record.of_plain(found.evaluation.model_dump())
        parts = report.findings(evaluation)
        blocks += [section(parts["metrics"]), _scores(evaluation)]
        blocks += [section(parts[about]) for about in ("power", "limits") if about in parts]
        blocks += [_folded(parts[about]) for about in ("slices", "portable") if about in parts]
    if found.data:
        blocks += [_moved(found.data.change), _folded(_changes(found.data)), *_failed_checks(found.data)]
    return [block for block in blocks if block]


def fitted(blocks: Sequence[Sequence[str]], most: int) -> str:
    """As many whole blocks as `most` characters hold, and a note of how many are left out; the last block always stays."""
    note = "_{} sections are left out, for a comment holds only so much: the artifacts of the run have them all._"
    *body, last = ["\n".join(block) for block in blocks]
    room = most - len(last) - len(note) - 10
    kept: list[str] = []
    for block in body:
        if len(block) + 1 <= room:
            kept.append(block)
            room -= len(block) + 1
    left = len(body) - len(kept)
    return "\n".join([*kept, *([note.format(left), ""] if left else []), last]) + "\n"


# --- the verdict ------------------------------------------------------------------------------------------------------


def title(found: PullRequest) -> str:
    """The verdict as a sign and a word."""
    if found.evaluation is None:
        return "❌ Failed"
    if found.production_unknown and found.evaluation.verdict != "refuse":
        return "⚠️ Not compared"
    head = report.headline(record.of_plain(found.evaluation.model_dump()))
    return f"{head.icon} {head.word}"


def on_merge(found: PullRequest) -> str:
    """What a delivery of this would do, in one sentence."""
    one = found.evaluation
    if one is None:
        return "the delivery would be red at the same place, and production stays as it is."
    stays = f"version {one.production.version} stays in production" if one.production else "nothing goes to production"
    if one.verdict == "refuse":
        return f"the delivery would be red, and {'production stays as it is' if found.production_unknown else stays}."
    if found.production_unknown:
        return "the delivery compares it with the production model first, which could not be read here."
    if one.verdict == "keep":
        return f"nothing changes: {stays}."
    number = f"as version {one.next_version}" if one.next_version else "as the next version"
    place = f"in the place of version {one.production.version}" if one.production else "as the first model"
    return (
        f"the model is trained again and, if the verdict is the same, registered {number}, packed into an image, "
        f"tested in staging and put into production {place}."
    )


def _reasons(found: PullRequest) -> list[str]:
    lines = []
    if found.production_unknown:
        lines += ["The production model could not be read, so the comparison with it is missing.", ""]
    if found.failed_stage:
        verb = found.failed_stage
        lines += [f"{AS_STAGE[verb]}: `make {verb}` failed or did not run. {WHAT_TO_DO[verb]}", ""]
        lines += [f"- {report.line_of(failure)}" for failure in found.failures]
    elif found.evaluation and not (found.production_unknown and found.evaluation.verdict != "refuse"):
        lines += [f"- {report.line_of(reason)}" for reason in found.evaluation.reasons]
    return [*lines, ""] if lines else []


# --- sections ---------------------------------------------------------------------------------------------------------


def section(one: Section) -> list[str]:
    """A section with its heading."""
    return [f"### {one.heading}", "", *report.markdown_section(one)]


def _folded(one: Section) -> list[str]:
    lines = report.markdown_section(one)
    return [f"<details><summary>{report.prose(one.heading)}</summary>", "", *lines, "</details>", ""]


def _changes(data: Data) -> Section:
    """The data beside what production was trained on."""
    sentences = [f"{data.rows:,} rows, {data.columns:,} columns; {data.passed} of {data.checks} checks passed."]
    change = data.change
    if change is None:
        return Section("Data", [*sentences, "There is no production model whose data this could be compared with."])
    sentences += [_rows(change)]
    for names, what in ((change.columns_added, "new"), (change.columns_removed, "gone")):
        if names:
            sentences.append(f"Columns that are {what}: {', '.join(names)}.")
    rows: list[tuple[Cell, ...]] = [
        (Name(one.column), report.number(one.psi, 3), _mark(one.psi), *map(_percent, one.missing.model_dump().values()))
        for one in change.drift
    ]
    table = Table(("column", "PSI", "meaning", "empty then", "empty now"), rows, words=(0, 2)) if rows else None
    notes = [
        "PSI: population stability index of the rows to train on against those of production, over the deciles of then.",
        f"From {drift.MODERATE} a column has moved, from {drift.LARGE} it has moved far. Few rows alone make it larger.",
    ]
    return Section(f"Data beside that of version {change.version}", sentences, table, notes if rows else ())


def _rows(change: Change) -> str:
    if change.same:
        return f"It is the very data of version {change.version}: no row added, none removed."
    if change.rows_before is None:
        return f"How many rows version {change.version} was made from is not known."
    more = change.rows - change.rows_before
    words = f"{abs(more):,} {'more' if more > 0 else 'fewer'} than" if more else "as many as"
    return f"{words.capitalize()} the {change.rows_before:,} of version {change.version}; which ones is not known."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _mark(psi: float) -> Mark:
    if psi >= drift.LARGE:
        return Mark("▲", "moved far", "warn")
    return Mark("△", "moved", "warn") if psi >= drift.MODERATE else Mark("·", "as before", "quiet")


def _failed_checks(data: Data) -> list[list[str]]:
    if not data.failed:
        return []
    rows = [(Name(one.column), Name(one.rule), one.severity, Name(one.observed)) for one in data.failed]
    table = Table(("column", "rule", "severity", "observed"), rows, words=range(4))
    return [_folded(Section("Data checks that failed", (), table))]


def _footer(found: PullRequest, link: str, head: str | None) -> list[str]:
    commit = head or found.commit
    lines = [f"[The report with all figures is among the artifacts of this run.]({link})", ""] if link else []
    return [*lines, f"<sub>commit {report.code(commit[:12])}</sub>"] if commit else lines


# --- charts -----------------------------------------------------------------------------------------------------------


def _scores(evaluation: Evaluation) -> list[str]:
    """Candidate and production by metric, side by side, as a chart of those metrics that are between 0 and 1."""
    rows = [row for row in evaluation.metrics if _between(row.candidate) and _between(row.production)][:12]
    if not rows:
        return []
    # Bars of two series would cover each other, so each has places of its own; one below the axis is not drawn.
    names = [f"{label(report.in_words(row.metric), 30)}{side}" for row in rows for side in ("", ", new")]
    production = [value for row in rows for value in (row.production or 0.0, -1.0)]
    candidate = [value for row in rows for value in (-1.0, row.candidate or 0.0)]
    return chart("production (grey) and candidate (blue)", names, (0, 1), [production, candidate])


def _between(value: float | None) -> bool:
    return value is not None and 0 <= value <= 1


def _moved(change: Change | None) -> list[str]:
    """The stability index of the columns that moved most, as a chart, if any has moved."""
    rows = change.drift[:12] if change else []
    if not rows or rows[0].psi < drift.MODERATE:
        return []
    values = [min(row.psi, 10.0) for row in rows]
    title = f"PSI by column: moved from {drift.MODERATE}, far from {drift.LARGE}"
    return ["### Data that has moved", "", *chart(title, [row.column for row in rows], (0, max(values)), [values])]


def chart(title: str, names: Sequence[str], ends: tuple[float, float], series: Sequence[Sequence[float]]) -> list[str]:
    """A Mermaid chart of horizontal bars in a fenced block, one colour per series."""
    palette = ", ".join(("#8b949e", "#2f6fdb")[-len(series) :])
    look = f'"plotColorPalette": "{palette}"'
    size = f'"width": 760, "height": {80 + 26 * len(names)}'
    return [
        "```mermaid",
        f'%%{{init: {{"xyChart": {{{size}}}, "themeVariables": {{"xyChart": {{{look}}}}}}}}}%%',
        "xychart-beta horizontal",
        f'    title "{title}"',
        f"    x-axis [{', '.join(labels(names))}]",
        f"    y-axis {ends[0]:g} --> {ends[1]:.4g}",
        *(f"    bar [{', '.join(f'{value:.4f}' for value in values)}]" for values in series),
        "```",
        "",
    ]


def labels(names: Sequence[str]) -> list[str]:
    """Names as a chart may show them, in quotes; two that look alike get numbers, for a chart would take them for one."""
    found: list[str] = []
    for name in map(label, names):
        numbered = (f"{name} {count}" for count in range(2, len(names) + 2))
        found.append(next(one for one in (name, *numbered) if one not in found))
    return [f'"{name}"' for name in found]


def label(name: str, most: int = LABEL) -> str:
    """A name as a chart may show it: letters, digits and a few signs that are safe between quotes."""
    kept = "".join(each if each.isalnum() or each in " -.," else " " for each in report.clean(name))
    kept = " ".join(kept.split())
    return (kept if len(kept) <= most else f"{kept[: most - 1]}…") or "?"
