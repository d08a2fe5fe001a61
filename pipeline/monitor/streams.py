"""What is watched of a version: streams of daily counts for the detector, and what an alarm of each means."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import msgspec
import numpy as np

from pipeline.monitor.detector import Cells, Likeness, Stream, distribution_cells, missing_cells, share_cells
from pipeline.monitor.findings import Check, Kind
from pipeline.monitor.plan import Trained
from pipeline.settings import Settings
from serving.counts.records import Column, Day, Outcomes, Rows, Version

DECIDER = "what decides"  # among the predictions: the model, or a rule of project/rules.py
Before = dict[tuple[str, str], Likeness]  # by column and check, from the version before


@dataclass(frozen=True)
class Watched:
    """A stream and what it is about; `label` is its name in tables and pictures, `column` that in the data, if it is one's."""

    kind: Kind
    check: Check
    label: str
    column: str | None
    stream: Stream
    what: str  # what the share of a cell is; where it ends with a space, the cell's name belongs behind it
    about: str = ""  # the column, or what a model answers, that a sentence names

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it across versions."""
        return self.label, self.check

    def unit(self, cell: str) -> str:
        """What figure the share of a cell is, for a table in which the column stands beside it."""
        return f"{self.what}{cell}" if self.what.endswith(" ") else self.what

    def words(self, cell: str) -> str:
        """The same for a sentence, with the column's name."""
        return f"{self.what}with {self.about} {cell}" if self.about else self.unit(cell)


@dataclass(frozen=True)
class History:
    """The days of one version, without gaps: `dates`, and the record of each, or None for a day without rows."""

    version: str
    dates: list[str]
    days: list[Day | None]

    @classmethod
    def of(cls, version: str, days: Sequence[Day], last: str) -> "History":
        """The history from a version's first day with rows up to a last day."""
        known = {day.day: day for day in days if day.version == version and day.day <= last}
        with_rows = [name for name, day in known.items() if day.rows and day.rows.rows]
        if not with_rows:
            return cls(version, [], [])
        first, end = date.fromisoformat(min(with_rows)), date.fromisoformat(max(with_rows))
        dates = [(first + timedelta(number)).isoformat() for number in range((end - first).days + 1)]
        return cls(version, dates, [known.get(name) for name in dates])

    def until(self, last: str) -> "History":
        """The same up to a last day, on which nobody may have asked."""
        end = date.fromisoformat(self.dates[-1])
        more = [(end + timedelta(number + 1)).isoformat() for number in range((date.fromisoformat(last) - end).days)]
        return replace(self, dates=self.dates + more, days=[*self.days, *(None for _ in more)])

    def fitting(self, version: Version) -> "History":
        """The same without outcomes that were counted in other classes or bins, for an older model that had this version's number."""
        return replace(self, days=[_fitting(day, version) for day in self.days])

    def rows(self) -> list[Rows]:
        """What was asked, per day."""
        return [(day.rows if day else None) or Rows() for day in self.days]

    def outcomes(self, until: str = "9999") -> list[Outcomes]:
        """How the rows turned out, per day; nothing for days after `until`, whose outcomes are still to come."""
        return [
            (day.outcomes if day and name <= until else None) or Outcomes()
            for name, day in zip(self.dates, self.days, strict=True)
        ]


def _fitting(day: Day | None, version: Version) -> Day | None:
    if day is None or day.outcomes is None or not day.outcomes.rows:
        return day
    told = day.outcomes
    bins = [(told.target, version.target), (told.loss, version.loss)]
    alike = all(
        column is None or len(column.counts) == 1 + len(where.values if where.values is not None else where.edges or [])
        for column, where in bins
    )
    if alike and len(told.confusion) == len(version.contract.classes):
        return day
    return msgspec.structs.replace(day, outcomes=None)


