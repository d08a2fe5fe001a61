"""The card of a model version, by which a person decides in MLflow: what it is for, how good, on what data, by whom approved.

Pure functions from plain data to Markdown, and back to more Markdown: a version's description begins as its card and belongs
to people from then on, so what is added later is added to whatever stands there.
"""

import re
from collections.abc import Mapping, Sequence

from pipeline import mlflow_pages
from pipeline.evaluation import report
from pipeline.evaluation.record import Evaluation, Format
from pipeline.evaluation.report import Cell, Name, Table
from pipeline.settings import Settings

LONGEST = 5000  # characters of a description that MLflow's tables hold; SQLite alone would take more
ROOM = 1200  # of them are left to approvals, and to what people write
MOST = 10  # rows of a table; the report has them all
WORDS = 900  # characters of what a team says of its model, with all that makes it harmless
REASON = 300  # of a reason, likewise; the tag `reason` and the report have more
APPROVALS = "### Approvals"
NOBODY = "Not in production yet."
LEFT_OUT = "_Left out, for a description holds only so much: {}. The report has it._"
EARLIER = "- earlier ones are in the experiment of the deployments"
OURS = re.compile(r"^- \d{4}-\d\d-\d\d \d\d:\d\d: put into production by .*$", re.MULTILINE)


def markdown(evaluation: Evaluation, run: Mapping, data: Mapping, settings: Settings) -> str:
    """The card, from the evaluation, build/run.json, build/data.json and the settings; what a team wrote is text."""
    word = report.headline(evaluation).word
    parts = {
        "Purpose": [_line(settings.model.purpose or "Not said: [model] purpose in pipeline.toml.", WORDS), ""],
        "Not for": [_line(settings.model.not_for or "Not said: [model] not_for in pipeline.toml.", WORDS), ""],
        "Metrics": _metrics(evaluation),
        "Data": _data(run, data, settings.data.target),
        "Limits": _limits(evaluation),
        "Slices": _slices(evaluation),
        "Where it comes from": _lineage(evaluation, run),
    }
    # No emphasis: MLflow's list of versions shows the beginning of this line as it is.
    first = [f"{word}: {_summary(evaluation)}", "", *_reasons(evaluation.reasons), ""]
    return _fitted(first, {heading: lines for heading, lines in parts.items() if lines}, [APPROVALS, "", NOBODY])


def of_model(settings: Settings, deployments: str) -> str:
    """The description of the registered model as a whole: what it is, how it is deployed, where its history is.

    `deployments` is the id of the experiment of deployment records.
    """
    sentences = [_line(settings.model.purpose, WORDS)] if settings.model.purpose else []
    return "\n\n".join(
        [
            *sentences,
            "Whoever moves the alias `production` to another version deploys that version: by way of staging and its tests, "
            "and the alias goes back when they fail. Each version's description is its card.",
            f"The history is in the experiment [{settings.name}-deployments]({mlflow_pages.experiment(deployments)}): "
            "who deployed what, when, and how it ended.",
        ]
    )


def _summary(evaluation: Evaluation) -> str:
    decides, production = evaluation.decisive(), evaluation.production
    beside = f", compared with version {production.version} in production" if production else ", the first model"
    if production and evaluation.judged_by == "limits":
        beside = f", judged by its limits alone: version {production.version} in production has other columns"
    return report.line_of(
        f"{report.in_words(evaluation.metric)} {report.number(decides.candidate if decides else None)} on {evaluation.rows:,} rows{beside}"
    )


def _reasons(reasons: Sequence[str]) -> list[str]:
    return [f"- {_line(reason, REASON)}" for reason in reasons[:3]]


def _line(text: str, most: int) -> str:
    """A line of prose of at most so many characters, counted as they are stored."""
    kept = most
    while len(line := report.line_of(report.clean(text, kept))) > most:
        kept = kept * 9 // 10
    return line


def _metrics(evaluation: Evaluation) -> list[str]:
    """Each metric with its interval, beside production's where there was one; the one that decides comes first."""
    compared = evaluation.comparison is not None
    shown = sorted(evaluation.metrics, key=lambda row: row.metric != evaluation.metric)[:MOST]
    heads = ("metric", "this model", "interval", *(("production", "change") if compared else ()))
    rows: list[Sequence[Cell]] = []
    for row in shown:
        low, high = row.interval or (None, None)
        digits = report.places(row.candidate, high, figures=4)
        between = f"{report.number(low, digits)} to {report.number(high, digits)}" if row.interval else "–"
        after = (report.number(row.production, digits), report.change(row, row.higher_is_better)) if compared else ()
        rows.append((report.in_words(row.metric), report.number(row.candidate, digits), between, *after))
    sure = report.number(100 * evaluation.confidence, 1).removesuffix(".0")
    sentence = f"On {evaluation.rows:,} rows that no training saw; {sure} % confidence in each end of an interval."
    return [report.line_of(sentence), "", *_table(heads, rows, strong=0)]


