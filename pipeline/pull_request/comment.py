"""The comment on a pull request, as Markdown made here from the report's numbers and texts.

Every text of the report is shown letter by letter: the report may be a stranger's. The HTML tags are ours only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.data import drift
from pipeline.evaluation import record
from pipeline.evaluation.findings import Cell, Name, Section, Table, compared, headline
from pipeline.evaluation.findings import findings as of_evaluation
from pipeline.evaluation.github_markdown import CUT, blocks_of, environment
from pipeline.evaluation.record import Compared, Evaluation
from pipeline.evaluation.wording import Mark, change, clean, in_words, number
from pipeline.pull_request.schema import Change, Data, PullRequest, Replay

MOST = 60_000  # characters; GitHub takes 65,536
HEADER = "slipway"  # by this a later comment finds the earlier one, to replace it
LABEL = 36  # characters of a name under a bar

AS_STAGE = {
    "validate": "The data was not validated",
    "validate-model": "The model's code did not pass its checks",
    "train": "The model was not trained",
    "evaluate": "The candidate was not compared",
}
ORDER = ("metrics", "power", "decision", "limits", "slices", "portable")  # of what the evaluation found
WHAT_TO_DO = {
    "validate": "Correct the data, or the rule in project/checks.py that does not hold.",
    "validate-model": "Correct project/model.py, or the rule in project/checks.py that does not hold.",
    "train": "The log of the step says why.",
    "evaluate": "The log of the step says why.",
}


@dataclass(frozen=True)
class Chart:
    """A Mermaid chart of horizontal bars: one colour, and one list of values, per series."""

    title: str
    names: Sequence[str]
    most: float
    series: Sequence[Sequence[float]]

    @property
    def height(self) -> int:
        """Room for every bar."""
        return 80 + 26 * len(self.names)

    @property
    def palette(self) -> str:
        """Grey for production, blue for the candidate."""
        return ", ".join(("#8b949e", "#2f6fdb")[-len(self.series) :])

    @property
    def labels(self) -> str:
        """The names of the bars, in quotes."""
        return ", ".join(labels(self.names))

    @property
    def ends(self) -> str:
        """Where the axis of values begins and ends."""
        return f"0 --> {self.most:.4g}"

    @property
    def bars(self) -> list[str]:
        """The values of each series."""
        return [", ".join(f"{value:.4f}" for value in values) for values in self.series]


def markdown(found: PullRequest, link: str, head: str | None) -> str:
    """The whole comment; `link` and `head` are of the run and commit as GitHub says, not as the report says."""
    page = _template("comment.md").render(
        **_found(found),
        title=title(found),
        on_merge=on_merge(found),
        link=Markup(link),
        commit=(head or found.commit or "")[:12],
    )
    return fitted(page.split(CUT), MOST)


def findings(found: PullRequest) -> list[str]:
    """Everything that was found, in blocks that are shown whole or not at all."""
    return blocks_of(_template("found.md").render(**_found(found)))


def _template(name: str):
    return environment(Path(__file__).with_name("templates")).get_template(name)


def _found(found: PullRequest) -> dict[str, Any]:
    """What the templates show of a report: sections and charts, in the order in which they are read."""
    evaluation, data = _evaluation(found), found.data
    every = of_evaluation(evaluation) if evaluation else {}
    believed = evaluation and not (found.production_unknown and evaluation.verdict != "refuse")
    return {
        "found": found,
        "failed_stage": AS_STAGE.get(found.failed_stage or ""),
        "what_to_do": WHAT_TO_DO.get(found.failed_stage or ""),
        "reasons": evaluation.reasons if evaluation and believed else [],
        "parts": {about: every[about] for about in ORDER if about in every},
        "scores": _scores(evaluation) if evaluation else None,
        "moved": _moved(data.change) if data else None,
        "replay": _replay(found.replay) if found.replay else None,
        "data": [_changes(data), *_failed_checks(data)] if data else [],
    }


def _evaluation(found: PullRequest) -> Evaluation | None:
    return record.of_plain(found.evaluation.model_dump()) if found.evaluation else None


def fitted(blocks: Sequence[str], most: int) -> str:
    """As many whole blocks as `most` characters hold, and a note of how many are left out; the last block always stays."""
    note = "_{} sections are left out, for a comment holds only so much: the artifacts of the run have them all._"
    *body, last = [block.strip("\n") for block in blocks]
    body = [block for block in body if block]
    room = most - len(last) - len(note) - 10
    kept: list[str] = []
    for block in body:
        if len(block) + 2 <= room:
            kept.append(block)
            room -= len(block) + 2
    left = len(body) - len(kept)
    shown = [*kept, *([note.format(left)] if left else []), *([last] if last else [])]
    return "\n\n".join(shown) + "\n"


# --- the verdict ------------------------------------------------------------------------------------------------------


def title(found: PullRequest) -> str:
    """The verdict as a sign and a word."""
    if found.evaluation is None:
        return "❌ Failed"
    if found.production_unknown and found.evaluation.verdict != "refuse":
        return "⚠️ Not compared"
    head = headline(record.of_plain(found.evaluation.model_dump()))
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


# --- sections ---------------------------------------------------------------------------------------------------------


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
        (Name(one.column), number(one.psi, 3), _mark(one.psi), *map(_percent, one.missing.model_dump().values()))
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


def _failed_checks(data: Data) -> list[Section]:
    if not data.failed:
        return []
    rows = [(Name(one.column), Name(one.rule), one.severity, Name(one.observed)) for one in data.failed]
    table = Table(("column", "rule", "severity", "observed"), rows, words=range(4))
    return [Section("Data checks that failed", (), table)]


def _replay(found: Replay) -> Section:
    """The candidate on production's rows of late."""
    heading = "On the rows that production answered"
    if found.note:
        return Section(heading, [found.note])
    days = f"{found.days:,} days" if found.days != 1 else "day"
    sentences = [
        f"The candidate was asked {found.rows:,} rows of the last {days}: {_percent(found.agreement or 0)} of the answers are the same."
    ]
    if found.refused:
        sentences.append(f"It has no answer to {found.refused:,} more.")
    if not found.outcomes:
        return Section(heading, [*sentences, "No outcome of these rows has come yet."])
    about = "" if found.subjects is None else f" of {found.subjects:,} subjects"
    row = Compared(**{key: getattr(found, key) for key in Compared.__struct_fields__})
    table = Table(
        ("metric", "candidate", "production", "difference", "interval", "candidate is"),
        [(in_words(found.metric), *compared(row), change(row, found.higher_is_better))],
        words=(0, 5),
    )
    notes = [
        f"On {found.outcomes:,} outcomes{about}. For information: the verdict rests on the hold-out. replay.html has all.",
    ]
    return Section(heading, sentences, table, notes)


