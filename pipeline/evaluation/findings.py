"""What an evaluation found, in sections of sentences and tables: the same for every page that shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluation.record import (
    FORMAT_ROWS,
    BestSoFar,
    Compared,
    Evaluation,
    FormatRow,
    Formats,
    LimitRow,
    MetricRow,
    Search,
    SliceRow,
)
from pipeline.evaluation.wording import Mark, change, clean, in_words, known, number, places, setting, signed

MOST_ROWS = 60  # of one table; evaluation.json has them all


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
    """A heading with sentences and perhaps a table; `plots` names those that stand here."""

    heading: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    plots: Sequence[str] = ()


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
    search = [_search(evaluation.search)] if evaluation.search else []
    return [*findings(evaluation).values(), *search, _data(data), _lineage(evaluation, data, run)]


def findings(evaluation: Evaluation) -> dict[str, Section]:
    """What the evaluation found, by what it is about; what there is nothing to say of is left out."""
    parts = {
        "metrics": _metrics(evaluation),
        "power": _power(evaluation),
        "decision": _decision(evaluation),
        "rules": _rules(evaluation),
        "slices": _slices(evaluation),
        "limits": _limits(evaluation),
        "portable": _portable(evaluation),
        "int8": _int8(evaluation),
        "formats": _formats(evaluation),
    }
    return {about: part for about, part in parts.items() if part is not None}


def _metrics(evaluation: Evaluation) -> Section:
    rows, decides = evaluation.metrics, evaluation.metric
    names = [in_words(row.metric) + (", decides" if row.metric == decides else "") for row in rows]
    strong = next((place for place, row in enumerate(rows) if row.metric == decides), None)
    held = f"{evaluation.rows:,} rows of the hold-out"
    copies = [repeated_rows(evaluation)] if distinct(evaluation) < evaluation.rows else []
    copies += how_rows_count(evaluation)
    if evaluation.comparison is None:
        why = "Nothing is in production yet." if evaluation.first else "It could not be compared with production."
        cells = [(name, *alone(row)) for name, row in zip(names, rows, strict=True)]
        if any(row.interval or row.baseline is not None for row in rows):
            table = Table(("metric", "candidate", "interval", "baseline"), cells, strong=strong)
            return Section("The candidate", [f"On {held}. {why}", *copies], table, _notes_alone(evaluation))
        table = Table(("metric", "candidate"), [cell[:2] for cell in cells], strong=strong)
        return Section("The candidate", [f"On {held}. {why}", *copies], table)
    table = Table(
        ("metric", "candidate", "production", "difference", "interval", "candidate is"),
        [(name, *compared(row), change(row, row.higher_is_better)) for name, row in zip(names, rows, strict=True)],
        words=(0, 5),
        strong=strong,
    )
    notes = [
        "Difference: candidate − production. "
        f"Interval: {_sure(evaluation)} % confidence in each bound, by a paired bootstrap over the {_units(evaluation)}.",
        "▲ ▼ the whole interval says so. △ ▽ the estimate says so, the interval does not.",
    ]
    best = [best_not_compared(evaluation.best)] if evaluation.best and evaluation.best.problem else []
    return Section("Candidate beside production", [f"Both models on the same {held}.", *copies, *best], table, notes)


def _sure(evaluation: Evaluation) -> str:
    """The confidence of each bound, in percent."""
    return number(100 * evaluation.confidence, 1).removesuffix(".0")


def alone(row: MetricRow) -> tuple[str, str, str]:
    """Candidate, its interval and the baseline, all with as many decimals as the candidate needs."""
    low, high = row.interval or (None, None)
    digits = places(row.candidate, low, high, figures=4)
    interval = f"{number(low, digits)} to {number(high, digits)}" if known(low) and known(high) else "–"
    return number(row.candidate, digits), interval, number(row.baseline, digits)


def _notes_alone(evaluation: Evaluation) -> list[str]:
    """What interval and baseline of a model without a production model beside it mean."""
    answer = "the mean of the target" if evaluation.task == "regression" else "the share of each class"
    return [
        f"Interval: {_sure(evaluation)} % confidence in each bound, by a bootstrap over the {_units(evaluation)}.",
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


def how_rows_count(evaluation: Evaluation) -> list[str]:
    """Sentences on the weight, group and time of the rows, as far as pipeline.toml names such columns."""
    counting, said = evaluation.counting, []
    if counting is None:
        return []
    if counting.cut:
        said.append(
            f"Held out are the newest rows, from {when(counting.cut)} on ({clean(counting.time)}); the model learned from those before."
        )
    if counting.groups is not None:
        said.append(
            f"The rows are of {counting.groups:,} groups ({clean(counting.group)}). Rows of one group are not independent of one another, "
            "so they are drawn together and count as one."
        )
    if counting.weight:
        said.append(
            f"Rows count by their weight ({clean(counting.weight)}): figures, intervals and curves are weighted."
        )
    if counting.unweighted:
        names = ", ".join(map(in_words, counting.unweighted))
        said.append(f"Not weighted: {names}, for the function takes no sample_weight.")
    return said


def when(cut: str) -> str:
    """The time of a cut without a time of day of nothing but zeros."""
    return cut.removesuffix("T00:00:00.000000Z").removesuffix(".000000Z").removesuffix(".0")


def _units(evaluation: Evaluation) -> str:
    """What the bootstrap draws."""
    return "rows" if evaluation.counting is None or evaluation.counting.groups is None else "groups"


def _held_out(evaluation: Evaluation) -> str:
    """How many rows there are, and of how many groups."""
    of = "" if _units(evaluation) == "rows" else f" of {evaluation.counting.groups:,} groups"  # type: ignore[union-attr]
    return f"{evaluation.rows:,} rows{of}"


def best_not_compared(best: BestSoFar) -> str:
    """Why the candidate stands beside production alone, though an earlier version is the best so far."""
    return f"Version {best.version}, the best so far, could not be compared as well: {clean(best.problem, 300)}."


def compared(row: Compared) -> tuple[str, str, str, str]:
    """Candidate, production, difference and interval, all with as many decimals as the difference needs."""
    digits = places(row.candidate, row.production, figures=4)
    if row.difference or row.lower or row.upper:
        digits = max(digits, places(row.difference, row.lower, row.upper))
    lower, upper = signed(row.lower, digits), signed(row.upper, digits)
    interval = f"{lower} to {upper}" if known(row.lower) and known(row.upper) else "–"
    return (
        number(row.candidate, digits),
        number(row.production, digits),
        signed(row.difference, digits),
        interval,
    )


def _power(evaluation: Evaluation) -> Section | None:
    comparison = evaluation.comparison
    if comparison is None or not known(comparison.difference):
        return None
    metric, rows = in_words(evaluation.metric), _held_out(evaluation)
    heading = "What this hold-out can show"
    if comparison.difference == 0 and not comparison.detectable:
        return Section(heading, [f"Both models score alike in {metric} on these {rows}: no difference to measure."])
    if not known(comparison.detectable):
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
            *compared(row),
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
    """The rows of a slice, and of how many groups they are, or where some are copies how many are not."""
    if row.groups is not None:
        return f"{row.rows:,} ({row.groups:,} groups)"
    return f"{row.rows:,}" if distinct(row) == row.rows else f"{row.rows:,} ({distinct(row):,} distinct)"


def _slice_mark(row: SliceRow, higher_is_better: bool) -> Mark:
    mark = change(row, higher_is_better)
    if row.worse:
        return Mark("▼", "worse", "worse")
    if not row.judged:
        return Mark("·", "not judged: too few rows", "quiet")
    return Mark("▼", "worse, within the margin", "warn") if mark.tone == "worse" else mark


RULES = {
    "fixed": "It is fixed in pipeline.toml",
    "cost": "It is where false answers cost least",
    "precision": "It has the highest recall of those whose precision is at least",
    "recall": "It has the highest precision of those whose recall is at least",
}


def _decision(evaluation: Evaluation) -> Section | None:
    one = evaluation.decision
    if one is None:
        return None
    floor = f" {setting(one.floor)}" if one.floor is not None else ""
    folds = f", on {one.folds_rows:,} rows of the training side that folds judged" if one.folds_rows else ""
    sentence = f"{RULES.get(one.rule, one.rule)}{floor}{folds}. The hold-out had no part in it."
    figures = [
        ("precision", one.expected_precision, one.precision),
        ("recall", one.expected_recall, one.recall),
        ("mean cost per row", one.expected_cost, one.cost),
    ]
    rows = [
        (name, number(expected), number(measured))
        for name, expected, measured in figures
        if known(expected) or known(measured)
    ]
    said = f"A row is {clean(one.positive)} when its probability is at least {number(one.threshold, 4)}."
    if evaluation.counting and evaluation.counting.weight:
        said += f" Rows count by their weight ({clean(evaluation.counting.weight)}): the figures here are weighted."
    table = Table((f"threshold {number(one.threshold, 4)}", "expected", "on the hold-out"), rows)
    return Section("Threshold", [said, sentence], table, plots=("threshold",))


def _rules(evaluation: Evaluation) -> Section | None:
    if not evaluation.rules:
        return None
    error = evaluation.task == "regression"
    shown = number if error else _percent
    rows = [
        (
            Name(one.rule),
            "before the model" if one.before else "after it",
            f"{one.rows:,}",
            shown(one.right),
            shown(one.right_without),
        )
        for one in evaluation.rules
    ]
    what = "mean absolute error" if error else "right"
    heads = ("rule", "stands", "rows decided", f"{what}, with it", f"{what}, model alone")
    sentence = f"What the rules of project/rules.py decided on the {evaluation.rows:,} rows; the other figures are of model and rules together."
    return Section("Rules", [sentence], Table(heads, rows, words=(0, 1)))


def _percent(share: float | None) -> str:
    return f"{number(100 * share, 1)} %" if known(share) else "–"


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
        sentences.append(
            f"It is served by {evaluation.format.library} itself, not as ONNX. {evaluation.format.format_reason}."
        )
    return Section("Portable model", sentences, Table(("check", "observed", "at most", "result"), rows, words=(0, 3)))


def _int8(evaluation: Evaluation) -> Section | None:
    """The candidate in int8 beside the one in float32."""
    found, heading = evaluation.int8, "In int8"
    if found is None:
        return None
    if found.float32 is None or found.int8 is None:
        return Section(heading, [f"There is no candidate in int8 ({found.how}): {clean(found.reason, 300)}."])
    digits = places(found.float32.value, found.int8.value, figures=4)
    rows = [
        (name, number(one.value, digits), f"{one.size:,}", f"{one.row_ms:.3g}", f"{one.rows_ms:.3g}")
        for name, one in (("float32", found.float32), (f"int8, {found.how}", found.int8))
    ]
    goes = "int8" if found.taken else "float32"
    sentences = [f"{goes} goes on: {found.reason}. Everything else in this report is about the model in {goes}."]
    if found.comparison and known(found.comparison.lower) and known(found.comparison.upper):
        *_, difference, interval = compared(found.comparison)
        sentences.append(f"Difference, int8 − float32: {difference}, {interval}. Margin: {setting(found.margin)}.")
    heads = ("candidate", in_words(evaluation.metric), "bytes", "ms, 1 row", "ms, 1,000 rows")
    note = f"Largest difference of an answer: {found.largest_difference or 0:.2g}. Times: medians in one thread, by turns, of the model alone."
    return Section(heading, sentences, Table(heads, rows, strong=int(found.taken)), [note])


def _formats(evaluation: Evaluation) -> Section | None:
    """The model in every format, where somebody compared them."""
    found = evaluation.formats
    if found is None:
        return None
    taken = evaluation.int8.how if evaluation.int8 and evaluation.int8.taken else ""
    sentences = [
        f"The model stored in every format, by make compare-formats, {found.made_at}.",
        *absent_formats(found),
    ]
    notes = [*formats_safety(found), conditions(found)]
    return Section("Formats", sentences, formats_table(found, taken), notes, ["formats"])


def formats_table(found: Formats, int8: str = "") -> Table:
    """A row for each format that there is; strong is the one that goes on, which is an int8 one where `int8` says how it was made."""
    rows = [one for one in found.formats if one.size is not None]
    counts = [f"µs, {count:,} row{'s' * (count > 1)}" for count in FORMAT_ROWS]
    heads = ("format", "kB", "load, ms", "again, ms", *counts, "largest difference", "safe to open")
    strong = next((place for place, one in enumerate(rows) if _goes_on(one, int8)), None)
    return Table(heads, [_format_cells(one) for one in rows], words=(0, len(heads) - 1), strong=strong)


def absent_formats(found: Formats) -> list[str]:
    """A sentence for each format in which the model cannot be stored."""
    return [f"Not as {one.name}: {clean(one.missing, 200)}." for one in found.formats if one.size is None]


def formats_safety(found: Formats) -> list[str]:
    """Why a format is safe to open or not: a sentence for each reason, with the formats that share it."""
    shared: dict[str, list[str]] = {}
    for one in found.formats:
        if one.size is not None and ": " in one.safe:
            shared.setdefault(one.safe.replace(": ", "; "), []).append(one.name)
    return [f"Safe to open? {', '.join(names)}: {reason}." for reason, names in shared.items()]


def conditions(found: Formats) -> str:
    """How and on what it was measured."""
    versions = ", ".join(f"{name} {version}" for name, version in found.libraries.items())
    return (
        "Load: median of three fresh processes, imports included; again: once more in the same process. Times to answer: medians in one thread, "
        "by turns, of the model alone. Difference: to the trained model, "
        f"over {found.rows:,} rows of the hold-out. {found.cores} cores ({found.processor})"
        f"{', which did other work too' if found.shared else ''}; Python {found.python}, {versions}."
    )


def _format_cells(one: FormatRow) -> Sequence[Cell]:
    loads = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (one.cold_ms or 0.0, one.load_ms or 0.0)]
    answers = [f"{ms * 1000:,.0f}" if ms >= 0.01 else f"{ms * 1000:.2g}" for ms in one.answer_ms]
    difference = "0" if not one.difference else f"{one.difference:.1e}"
    return (one.name, f"{(one.size or 0) / 1000:,.1f}", *loads, *answers, difference, one.safe.partition(":")[0])


def _goes_on(one: FormatRow, int8: str) -> bool:
    return one.name == f"ONNX int8, {int8}" if int8 else one.served


def _holds(success: bool, yes: str, no: str) -> Mark:
    return Mark("✓", yes, "better") if success else Mark("✕", no, "worse")


def _search(search: Search) -> Section:
    """What a search for parameters tried, its best trials first."""
    ways = {"grid": "every combination", "random": "combinations by chance", "optimise": "Optuna's TPE"}
    winner = next((one for one in search.trials if one.number == search.winner), None)
    digits = places(winner.mean, figures=4) if winner else 4
    names = list(winner.parameters) if winner else []
    metric = in_words(search.metric)
    cells = [
        (
            "as in pipeline.toml" if one.number == 0 else f"trial {one.number}",
            *(Name(_parameter(one.parameters.get(name))) for name in names),
            f"{number(one.mean, digits)} ± {number(one.deviation, digits)}" if known(one.mean) else "–",
        )
        for one in search.trials
    ]
    said = [
        f"The parameters of the candidate were found by a search ({ways.get(search.method, search.method)}) over {search.finished} trials, "
        f"each cross-validated in {search.folds} folds of the training side. The hold-out had no part in it."
    ]
    if search.finished < search.planned:
        said.append(f"The time limit came before all {search.planned} trials were finished.")
    if search.failed:
        said.append(f"{search.failed} failed; build/search.json has the reasons.")
    if winner and winner.number == 0:
        said.append("No other trial was better than the parameters as pipeline.toml has them.")
    notes = [
        f"{metric} ± its standard deviation over the folds. The winner's own is flattering, for it is the best of many: the figures "
        "on the hold-out are not.",
        f"The {len(search.trials)} best are shown.",
    ]
    table = Table(("trial", *map(clean, names), metric), cells, words=range(len(names) + 1), strong=0)
    return Section("Search for parameters", said, table, notes, plots=("search",))


def _parameter(value: object) -> str:
    """A parameter's value, with no more digits of a number than one reads."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


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
    if shapley := evaluation.shapley:
        beside = f"{shapley.rows:,} held-out rows beside {shapley.background:,} training rows"
        rows.append(("Shapley values", f"none: {shapley.missing}" if shapley.missing else beside))
    margin = f"margin {setting(evaluation.margin)} {in_words(evaluation.metric)}"
    rows.append(("gate", f"policy “{evaluation.policy.replace('_', ' ')}”, {margin}"))
    if production:
        since = f", since {production.since}" if production.since else ""
        rows.append(("production", f"version {production.version}{since}"))
        rows.append(("production, run", Name(production.run_id)))
        rows += [("production, commit", Name(production.commit))] if production.commit else []
    return Section("Where this comes from", [], Table(("what", "value"), rows, words=(0, 1)))
