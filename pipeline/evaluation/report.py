"""The verdict and all it rests on, to read: Markdown for GitHub, and one HTML file that needs nothing else.

Both are written from the same sections. What a team named (columns, classes, slices) is text, never markup.
"""

import base64
import html as markup
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from pipeline.evaluation.record import BestSoFar, Compared, Evaluation, LimitRow, MetricRow, SliceRow

WORDS = {
    "f1": "F1",
    "f1_macro": "macro F1",
    "roc_auc": "ROC AUC",
    "roc_auc_ovr": "ROC AUC, one against rest",
    "pr_auc": "PR AUC",
    "brier": "Brier score",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
}
PICTURES = {
    "comparison": "Gain of the candidate on production: each metric and slice with its interval.",
    "confusion_matrix": "Confusion matrix: rows of the hold-out by actual and predicted class.",
    "roc": "ROC curve: true positive rate against false positive rate.",
    "precision_recall": "Precision against recall.",
    "calibration": "Calibration: how often it was so against the probability that the model gave.",
    "predicted_against_actual": "Predicted against actual value, a point per row of the hold-out.",
    "residuals": "Residuals: actual minus (with logarithmic axes: divided by) predicted value, over the predicted value.",
    "feature_importance": "Feature importance: loss of score when a column is shuffled, largest first.",
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NAME_LENGTH = 200  # characters of a name that are shown
MOST_ROWS = 60  # of one table; evaluation.json has them all


# --- numbers ------------------------------------------------------------------------------------------------


def in_words(metric: str) -> str:
    """A metric's name as people write it."""
    return WORDS.get(metric, metric.replace("_", " "))


def places(*values: float | None, figures: int = 3) -> int:
    """Decimal places that show so many figures of the largest of the values; 4 where there is none but zero."""
    sizes = [abs(value) for value in values if _known(value) and value]
    return min(max(figures - 1 - math.floor(math.log10(max(sizes))), 0), 8) if sizes else 4


def number(value: float | None, digits: int | None = None) -> str:
    """A number with so many decimals (by default four significant digits); a dash where it is not known."""
    if not _known(value):
        return "–"
    digits = places(value, figures=4) if digits is None else digits
    text = f"{value:,.{digits}f}"
    if abs(value) >= 1e15 or (value and float(text.replace(",", "")) == 0):
        text = f"{value:.2e}"
    return text.replace("-", "−")


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign; zero has none."""
    return f"+{number(value, digits)}" if _known(value) and value > 0 else number(value, digits)


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def gain(row: Compared, higher_is_better: bool) -> tuple[float, float | None, float | None]:
    """Difference and bounds of a row that has them as what the candidate gains: positive is better, for every metric."""
    difference, lower, upper = row.difference or 0.0, row.lower, row.upper
    if higher_is_better:
        return difference, lower, upper
    return 0 - difference, None if upper is None else 0 - upper, None if lower is None else 0 - lower


@dataclass(frozen=True)
class Mark:
    """A result as a sign and a word, with a tone that colours it: better, worse, warn or quiet."""

    sign: str
    word: str
    tone: str


def change(row: Compared, higher_is_better: bool) -> Mark:
    """Whether the candidate is better by a row of the evaluation, and whether its whole interval says so."""
    if not _known(row.difference):
        return Mark("–", "not defined", "quiet")
    estimate, lower, upper = gain(row, higher_is_better)
    if _known(lower) and lower > 0:
        return Mark("▲", "better", "better")
    if _known(upper) and upper < 0:
        return Mark("▼", "worse", "worse")
    if estimate == 0:
        return Mark("=", "same", "quiet")
    return Mark("△", "perhaps better", "quiet") if estimate > 0 else Mark("▽", "perhaps worse", "quiet")


# --- what both pages say ------------------------------------------------------------------------------------


class Name(str):
    """Text that a team chose: shown letter by letter, in a fixed-width face."""


@dataclass(frozen=True)
class Link:
    """Text that leads to a page."""

    text: str
    address: str


Cell = str | Name | Mark | Link


@dataclass(frozen=True)
class Table:
    """Rows of cells under heads; `words`: the columns without numbers, `strong`: the row that decides."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: Sequence[int] = (0,)
    strong: int | None = None


@dataclass(frozen=True)
class Section:
    """A heading with sentences and perhaps a table."""

    heading: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    notes: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Headline:
    """The verdict in a word and what follows from it."""

    word: str
    meaning: str
    sign: str
    icon: str


def headline(evaluation: Evaluation) -> Headline:
    """The verdict in words."""
    version = f"version {evaluation.production.version}" if evaluation.production else ""
    match evaluation.verdict:
        case "accept" if not version:
            return Headline("Accepted", "The first model: nothing was in production to compare it with.", "✓", "✅")
        case "accept" if evaluation.judged_by == "limits":
            meaning = f"The candidate may replace {version}, with which it was not compared: "
            return Headline("Accepted", meaning + "the columns changed, and the limits alone decided.", "✓", "✅")
        case "accept":
            return Headline("Accepted", f"The candidate may replace {version}.", "✓", "✅")
        case "keep":
            stays = f"{version.capitalize()} stays" if version else "What serves stays"
            return Headline("Kept", f"{stays} in production. Nothing is wrong with the candidate.", "=", "⏸️")
        case _:
            stays = f"{version.capitalize()} stays in production." if version else "Nothing goes to production."
            return Headline("Refused", f"The candidate must not be deployed. {stays}", "✕", "❌")


def sections(evaluation: Evaluation, data: Mapping | None, run: Mapping | None = None) -> list[Section]:
    """Everything under the headline except the plots, in reading order."""
    return [*findings(evaluation).values(), _data(data), _lineage(evaluation, data, run)]


def findings(evaluation: Evaluation) -> dict[str, Section]:
    """What the evaluation found, by what it is about; what there is nothing to say of is left out."""
    parts = {
        "metrics": _metrics(evaluation),
        "power": _power(evaluation),
        "slices": _slices(evaluation),
        "limits": _limits(evaluation),
        "portable": _portable(evaluation),
    }
    return {about: part for about, part in parts.items() if part is not None}


def _metrics(evaluation: Evaluation) -> Section:
    rows, decides = evaluation.metrics, evaluation.metric
    names = [in_words(row.metric) + (", decides" if row.metric == decides else "") for row in rows]
    strong = next((place for place, row in enumerate(rows) if row.metric == decides), None)
    held = f"{evaluation.rows:,} rows of the hold-out"
    copies = [repeated_rows(evaluation)] if distinct(evaluation) < evaluation.rows else []
    if evaluation.comparison is None:
        alone = "Nothing is in production yet." if evaluation.first else "It could not be compared with production."
        cells = [(name, *_alone(row)) for name, row in zip(names, rows, strict=True)]
        if any(row.interval or row.baseline is not None for row in rows):
            table = Table(("metric", "candidate", "interval", "baseline"), cells, strong=strong)
            return Section("The candidate", [f"On {held}. {alone}", *copies], table, _notes_alone(evaluation))
        table = Table(("metric", "candidate"), [cell[:2] for cell in cells], strong=strong)
        return Section("The candidate", [f"On {held}. {alone}", *copies], table)
    table = Table(
        ("metric", "candidate", "production", "difference", "interval", "candidate is"),
        [(name, *_compared(row), change(row, row.higher_is_better)) for name, row in zip(names, rows, strict=True)],
        words=(0, 5),
        strong=strong,
    )
    notes = [
        "Difference: candidate − production. "
        f"Interval: {_sure(evaluation)} % confidence in each bound, by a paired bootstrap over the rows.",
        "▲ ▼ the whole interval says so. △ ▽ the estimate says so, the interval does not.",
    ]
    best = [best_not_compared(evaluation.best)] if evaluation.best and evaluation.best.problem else []
    return Section("Candidate beside production", [f"Both models on the same {held}.", *copies, *best], table, notes)


def _sure(evaluation: Evaluation) -> str:
    """The confidence of each bound, in percent."""
    return number(100 * evaluation.confidence, 1).removesuffix(".0")


def _alone(row: MetricRow) -> tuple[str, str, str]:
    """Candidate, its interval and the baseline, all with as many decimals as the candidate needs."""
    low, high = row.interval or (None, None)
    digits = places(row.candidate, low, high, figures=4)
    interval = f"{number(low, digits)} to {number(high, digits)}" if _known(low) and _known(high) else "–"
    return number(row.candidate, digits), interval, number(row.baseline, digits)


def _notes_alone(evaluation: Evaluation) -> list[str]:
    """What interval and baseline of a model without a production model beside it mean."""
    answer = "the mean of the target" if evaluation.task == "regression" else "the share of each class"
    return [
        f"Interval: {_sure(evaluation)} % confidence in each bound, by a bootstrap over the rows.",
        f"Baseline: a model that knows no feature and answers with {answer} in the training data.",
    ]


def distinct(part: Evaluation | SliceRow) -> int:
    """How many of its rows are no copy of another."""
    return part.rows if part.distinct_rows is None else part.distinct_rows


def repeated_rows(evaluation: Evaluation) -> str:
    """How many rows of the hold-out are distinct, and what follows."""
    return (
        f"Only {distinct(evaluation):,} of the {evaluation.rows:,} rows are distinct. Copies of a row tell no more "
        'than the row, so they count together. If rows are alike by chance, set [gate] repeated_rows = "each".'
    )


def best_not_compared(best: BestSoFar) -> str:
    """Why the candidate stands beside production alone, though an earlier version is the best so far."""
    return f"Version {best.version}, the best so far, could not be compared as well: {clean(best.problem, 300)}."


def _compared(row: Compared) -> tuple[str, str, str, str]:
    """Candidate, production, difference and interval, all with as many decimals as the difference needs."""
    digits = places(row.candidate, row.production, figures=4)
    if row.difference or row.lower or row.upper:
        digits = max(digits, places(row.difference, row.lower, row.upper))
    lower, upper = signed(row.lower, digits), signed(row.upper, digits)
    interval = f"{lower} to {upper}" if _known(row.lower) and _known(row.upper) else "–"
    return (
        number(row.candidate, digits),
        number(row.production, digits),
        signed(row.difference, digits),
        interval,
    )


def _power(evaluation: Evaluation) -> Section | None:
    comparison = evaluation.comparison
    if comparison is None or not _known(comparison.difference):
        return None
    metric, rows = in_words(evaluation.metric), f"{evaluation.rows:,} rows"
    heading = "What this hold-out can show"
    if comparison.difference == 0 and not comparison.detectable:
        return Section(heading, [f"Both models score alike in {metric} on these {rows}: no difference to measure."])
    if not _known(comparison.detectable):
        return Section(heading, [f"With {rows}, no difference in {metric} could have been shown: there are too few."])
    detectable = number(comparison.detectable, places(comparison.detectable, figures=2))
    seen = signed(comparison.difference, places(comparison.difference))
    sentence = (
        f"With {rows}, a true difference in {metric} of {detectable} "
        f"would have been shown four times in five. The difference seen is {seen}."
    )
    return Section(heading, [sentence])


def _slices(evaluation: Evaluation) -> Section | None:
    rows = evaluation.slices
    if not rows:
        return None
    shown = sorted(rows, key=lambda row: not row.worse)[:MOST_ROWS]
    cells = [
        (
            Name(row.slice),
            _counted(row),
            *_compared(row),
            _slice_mark(row, evaluation.higher_is_better),
        )
        for row in shown
    ]
    heads = ("slice", "rows", "candidate", "production", "difference", "interval", "candidate is")
    worse = sum(row.worse for row in rows)
    verdict = f"Worse on {worse} of {len(rows)}." if worse else f"Surely worse on none of {len(rows)}."
    notes = ["The more slices are judged, the wider each interval, so that the whole is as sure as one alone."]
    if len(shown) < len(rows):
        notes.append(f"{len(rows) - len(shown)} more are in evaluation.json.")
    sentence = f"The same comparison by {in_words(evaluation.metric)}, on parts of the hold-out. {verdict}"
    return Section("Slices", [sentence], Table(heads, cells, words=(0, 6)), notes)


def _counted(row: SliceRow) -> str:
    """The rows of a slice, and where some are copies how many are not."""
    return f"{row.rows:,}" if distinct(row) == row.rows else f"{row.rows:,} ({distinct(row):,} distinct)"


def _slice_mark(row: SliceRow, higher_is_better: bool) -> Mark:
    mark = change(row, higher_is_better)
    if row.worse:
        return Mark("▼", "worse", "worse")
    if not row.judged:
        return Mark("·", "not judged: too few rows", "quiet")
    return Mark("▼", "worse, within the margin", "warn") if mark.tone == "worse" else mark


def _limits(evaluation: Evaluation) -> Section | None:
    if not evaluation.limits:
        return None
    ways = {row.metric: row.higher_is_better for row in evaluation.metrics}
    rows = []
    for limit in evaluation.limits:
        most = f"at {'least' if counts_up(limit, ways) else 'most'} {setting(limit.limit)}"
        rows.append(
            (
                in_words(limit.metric),
                number(limit.value),
                most,
                _holds(limit.success, "holds", "broken"),
            )
        )
    return Section("Absolute limits", [], Table(("metric", "candidate", "limit", "result"), rows, words=(0, 3)))


def counts_up(limit: LimitRow, ways: Mapping[str, bool]) -> bool:
    """Whether a limit is a least value; `ways` has the direction of each metric, for a limit that does not say its own."""
    return ways.get(limit.metric, False) if limit.higher_is_better is None else limit.higher_is_better


def _portable(evaluation: Evaluation) -> Section | None:
    if not evaluation.checks:
        return None
    rows = []
    for check in evaluation.checks:
        unit = f" {check.unit}" if check.unit else ""
        seen, most = setting(check.observed), setting(check.limit)
        rows.append((check.check, f"{seen}{unit}", f"{most}{unit}", _holds(check.success, "passed", "failed")))
    sentences = ["The model as the service will run it, beside the trained one."]
    if evaluation.format and evaluation.format.format_reason:
        sentences.append(f"It is served by scikit-learn itself, not as ONNX. {evaluation.format.format_reason}.")
    return Section("Portable model", sentences, Table(("check", "observed", "at most", "result"), rows, words=(0, 3)))


def setting(value: float | None) -> str:
    """A number as a person would write it in a settings file."""
    if not _known(value):
        return "–"
    return (f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}").replace("-", "−")


def _holds(success: bool, yes: str, no: str) -> Mark:
    return Mark("✓", yes, "better") if success else Mark("✕", no, "worse")


def _data(data: Mapping | None) -> Section:
    heading = "Data"
    if data is None:
        return Section(heading, ["The checks of the data were not recorded."])
    failed = [check for check in data["checks"] if not check["success"]]
    failed.sort(key=lambda check: check["severity"] != "critical")
    passed = f"{len(data['checks']) - len(failed)} of {len(data['checks'])} checks passed"
    sentence = f"{data['rows']:,} rows, {data['columns']:,} columns; {passed}."
    if not failed:
        return Section(heading, [sentence])
    rows = [
        (
            Name(check["column"] or "table"),
            Name(check["rule"]),
            Mark("✕", "critical", "worse") if check["severity"] == "critical" else Mark("!", "warning", "warn"),
            Name(check["observed"]),
            _examples(check),
        )
        for check in failed[:MOST_ROWS]
    ]
    heads = ("column", "rule", "severity", "observed", "for example")
    notes = [f"{len(failed) - len(rows)} more are in data.json."] if len(failed) > len(rows) else []
    return Section(heading, [sentence], Table(heads, rows, words=range(5)), notes)


def _examples(check: Mapping) -> Cell:
    shown = [_example(each) for each in check.get("examples", [])[:3]]
    rest = check.get("unexpected_count", 0) - len(shown)
    if shown and rest > 0:
        shown.append(f"{rest:,} more")
    return Name("; ".join(shown)) if shown else "–"


def _example(row: Mapping) -> str:
    """A row that breaks a rule, with its value where the rule is about one column."""
    if "value" not in row:
        return f"row {row['row']}"
    return f"row {row['row']}: {'empty' if row['value'] is None else row['value']}"


def _lineage(evaluation: Evaluation, data: Mapping | None, run: Mapping | None) -> Section:
    candidate, production, run = evaluation.candidate, evaluation.production, run or {}
    data_hash = run.get("data_hash") or candidate.data_hash or (data or {}).get("data_hash")
    rows: list[tuple[str, Cell]] = [
        ("candidate, run", Link(candidate.run_id, candidate.run_url)),
        ("candidate, commit", Name(candidate.commit + (" with changes" if run.get("dirty") else ""))),
    ]
    rows += [("data, SHA-256", Name(data_hash))] if data_hash else []
    rows += [("locked requirements, SHA-256", Name(run["lock_hash"]))] if run.get("lock_hash") else []
    rows += [("seed", str(run["seed"]))] if "seed" in run else []
    if "rows" in run:
        rows.append(("rows", f"{run['rows']['train']:,} to train on, {run['rows']['holdout']:,} held out"))
    if drawn := evaluation.importance:
        rows.append(("feature importance", f"{drawn.rows:,} held-out rows, {drawn.shuffles} shuffles of each column"))
    margin = f"margin {setting(evaluation.margin)} {in_words(evaluation.metric)}"
    rows.append(("gate", f"policy “{evaluation.policy.replace('_', ' ')}”, {margin}"))
    if production:
        since = f", since {production.since}" if production.since else ""
        rows.append(("production", f"version {production.version}{since}"))
        rows.append(("production, run", Name(production.run_id)))
        rows += [("production, commit", Name(production.commit))] if production.commit else []
    return Section("Where this comes from", [], Table(("what", "value"), rows, words=(0, 1)))


def clean(text: object, most: int = 1500) -> str:
    """Text on one line and not endless, without characters that control a terminal or turn the reading direction."""
    kept = (
        "�" if (kind := unicodedata.category(each)) == "Cs" else " " if kind[0] in "CZ" else each for each in str(text)
    )
    line = "".join(kept).strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


# --- Markdown -----------------------------------------------------------------------------------------------


def markdown(evaluation: Evaluation, data: Mapping | None, plots: Mapping[str, str] | None = None) -> str:
    """The report for a pull request or a job's summary; `plots` maps a plot's name to its address."""
    head = headline(evaluation)
    lines = [f"## {head.icon} {head.word}: {code(evaluation.name)}", "", line_of(head.meaning), ""]
    lines += [f"- {line_of(reason)}" for reason in evaluation.reasons] + [""]
    for section in sections(evaluation, data):
        lines += [f"### {section.heading}", "", *markdown_section(section)]
    pictures = [(name, address) for name, address in (plots or {}).items() if _web(address)]
    if pictures:
        lines += ["<details><summary>Plots</summary>", ""]
        for name, address in pictures:
            alt = markup.escape(_alt(name), quote=True)
            lines += [f'<img src="{markup.escape(address, quote=True)}" alt="{alt}">', ""]
        lines += ["</details>", ""]
    return "\n".join(lines)


def markdown_section(section: Section) -> list[str]:
    """The lines of a section without its heading; the last is empty."""
    lines = [line for sentence in section.sentences for line in (line_of(sentence), "")]
    lines += [*markdown_table(section.table), ""] if section.table else []
    return lines + ([f"<sub>{' '.join(map(prose, section.notes))}</sub>", ""] if section.notes else [])


def markdown_table(table: Table) -> list[str]:
    """The lines of a table."""
    ends = [":--" if place in table.words else "--:" for place in range(len(table.heads))]
    lines = [f"| {' | '.join(table.heads)} |", f"| {' | '.join(ends)} |"]
    for place, row in enumerate(table.rows):
        cells = [_markdown_cell(cell) for cell in row]
        if place == table.strong:
            cells[0] = f"**{cells[0]}**"
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _markdown_cell(cell: Cell) -> str:
    match cell:
        case Mark():
            return f"{prose(cell.sign)} {prose(cell.word)}"
        case Link() if _web(cell.address):
            return f"[{code(cell.text)}]({_address(cell.address)})"
        case Link():
            return code(cell.text)
        case Name():
            return code(cell)
        case _:
            return prose(cell)


def code(text: str) -> str:
    """A code span; as entities where a backtick, bar or backslash could end the span or the cell."""
    text = clean(text, NAME_LENGTH) or "(empty)"
    return f"<code>{_entities(text)}</code>" if re.search(r"[`|\\]", text) else f"`{text}`"


def _entities(text: str) -> str:
    """Every ASCII character that Markdown or HTML could act on, as an entity: those never make structure."""
    return re.sub(r"[^\w ]", lambda found: f"&#{ord(found[0])};" if found[0].isascii() else found[0], text).replace(
        "_", "&#95;"
    )


# Emphasis, code, links, HTML, formulas; mentions and references; addresses that would become links by themselves.
# GitHub also links GH-12 and the hash of a commit.
ACTIVE = re.compile(
    r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])|[@#](?=\w)|(?<=www)\.|:(?=//)|(?<=\bGH)-(?=\d)"
    r"|(?<![\w.,])[0-9a-f]{7,40}\b",
    flags=re.IGNORECASE,
)


