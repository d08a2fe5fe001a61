"""The card of a model version, by which a person decides in MLflow: what it is for, how good, on what data, by whom approved.

Pure functions from plain data to Markdown, and back to more Markdown: a version's description begins as its card and belongs
to people from then on, so what is added later is added to whatever stands there.
"""

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from pipeline import mlflow_pages
from pipeline.evaluation.findings import Cell, Name, Section, Table, findings, headline, when
from pipeline.evaluation.github_markdown import blocks_of, code, environment, line_of, prose
from pipeline.evaluation.record import Evaluation, Format
from pipeline.evaluation.wording import change, clean, in_words, number, places
from pipeline.settings import Settings

LONGEST = 5000  # characters of a description that MLflow's tables hold; SQLite alone would take more
ROOM = 1200  # of them are left to approvals, and to what people write
MOST = 10  # rows of a table; the report has them all
WORDS = 900  # characters of what a team says of its model, with all that makes it harmless
REASON = 300  # of a reason, likewise; the tag `reason` and the report have more
APPROVALS = "### Approvals"
NOBODY = "Not in production yet."
EXPERIMENTS = "### Experiments"
LEFT_OUT = "_Left out, for a description holds only so much: {}. The report has it._"
EARLIER = "- earlier ones are in the experiment of the deployments"
OURS = re.compile(r"^- \d{4}-\d\d-\d\d \d\d:\d\d: put into production by .*$", re.MULTILINE)


def markdown(evaluation: Evaluation, run: Mapping, data: Mapping, settings: Settings) -> str:
    """The card, from the evaluation, build/run.json, build/data.json and the settings; what a team wrote is text."""
    sections = [
        _words("Purpose", settings.model.purpose or "Not said: [model] purpose in pipeline.toml."),
        _words("Not for", settings.model.not_for or "Not said: [model] not_for in pipeline.toml."),
        _metrics(evaluation),
        _data(run, data, settings.data.target),
        _limits(evaluation),
        *_decided(evaluation),
        *_slices(evaluation),
        _lineage(evaluation, run),
    ]
    page = (
        environment()
        .get_template("card.md")
        .render(
            word=headline(evaluation).word,
            summary=_summary(evaluation),
            reasons=[_line(reason, REASON) for reason in evaluation.reasons[:3]],
            sections=sections,
        )
    )
    first, *parts = blocks_of(page)
    return _fitted(first, dict(zip([one.heading for one in sections], parts, strict=True)), f"{APPROVALS}\n\n{NOBODY}")


def of_model(settings: Settings, deployments: str) -> str:
    """The description of the registered model as a whole: what it is, how it is deployed, where its history is.

    `deployments` is the id of the experiment of deployment records.
    """
    sentences = [str(_line(settings.model.purpose, WORDS))] if settings.model.purpose else []
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
    value = number(decides.candidate if decides else None)
    return f"{in_words(evaluation.metric)} {value} on {evaluation.rows:,} rows{beside}"


def _line(text: str, most: int) -> Markup:
    """A line of prose of at most so many characters, counted as they are stored."""
    kept = most
    while len(line := line_of(clean(text, kept))) > most:
        kept = kept * 9 // 10
    return Markup(line)


def _words(heading: str, text: str) -> Section:
    """What a team says of its model."""
    return Section(heading, [_line(text, WORDS)])


def _metrics(evaluation: Evaluation) -> Section:
    """Each metric with its interval, beside production's where there was one; the one that decides comes first."""
    compared = evaluation.comparison is not None
    shown = sorted(evaluation.metrics, key=lambda row: row.metric != evaluation.metric)[:MOST]
    heads = ("metric", "this model", "interval", *(("production", "change") if compared else ()))
    rows: list[Sequence[Cell]] = []
    for row in shown:
        low, high = row.interval or (None, None)
        digits = places(row.candidate, high, figures=4)
        between = f"{number(low, digits)} to {number(high, digits)}" if row.interval else "–"
        after = (number(row.production, digits), change(row, row.higher_is_better)) if compared else ()
        rows.append((in_words(row.metric), number(row.candidate, digits), between, *after))
    sure = number(100 * evaluation.confidence, 1).removesuffix(".0")
    sentence = f"On {evaluation.rows:,} rows that no training saw; {sure} % confidence in each end of an interval."
    return Section("Metrics", [sentence], _table(heads, rows, strong=0))


def _split(split: Mapping) -> str:
    """How the hold-out was drawn."""
    if split.get("by") == "time":
        return f"by {split['id']}: the newest {split['holdout']:g} held out, from {when(split['cut'])} on"
    return f"hash of {split['id']}, {split['holdout']:g} held out, salt {split['salt']}"


def _data(run: Mapping, data: Mapping, target: str) -> Section:
    rows, split = run["rows"], run["split"]
    warned = sum(not check["success"] for check in data["checks"])
    cells: list[tuple[str, Cell]] = [
        ("rows", f"{rows['train']:,} to train on, {rows['holdout']:,} held out"),
        ("split", Name(_split(split))),
        ("columns", f"{len(run['features']):,} inputs"),
        ("target", Name(target)),
        ("checks", f"{len(data['checks']) - warned} passed, {warned} warned"),
        ("SHA-256", Name(run["data_hash"])),
    ]
    return Section("Data", (), _table(("what", "value"), cells))