def streams(
    settings: Settings, version: Version, trained: Trained, history: History, mature: str, before: Before
) -> list[Watched]:
    """Everything that is watched of a version; outcomes are judged up to the day `mature`."""
    found = [*_inputs(settings, version, trained, history), *_answers(settings, version, trained, history)]
    found += _outcomes(settings, version, trained, history, mature)
    kept = [one for one in found if len(one.stream.cells.names)]
    return [
        replace(one, stream=replace(one.stream, before=before[one.key])) if one.key in before else one for one in kept
    ]


def _tolerance(settings: Settings, column: str) -> float:
    return settings.monitor.tolerances.get(column, settings.monitor.tolerance)


def _inputs(settings: Settings, version: Version, trained: Trained, history: History) -> Iterator[Watched]:
    rows, number = history.rows(), trained.reference["rows"]
    observed = {column.name: column.observed for column in version.contract.inputs}
    booleans = {column.name for column in version.contract.inputs if column.type == "boolean"}
    for name, reference in trained.reference["features"].items():
        tolerance = _tolerance(settings, name)
        columns = [day.features.get(name) for day in rows]
        counts = table(columns, bins_of(reference))
        cells = distribution_cells(reference, number, tolerance)
        known = observed.get(name)
        if "edges" not in reference and known is not None and known.values is not None:
            unseen = [(column.unseen, sum(column.counts)) if column else (0, 0) for column in columns]
            beyond = share_cells("unseen in training", 0.0, number, tolerance)
            yield Watched("data_broken", "unseen", name, name, Stream(beyond, _parts(unseen)), "share of rows ", name)
            if len(known.values) <= len(reference["shares"]):  # all others are unseen
                cells = _some(cells, [place for place, bins in enumerate(cells.pick) if not bins[-2]])
        if name in booleans:
            cells = replace(
                cells, names=tuple("= false" if cell.startswith("below") else "= true" for cell in cells.names)
            )
        elif "edges" not in reference:
            cells = replace(cells, names=tuple(f"= {cell}" for cell in cells.names))
        yield Watched("data_drift", "distribution", name, name, Stream(cells, counts), "share of rows ", name)
        missing = missing_cells(reference, number, tolerance)
        yield Watched("data_broken", "missing", name, name, Stream(missing, counts), "share of rows ", name)
        if reference.get("edges"):
            outside = [(column.outside, sum(column.counts)) if column else (0, 0) for column in columns]
            cells = share_cells("outside the range of training", 0.0, number, tolerance)
            yield Watched("data_broken", "outside", name, name, Stream(cells, _parts(outside)), "share of rows ", name)
    unreadable = [(day.unreadable, day.rows + day.unreadable) for day in rows]
    cells = share_cells("unreadable", 0.0, number, settings.monitor.tolerance)
    yield Watched("data_broken", "unreadable", "rows", None, Stream(cells, _parts(unreadable)), "share of rows that do not fit the contract")  # fmt: skip
    refused = [
        (sum(day.refused.values()), sum(day.refused.values()) + day.requests - day.tests) if day else (0, 0)
        for day in history.days
    ]
    cells = share_cells("refused", 0.0, number, settings.monitor.tolerance)
    yield Watched("data_broken", "refused", "requests", None, Stream(cells, _parts(refused)), "share of requests that were refused")  # fmt: skip


def _answers(settings: Settings, version: Version, trained: Trained, history: History) -> Iterator[Watched]:
    number = trained.reference.get("prediction_rows", trained.reference["rows"])
    contract = version.contract
    for name, reference in trained.reference["prediction"].items():
        if contract.positive is not None and name != contract.positive:
            continue  # of two classes, one says it all
        counts = table([day.prediction.get(name) for day in history.rows()], bins_of(reference))
        cells = distribution_cells(reference, number, settings.monitor.tolerance)
        about = f"a probability of {name}" if contract.classes else f"a predicted {contract.target}"
        yield Watched("prediction_drift", "distribution", f"prediction: {name}", None, Stream(cells, counts), "share of rows ", about)  # fmt: skip
    if deciders := trained.reference.get("deciders"):
        counts = table([day.deciders for day in history.rows()], bins_of(deciders))
        cells = distribution_cells(deciders, number, settings.monitor.tolerance)
        cells = _some(cells, [place for place, bins in enumerate(cells.pick) if not bins[-2]])  # there are no others
        yield Watched("prediction_drift", "distribution", f"prediction: {DECIDER}", None, Stream(cells, counts), "share of rows decided by ")  # fmt: skip