def prose(text: str) -> str:
    """A sentence that stays one: no part of it becomes markup, a mention, a reference or a link."""

    def harmless(found: re.Match) -> str:
        # GitHub looks for mentions after entities are resolved, so something must stand in between.
        if len(found[0]) > 1:
            return "\N{WORD JOINER}".join(re.findall(".{1,6}", found[0]))
        return f"&#{ord(found[0])};" + ("\N{WORD JOINER}" if found[0] in "@#-" else "")

    return ACTIVE.sub(harmless, clean(text))


def line_of(text: str) -> str:
    """Prose at the start of a line, where a dash or a number would begin a list."""
    return re.sub(r"^([-+#=]|\d+(?=[.)]))", r"\1&#8288;", prose(text))


def _web(address: str) -> bool:
    """Only an address of the web may be followed or loaded: never javascript:."""
    return re.match(r"https?://[^\s]+$", address, flags=re.IGNORECASE) is not None


def _address(address: str) -> str:
    """An address that can end neither a Markdown link nor the cell it is in."""
    return re.sub(r"[()<>\[\]|\\`\"]", lambda found: f"%{ord(found[0]):02X}", address)


def _alt(name: str) -> str:
    return PICTURES.get(name, in_words(name))


# --- HTML ---------------------------------------------------------------------------------------------------


