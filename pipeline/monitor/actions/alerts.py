"""What people are told of the monitor's findings: the text of an issue for each kind of incident, and one message for a chat."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipeline.ci import issues
from pipeline.ci.issues import Kept, Matter
from pipeline.evaluation.findings import Name, Table
from pipeline.evaluation.github_markdown import code, environment, prose, web
from pipeline.evaluation.wording import clean, in_words, known, number, places, setting
from pipeline.monitor.findings import Findings, Incident, Measured, WatchedVersion

TEMPLATES = Path(__file__).with_name("templates")
MOST_ROWS = 40  # of an issue's table; the report has all
MOST_NAMES = 5  # columns that a title or a chat message names
EXHAUSTED = "retraining_exhausted"
NEEDS_HUMAN = "needs-human"


@dataclass(frozen=True)
class Kind:
    """A kind of incident in words, its runbook in docs/runbooks/, and the first step in there."""

    words: str
    runbook: str
    first: str


KINDS = {
    "data_broken": Kind(
        "broken data",
        "data-broken",
        "Look at the newest rows of these columns, and ask whoever sends them. Do not retrain on them.",
    ),
    "data_drift": Kind(
        "data drift",
        "drift-found",
        "See what else happened on the first day: a release, a new caller, a change of the source.",
    ),
    "prediction_drift": Kind(
        "drift of the predictions",
        "drift-found",
        "See which columns drifted too, and whether a release was made on the first day.",
    ),
    "target_drift": Kind(
        "drift of the target",
        "drift-found",
        "See whether outcomes come for all predictions, or for some kinds only.",
    ),
    "concept_drift": Kind(
        "another relation between inputs and outcomes",
        "performance-falling",
        "Look at the slices in the report: is it all rows, or some?",
    ),
    "performance": Kind(
        "falling performance",
        "performance-falling",
        "Look at the slices in the report: is it all rows, or some? Then retrain, or go back with `make rollback`.",
    ),
}
CHECKS = {
    "distribution": "distribution",
    "missing": "empty cells",
    "outside": "values outside the range",
    "unseen": "values never seen",
    "volume": "number of rows",
    "refused": "refused requests",
    "unreadable": "values of another type",
    "wrong": "wrong answers",
    "loss": "loss",
    "surprise": "surprising outcomes",
    "limit": "absolute limit",
}


def judged(found: Findings) -> bool:
    """Whether any version was judged: where none was, nothing is known, and no issue is opened or closed."""
    return bool(found.incidents) or any(version.judged for version in found.versions)


def matters(found: Findings, blob: str | None, run: str) -> list[Matter]:
    """One matter for each kind of incident, those that are over or never were as well.

    `blob` is the address of the repository's files, None where it is not known; `run` is the page of the run, or "".
    """
    return [of_kind(kind, found, blob, run) for kind in KINDS]


def of_kind(kind: str, found: Findings, blob: str | None, run: str) -> Matter:
    """The matter of one kind of incident."""
    about = [one for one in found.incidents if one.kind == kind]
    standing = sorted((one for one in about if one.open), key=lambda one: (-one.evidence, _where(one)))
    ended = sorted((one for one in about if not one.open), key=lambda one: one.closed_day or "", reverse=True)
    known = KINDS[kind]
    page = (
        environment(TEMPLATES)
        .get_template("issue.md")
        .render(
            model=found.name,
            place=found.environment,
            what=known.words,
            standing=bool(standing),
            since=min((one.since for one in standing), default=""),
            sentences=[*measured(kind, found), *(one.words for one in standing[:MOST_ROWS])],
            more=max(len(standing) - MOST_ROWS, 0),
            table=_table(standing[:MOST_ROWS], found.versions) if standing else None,
            ended=[f"{_where(one)}: since {one.since}, over on {one.closed_day}" for one in ended[:MOST_ROWS]],
            first=Markup(known.first),
            runbook=Markup(_runbook(known.runbook, blob)),
            run=Markup(f"[This run]({run}) has the report as an artifact.") if web(run) else "",
            last_day=found.last_day,
        )
    )
    return Matter(
        mark=(found.name, found.environment, kind),
        title=title(kind, found, standing),
        body=page,
        over=f"It is over: up to {prose(found.last_day)} nothing of it is left.",
        day=found.last_day,
        parts={part(one): prose(one.words) for one in standing},
    )


def measured(kind: str, found: Findings) -> list[str]:
    """The metric of the days, measured on the last outcomes, for the kinds that are about outcomes."""
    if kind not in ("performance", "concept_drift"):
        return []
    return [
        f"{beside_holdout(one)} over the last {one.rows:,} outcomes"
        for one in found.performance.metrics
        if one.name == found.daily_metric
    ]


def beside_holdout(one: Measured) -> str:
    """A metric in short, as "accuracy 0.76 (hold-out 0.85)"; with more decimals where two would hide it."""
    digits = max(2, places(one.value, one.holdout, figures=2))
    return f"{in_words(one.name)} {number(one.value, digits)} (hold-out {number(one.holdout, digits)})"


def part(one: Incident) -> str:
    """What tells an incident from others of its kind: a column and what is wrong with it, whatever the version, the day and the figures."""
    return f"{one.column}\n{one.check}"


def title(kind: str, found: Findings, standing: Sequence[Incident]) -> str:
    """One line; GitHub shows the title of an issue as text, so nothing is escaped in it but a mention."""
    columns = _names(standing)
    about = f": {columns}" if columns else ""
    return unmentioned(clean(f"{found.name}, {found.environment}: {KINDS[kind].words}{about}", 200))


def message(kept: Kept, kind: str, found: Findings) -> str:
    """The message to a chat: plain text, whose first line is a summary."""
    standing = [one for one in found.incidents if one.kind == kind and one.open]
    if kept.change == issues.OVER:
        lines = [f"{found.name}, {found.environment}: {KINDS[kind].words} is over"]
    else:
        new = [one for one in standing if issues.part_id(part(one)) in kept.new] or standing
        again = {issues.REOPENED: " again", issues.GROWN: ", more of it"}.get(kept.change, "")
        head = f"{found.name}, {found.environment}: {KINDS[kind].words}{again}"
        more = [f"and {len(new) - MOST_NAMES} more"] if len(new) > MOST_NAMES else []
        first = KINDS[kind].first.replace("`", "")
        lines = [head, *(one.words for one in new[:MOST_NAMES]), *more, f"First: {first}"]
    return unmentioned("\n".join(clean(line, 500) for line in [*lines, kept.address] if line))


def exhausted(found: Findings, why: str, blob: str | None, run: str) -> Matter:
    """The matter of retraining that has given up; `why` is "" when it has not."""
    first = "Read why each retraining changed nothing, then decide: other data, another model, `make rollback`, or a new baseline."
    page = (
        environment(TEMPLATES)
        .get_template("exhausted.md")
        .render(
            model=found.name,
            place=found.environment,
            why=why,
            first=Markup(first),
            runbook=Markup(_runbook("retraining-exhausted", blob)),
            run=Markup(f"[The run]({run}) says more.") if web(run) else "",
        )
    )
    return Matter(
        mark=(found.name, found.environment, EXHAUSTED),
        title=f"{found.name}, {found.environment}: retraining did not help, a person must look",
        body=page,
        over="What retraining could not fix is over, or retraining may be tried again.",
        day=found.last_day,
        parts={"exhausted": prose(why)} if why else {},
        labels=(NEEDS_HUMAN,),
    )


def _table(standing: Sequence[Incident], versions: Sequence[WatchedVersion]) -> Table:
    """What, since when, how large, on which rows: a line for each incident."""
    last = {version.version: version.last_day for version in versions}
    heads = ("column", "what", "since", "noticed", "before", "now", "unit", "rows", "version", "to")
    rows = [
        (
            Name(one.column) if one.column is not None else "–",
            CHECKS[one.check],
            one.since,
            one.alarm_day,
            figure(one, one.before),
            figure(one, one.now),
            one.unit or "–",
            f"{one.rows:,}",
            Name(one.version),
            last.get(one.version, "–"),
        )
        for one in standing
    ]
    return Table(heads, rows, words=(0, 1, 2, 3, 6, 8, 9))


def figure(one: Incident, value: float | None) -> str:
    """The figure of an incident, then or now: a share in percent."""
    return percent(value) if one.unit.startswith("share") else setting(value)


def percent(share: float | None) -> str:
    """A share in percent with one decimal; a dash where it is not known."""
    if not known(share):
        return "–"
    return "< 0.1 %" if 0 < share < 0.0005 else f"{number(100 * share, 1)} %"


def _where(one: Incident) -> str:
    return f"{one.column}, {CHECKS[one.check]}" if one.column is not None else CHECKS[one.check]


def _names(standing: Sequence[Incident]) -> str:
    names = list(dict.fromkeys(str(one.column) for one in standing if one.column is not None))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(clean(name, 40) for name in names[:MOST_NAMES]) + more


def _runbook(name: str, blob: str | None) -> str:
    path = f"docs/runbooks/{name}.md"
    return f"[{code(path)}]({blob}/{path})" if blob and web(blob) else code(path)


def unmentioned(text: str) -> str:
    """Plain text in which nobody is called: chats and titles look for the sign and a name behind it."""
    return text.replace("@", "@\N{WORD JOINER}")
