"""Each column of the last days beside its reference: distances as numbers that raise no alarm, and both distributions."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from pipeline.monitor import distances
from pipeline.monitor.findings import ColumnRow, Distribution
from pipeline.monitor.plan import Trained
from pipeline.monitor.streams import DECIDER, bins_of
from serving.counts.columns import add
from serving.counts.records import Column, Day, Version

P_LEVEL = 0.05  # the usual rule: on each look it cries wolf for one column in twenty
SHOWN = 60  # distributions that are kept for pictures, of the columns with most evidence


class Compared(NamedTuple):
    """A column of the window beside its reference; `label` is its name among the streams."""

    name: str
    label: str
    kind: Literal["feature", "prediction", "target"]
    now: Column
    reference: Mapping[str, Any]
    rows: int  # of the reference


def rows(
    number: str, version: Version, trained: Trained, window: Sequence[Day], evidence: Mapping[str, float]
) -> list[ColumnRow]:
    """Features, predictions and target over the days of the window, those with most evidence first."""
    found = [_row(number, version, one, evidence) for one in _columns(version, trained, window)]
    adjusted = distances.benjamini_hochberg([one.p_value for one in found])
    found = [replace(one, p_adjusted=value) for one, value in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda one: (-(one.evidence or 0), -(one.ks or 0)))


def distributions(
    version: Version, trained: Trained, window: Sequence[Day], evidence: Mapping[str, float]
) -> list[Distribution]:
    """The shares of each bin, then and now, of the columns with most evidence."""
    compared = sorted(_columns(version, trained, window), key=lambda one: -evidence.get(one.label, 0))[:SHOWN]
    return [_distribution(one) for one in compared if sum(one.now.counts)]


def _columns(version: Version, trained: Trained, window: Sequence[Day]) -> Iterator[Compared]:
    reference, contract = trained.reference, version.contract
    asked = [day.rows for day in window if day.rows]
    for name, column in reference["features"].items():
        if now := _sum([day.features.get(name) for day in asked], column):
            yield Compared(name, name, "feature", now, column, reference["rows"])
    for name, column in reference["prediction"].items():
        if contract.positive is not None and name != contract.positive:
            continue
        if now := _sum([day.prediction.get(name) for day in asked], column):
            yield Compared(name, f"prediction: {name}", "prediction", now, column, reference.get("prediction_rows", reference["rows"]))  # fmt: skip
    if (deciders := reference.get("deciders")) and (now := _sum([day.deciders for day in asked], deciders)):
        yield Compared(DECIDER, f"prediction: {DECIDER}", "prediction", now, deciders, reference["prediction_rows"])
    told = [day.outcomes.target for day in window if day.outcomes]
    if "target" in reference and (now := _sum(told, reference["target"])):
        yield Compared(contract.target, "target", "target", now, reference["target"], reference["rows"])


def _sum(columns: Sequence[Column | None], reference: Mapping[str, Any]) -> Column | None:
    """The counts of all days that were counted in the bins of the reference."""
    alike = [column for column in columns if column is not None and len(column.counts) == bins_of(reference)]
    return reduce(add, alike) if alike else None


def _row(number: str, version: Version, one: Compared, evidence: Mapping[str, float]) -> ColumnRow:
    present = sum(one.now.counts)
    whole = present + one.now.missing
    observed = next((column.observed for column in version.contract.inputs if column.name == one.name), None)
    closed = one.kind == "feature" and observed is not None and observed.values is not None
    numbers = "edges" in one.reference
    compared = distances.distances(one.reference, one.rows, one.now.counts, one.now.missing) if present else None
    return ColumnRow(
        name=one.name,
        kind=one.kind,
        version=number,
        rows=whole,
        evidence=evidence.get(one.label),
        alarm=evidence.get(one.label, 0.0) >= 1,
        missing_before=one.reference.get("missing"),
        missing_now=one.now.missing / whole if whole and one.kind == "feature" else None,
        outside=one.now.outside / present if numbers and present and one.kind == "feature" else None,
        unseen=one.now.unseen / present if closed and present else None,
        mean_before=one.reference.get("mean"),
        mean_now=_mean(one) if numbers and present else None,
        **(compared._asdict() if compared else {}),
        drifted=bool(compared and compared.p_value is not None and compared.p_value < P_LEVEL),
    )


def _mean(one: Compared) -> float | None:
    """The mean of now in the column's own units; None where the reference has no scale, as older ones."""
    if "mean" not in one.reference:
        return None
    scale = one.reference["deviation"] or 1.0
    return one.reference["mean"] + scale * one.now.total / sum(one.now.counts)


def _distribution(one: Compared) -> Distribution:
    counts = np.array(one.now.counts, dtype=float)
    now = (counts / counts.sum()).round(6).tolist()
    shares = one.reference["shares"]
    if "edges" in one.reference:
        return Distribution(name=one.label, edges=one.reference["edges"], before=list(shares), now=now)
    before = [*shares.values(), max(1 - sum(shares.values()), 0.0)]
    return Distribution(name=one.label, values=list(shares), before=before, now=now)