def _outcomes(
    settings: Settings, version: Version, trained: Trained, history: History, mature: str
) -> Iterator[Watched]:
    reference, outcomes = trained.reference, history.outcomes(mature)
    number, tolerance = reference.get("prediction_rows", 0), settings.monitor.tolerance
    target = reference.get("target")
    if target:
        counts = table([day.target for day in outcomes], bins_of(target))
        cells = distribution_cells(target, reference["rows"], _tolerance(settings, version.contract.target))
        column = version.contract.target
        if version.contract.classes:
            cells = replace(cells, names=tuple(f"= {cell}" for cell in cells.names))
        yield Watched("target_drift", "distribution", "target", column, Stream(cells, counts), "share of outcomes ", column)  # fmt: skip
    if "loss" in reference:
        counts = table([day.loss for day in outcomes], bins_of(reference["loss"]))
        cells = distribution_cells(reference["loss"], number, tolerance)
        worse = [place for place, cell in enumerate(cells.names) if cell.startswith("at least")]
        yield Watched("performance", "loss", "loss", None, Stream(_some(cells, worse), counts), "share of rows with a loss of ")  # fmt: skip
    if "expected_accuracy" in reference and "accuracy" in reference.get("metrics", {}):
        wrong = 1 - reference["metrics"]["accuracy"]
        counts = _parts([(day.wrong, day.rows) for day in outcomes])
        yield Watched("performance", "wrong", "accuracy", None, Stream(share_cells("wrong", wrong, number, tolerance), counts), "share of wrong answers")  # fmt: skip
        # As many wrong answers as the probabilities promise are no surprise: what is beyond them says that the relation of
        # inputs and target has changed. The hold-out's own gap, of a model that is not calibrated, is none either.
        gap = wrong - (1 - reference["expected_accuracy"])
        beyond = [
            (day.wrong - ((day.rows - day.expected_correct) + gap * day.rows) + wrong * day.rows, day.rows)
            for day in outcomes
        ]
        cells = share_cells("wrong beyond expectation", wrong, number, tolerance)
        yield Watched("concept_drift", "surprise", "concept", None, Stream(cells, _parts(beyond)), "share of wrong answers, corrected for what the probabilities promise")  # fmt: skip
    if version.surprise:
        counts = _parts([(day.surprises, day.rows) for day in outcomes])
        cells = share_cells("surprises", 0.2, number, tolerance)
        yield Watched("concept_drift", "surprise", "concept", None, Stream(cells, counts), "share of outcomes that are surprising, given the prediction")  # fmt: skip


def bins_of(reference) -> int:
    """How many bins a column of reference.json has, without that of empty cells."""
    return len(reference["edges"]) + 1 if "edges" in reference else len(reference["shares"]) + 1


def table(columns: Sequence[Column | None], bins: int) -> np.ndarray:
    """Counts per day and bin, those of empty cells last: (days, bins + 1); a day whose bins were others has none."""
    found = np.zeros((len(columns), bins + 1))
    for day, column in enumerate(columns):
        if column is not None and len(column.counts) == bins:
            found[day, :-1], found[day, -1] = column.counts, column.missing
    return found


def _parts(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
    """Rows of a kind, and all others, from (of the kind, all) per day."""
    kind, whole = np.array(pairs, dtype=float).reshape(-1, 2).T
    kind = np.clip(kind, 0, whole)
    return np.stack([kind, whole - kind], axis=1)


def _some(cells: Cells, places: Sequence[int]) -> Cells:
    chosen = list(places)
    return Cells(
        tuple(cells.names[place] for place in chosen),
        cells.pick[chosen],
        cells.among[chosen],
        cells.share[chosen],
        cells.null[chosen],
    )