def html(
    evaluation: Evaluation,
    data: Mapping | None,
    run: Mapping | None = None,
    plots: Mapping[str, bytes] | None = None,
) -> str:
    """The report as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    head, name = headline(evaluation), markup.escape(clean(evaluation.name))
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in evaluation.reasons)
    body = "".join(_html_section(section) for section in sections(evaluation, data, run))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{head.word}: {name}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header class="verdict {_text(evaluation.verdict)}">
<p class="name">{name}</p>
<h1><span class="sign" aria-hidden="true">{head.sign}</span> {head.word}</h1>
<p class="meaning">{_text(head.meaning)}</p>
<ul>{reasons}</ul>
</header>
{_tiles(evaluation)}
{body}{_gallery(plots or {})}
</main>
</body>
</html>
"""


def _tiles(evaluation: Evaluation) -> str:
    """The three figures that one wants first."""
    row = evaluation.decisive()
    metric = in_words(evaluation.metric)
    tiles = [("hold-out", f"{evaluation.rows:,} rows", "")]
    if row and evaluation.comparison:
        candidate, production, difference, interval = _compared(row)
        mark = change(row, row.higher_is_better)
        word = f"{mark.word}: {interval}" if interval != "–" else mark.word
        tiles = [(f"{metric}, candidate", candidate, ""), (f"{metric}, production", production, ""),
                 ("difference", difference, word), *tiles]  # fmt: skip
    elif row:
        value, interval, baseline = _alone(row)
        tiles = [(f"{metric}, candidate", value, "" if interval == "–" else interval),
                 *([(f"{metric}, baseline", baseline, "")] if baseline != "–" else []), *tiles]  # fmt: skip
    cells = []
    for label, value, note in tiles:
        small = f"<small>{_text(note)}</small>" if note else ""
        cells.append(f"<div><dt>{_text(label)}</dt><dd>{_text(value)}{small}</dd></div>")
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _html_section(section: Section) -> str:
    sentences = "".join(f"<p>{_text(sentence)}</p>\n" for sentence in section.sentences)
    notes = f'<p class="notes">{" ".join(map(_text, section.notes))}</p>\n' if section.notes else ""
    table = _html_table(section.table, section.heading) if section.table else ""
    return f"<section>\n<h2>{_text(section.heading)}</h2>\n{sentences}{table}{notes}</section>\n"