# --- charts -----------------------------------------------------------------------------------------------------------


def _scores(evaluation: Evaluation) -> Chart | None:
    """Candidate and production by metric, side by side, as a chart of those metrics that are between 0 and 1."""
    rows = [row for row in evaluation.metrics if _between(row.candidate) and _between(row.production)][:12]
    if not rows:
        return None
    # Bars of two series would cover each other, so each has places of its own; one below the axis is not drawn.
    names = [f"{label(in_words(row.metric), 30)}{side}" for row in rows for side in ("", ", new")]
    production = [value for row in rows for value in (row.production or 0.0, -1.0)]
    candidate = [value for row in rows for value in (-1.0, row.candidate or 0.0)]
    return Chart("production (grey) and candidate (blue)", names, 1, [production, candidate])


def _between(value: float | None) -> bool:
    return value is not None and 0 <= value <= 1


def _moved(change: Change | None) -> Chart | None:
    """The stability index of the columns that moved most, as a chart, if any has moved."""
    rows = change.drift[:12] if change else []
    if not rows or rows[0].psi < drift.MODERATE:
        return None
    values = [min(row.psi, 10.0) for row in rows]
    title = f"PSI by column: moved from {drift.MODERATE}, far from {drift.LARGE}"
    return Chart(title, [row.column for row in rows], max(values), [values])


def labels(names: Sequence[str]) -> list[str]:
    """Names as a chart may show them, in quotes; two that look alike get numbers, for a chart would take them for one."""
    found: list[str] = []
    for name in map(label, names):
        numbered = (f"{name} {count}" for count in range(2, len(names) + 2))
        found.append(next(one for one in (name, *numbered) if one not in found))
    return [f'"{name}"' for name in found]


def label(name: str, most: int = LABEL) -> str:
    """A name as a chart may show it: letters, digits and a few signs that are safe between quotes."""
    kept = "".join(each if each.isalnum() or each in " -.," else " " for each in clean(name))
    kept = " ".join(kept.split())
    return (kept if len(kept) <= most else f"{kept[: most - 1]}…") or "?"