def _limits(evaluation: Evaluation) -> Section:
    """The limits of the gate, and of the model as it is served: parity, latency, size; and in which format that is."""
    found = findings(evaluation)
    tables = [found[about].table for about in ("limits", "portable") if about in found]
    rows = [row for table in tables if table for row in table.rows]
    form = evaluation.format or Format("onnx")
    why = f", for this reason: {form.format_reason}" if form.format_reason else ""
    int8 = evaluation.int8
    weights = f", its weights in int8 ({int8.how})" if int8 and int8.taken else ""
    table = _table(("what", "observed", "limit", "result"), rows[: 2 * MOST])
    return Section("Limits", [f"Served as {form.format}{weights}{why}."], table)


def _decided(evaluation: Evaluation) -> list[Section]:
    """The threshold and the rules, where there are any."""
    found = findings(evaluation)
    return [found[about] for about in ("decision", "rules") if about in found]


def _slices(evaluation: Evaluation) -> list[Section]:
    """The slices beside production, those that are worse first; nothing where there was no production model."""
    found = findings(evaluation).get("slices")
    if found is None or found.table is None:
        return []
    rows = [
        (name, rows, candidate, production, mark) for name, rows, candidate, production, *_, mark in found.table.rows
    ]
    heads = ("slice", "rows", "this model", "production", "this model is")
    return [Section("Slices", [f"By {in_words(evaluation.metric)}."], _table(heads, rows[:MOST]))]


def _lineage(evaluation: Evaluation, run: Mapping) -> Section:
    rows: list[tuple[str, Cell]] = [
        ("commit", Name(run["commit"] + (" with uncommitted changes" if run["dirty"] else ""))),
        ("trained", Name(f"{run['trained_at']} by {run['trained_by']}")),
        ("because of", Name(run["reason"])),
        ("requirements, SHA-256", Name(run["lock_hash"])),
        ("gate", f"policy “{evaluation.policy.replace('_', ' ')}”, margin {evaluation.margin:g}"),
    ]
    link = Markup(f"Run {run_link(run['experiment_id'], run['run_id'])}.")
    return Section("Where it comes from", [link], _table(("what", "value"), rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], strong: int | None = None) -> Table:
    """A table with an empty column between two, for MLflow's pages leave no room there."""
    apart = [[each for cell in row for each in (cell, "")][:-1] for row in rows]
    between = [each for head in heads for each in (head, "&emsp;")][:-1]
    return Table(between, apart, words=range(len(between)), strong=strong)


def run_link(experiment: str, run: str) -> str:
    """A run as a link within MLflow's pages, wherever these are served; as text where an id is none."""
    if not all(re.fullmatch(r"[\w-]+", each) for each in (experiment, run)):
        return code(run)
    return f"[{code(run)}]({mlflow_pages.run(experiment, run)})"


def _fitted(first: str, parts: Mapping[str, str], last: str) -> str:
    """As many whole sections as there is room for, in their order, and the names of those left out."""
    room = LONGEST - ROOM - len(f"{first}{last}") - len(LEFT_OUT.format(", ".join(parts))) - 3
    kept, left = [first], []
    for heading, part in parts.items():
        if len(part) <= room:
            kept.append(part)
            room -= len(part)
        else:
            left.append(heading)
    note = f"{LEFT_OUT.format(', '.join(left))}\n\n" if left else ""
    return f"{''.join(kept)}{note}{last}"


# --- approvals --------------------------------------------------------------------------------------------------------


def approved(description: str, when: str, who: str, how: str, record: Mapping | None) -> str:
    """The description with a line for this approval; unchanged where a line names that deployment record already.

    `when` is 2026-01-31 13:45, `record` {"experiment_id", "run_id"} of the deployment. What people wrote stays. Where it
    becomes too long for MLflow, lines of the oldest approvals go; where that is not enough, nothing is added.
    """
    shown = run_link(record["experiment_id"], record["run_id"]) if record else "none"
    if record and code(record["run_id"]) in description:  # whatever address its link has
        return description
    line = f"- {when}: put into production by {code(who)} ({prose(how)}), deployment record {shown}"
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


# --- experiments ------------------------------------------------------------------------------------------------------


def tried(description: str, days: str, what: str, how_it_ended: str, record: Mapping) -> str:
    """The description with a line for an experiment that has ended; unchanged where a line names its run already.

    `days` is 2026-01-02 to 2026-01-31, `record` {"experiment_id", "run_id"}. The section stands before the approvals. Where the whole
    becomes too long for MLflow, nothing is added: the run has it.
    """
    if code(record["run_id"]) in description:
        return description
    line = f"- {days}: {prose(what)}: {prose(clean(how_it_ended, REASON))}, run {run_link(record['experiment_id'], record['run_id'])}"
    if EXPERIMENTS in description:
        longer = description.replace(f"{EXPERIMENTS}\n\n", f"{EXPERIMENTS}\n\n{line}\n", 1)
    elif APPROVALS in description:
        longer = description.replace(APPROVALS, f"{EXPERIMENTS}\n\n{line}\n\n{APPROVALS}", 1)
    else:
        longer = f"{description.rstrip()}\n\n{EXPERIMENTS}\n\n{line}".lstrip()
    return longer if len(longer) <= LONGEST else description