def _html_table(table: Table, heading: str) -> str:
    # Roles are named because a phone shows each row as a card, and a table laid out otherwise loses them.
    kinds = ["word" if place in table.words else "number" for place in range(len(table.heads))]
    heads = "".join(
        f'<th role="columnheader" scope="col" class="{kind}">{_text(head)}</th>'
        for kind, head in zip(kinds, table.heads, strict=True)
    )
    rows = []
    for place, row in enumerate(table.rows):
        first = f'<th role="rowheader" scope="row">{_html_cell(row[0])}</th>'
        rest = "".join(
            f'<td role="cell" class="{kind}" data-head="{_text(head)}">{_html_cell(cell)}</td>'
            for kind, head, cell in zip(kinds[1:], table.heads[1:], row[1:], strict=True)
        )
        strong = ' class="strong"' if place == table.strong else ""
        rows.append(f'<tr role="row"{strong}>{first}{rest}</tr>\n')
    return (
        f'<div class="scroll">'
        f'<table role="table" aria-label="{_text(heading)}" class="columns-{len(table.heads)}">\n'
        f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{"".join(rows)}</tbody>\n</table></div>\n'
    )


def _html_cell(cell: Cell) -> str:
    match cell:
        case Mark():
            sign = f'<span aria-hidden="true">{_text(cell.sign)}</span>'
            return f'<span class="mark {cell.tone}">{sign} {_text(cell.word)}</span>'
        case Link() if _web(cell.address):
            address = markup.escape(cell.address, quote=True)
            return f'<a href="{address}" rel="noreferrer"><code>{_text(cell.text)}</code></a>'
        case Link():
            return f"<code>{_text(cell.text)}</code>"
        case Name():
            return f"<code>{_text(clean(cell, NAME_LENGTH)) or '(empty)'}</code>"
        case _:
            return _text(cell)


def _gallery(plots: Mapping[str, bytes]) -> str:
    if not plots:
        return ""
    figures = []
    for name, png in plots.items():
        # A PNG's size stands at the same place in every one: two panels side by side need the whole width.
        across, down = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
        width = "wide" if across > 1.4 * down else "plot"
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        figures.append(f'<figure class="{width}"><img alt="{_text(_alt(name))}" src="{source}"></figure>\n')
    return f'<section>\n<h2>Plots</h2>\n<div class="gallery">\n{"".join(figures)}</div>\n</section>\n'


def _text(text: str) -> str:
    """Text that stays text, in an element as in an attribute."""
    return markup.escape(clean(text), quote=True)