def _data(run: Mapping, data: Mapping, target: str) -> list[str]:
    rows, split = run["rows"], run["split"]
    warned = sum(not check["success"] for check in data["checks"])
    cells: list[tuple[str, Cell]] = [
        ("rows", f"{rows['train']:,} to train on, {rows['holdout']:,} held out"),
        ("split", Name(f"hash of {split['id']}, {split['holdout']:g} held out, salt {split['salt']}")),
        ("columns", f"{len(run['features']):,} inputs"),
        ("target", Name(target)),
        ("checks", f"{len(data['checks']) - warned} passed, {warned} warned"),
        ("SHA-256", Name(run["data_hash"])),
    ]
    return _table(("what", "value"), cells)


def _limits(evaluation: Evaluation) -> list[str]:
    """The limits of the gate, and of the model as it is served: parity, latency, size; and in which format that is."""
    found = report.findings(evaluation)
    tables = [found[about].table for about in ("limits", "portable") if about in found]
    rows = [row for table in tables if table for row in table.rows]
    form = evaluation.format or Format("onnx")
    why = f", for this reason: {form.format_reason}" if form.format_reason else ""
    table = _table(("what", "observed", "limit", "result"), rows[: 2 * MOST])
    return [report.line_of(f"Served as {form.format}{why}."), "", *table]


def _slices(evaluation: Evaluation) -> list[str]:
    """The slices beside production, those that are worse first; nothing where there was no production model."""
    found = report.findings(evaluation).get("slices")
    if found is None or found.table is None:
        return []
    rows = [
        (name, rows, candidate, production, mark) for name, rows, candidate, production, *_, mark in found.table.rows
    ]
    heads = ("slice", "rows", "this model", "production", "this model is")
    sentence = f"By {report.in_words(evaluation.metric)}."
    return [report.line_of(sentence), "", *_table(heads, rows[:MOST])]


def _lineage(evaluation: Evaluation, run: Mapping) -> list[str]:
    rows: list[tuple[str, Cell]] = [
        ("commit", Name(run["commit"] + (" with uncommitted changes" if run["dirty"] else ""))),
        ("trained", Name(f"{run['trained_at']} by {run['trained_by']}")),
        ("requirements, SHA-256", Name(run["lock_hash"])),
        ("gate", f"policy “{evaluation.policy.replace('_', ' ')}”, margin {evaluation.margin:g}"),
    ]
    return [f"Run {run_link(run['experiment_id'], run['run_id'])}.", "", *_table(("what", "value"), rows)]


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], strong: int | None = None) -> list[str]:
    """A table and room below it. MLflow's pages leave no room between columns: an empty one stands between two."""

    apart = [[each for cell in row for each in (cell, "")][:-1] for row in rows]
    between = [each for head in heads for each in (head, "&emsp;")][:-1]
    table = Table(between, apart, words=range(len(between)), strong=strong)
    return [*report.markdown_table(table), "", "&nbsp;", ""]


def run_link(experiment: str, run: str) -> str:
    """A run as a link within MLflow's pages, wherever these are served; as text where an id is none."""
    if not all(re.fullmatch(r"[\w-]+", each) for each in (experiment, run)):
        return report.code(run)
    return f"[{report.code(run)}]({mlflow_pages.run(experiment, run)})"


def _fitted(first: list[str], parts: Mapping[str, list[str]], last: list[str]) -> str:
    """As many whole sections as there is room for, in their order, and the names of those left out."""
    room = LONGEST - ROOM - len("\n".join([*first, *last])) - len(LEFT_OUT.format(", ".join(parts))) - 3
    lines, left = list(first), []
    for heading, part in parts.items():
        block = [f"### {heading}", "", *part]
        size = len("\n".join(block)) + 1
        if size <= room:
            lines += block
            room -= size
        else:
            left.append(heading)
    return "\n".join([*lines, *([LEFT_OUT.format(", ".join(left)), ""] if left else []), *last])


# --- approvals --------------------------------------------------------------------------------------------------------


def approved(description: str, when: str, who: str, how: str, record: Mapping | None) -> str:
    """The description with a line for this approval; unchanged where a line names that deployment record already.

    `when` is 2026-01-31 13:45, `record` {"experiment_id", "run_id"} of the deployment. What people wrote stays. Where it
    becomes too long for MLflow, lines of the oldest approvals go; where that is not enough, nothing is added.
    """
    shown = run_link(record["experiment_id"], record["run_id"]) if record else "none"
    if record and report.code(record["run_id"]) in description:  # whatever address its link has
        return description
    line = f"- {when}: put into production by {report.code(who)} ({report.prose(how)}), deployment record {shown}"
    longer = _with_line(description, line)
    while len(longer) > LONGEST and len(lines := list(OURS.finditer(longer))) > 1:
        longer = _without(longer, lines[0])
    return longer if len(longer) <= LONGEST else description


def _with_line(description: str, line: str) -> str:
    lines = list(OURS.finditer(description))
    if lines:
        return f"{description[: lines[-1].end()]}\n{line}{description[lines[-1].end() :]}"
    if f"{APPROVALS}\n\n{NOBODY}" in description:
        return description.replace(f"{APPROVALS}\n\n{NOBODY}", f"{APPROVALS}\n\n{line}", 1)
    return f"{description.rstrip()}\n\n{APPROVALS}\n\n{line}".lstrip()


def _without(description: str, line: re.Match) -> str:
    """Without that line, and with one that says where such are kept."""
    instead = "" if EARLIER in description else f"{EARLIER}\n"
    return f"{description[: line.start()]}{instead}{description[line.end() + 1 :]}"
