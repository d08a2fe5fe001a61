"""What of the findings goes to Prometheus: figures of the version that serves, and which alarms are on."""

from collections.abc import Iterator
from typing import get_args

from pipeline.monitor.findings import ColumnRow, Findings, Kind
from serving.counts.exposed import MOST_FEATURES, Alarm, Exposed, Feature


def expose(found: Findings, retrains_exhausted: bool = False) -> Exposed:
    """The record that the service shows; of columns and alarms the MOST_FEATURES with most evidence."""
    judged = [version.version for version in found.versions if version.judged]
    apart = dict(_apart(found))
    rows = sorted(found.columns, key=lambda row: -(row.evidence or 0.0))[:MOST_FEATURES]
    measured = found.performance
    return Exposed(
        model=found.name,
        version=judged[-1] if judged else "",
        features=[_feature(row, apart) for row in rows],
        alarms=_alarms(found),
        performance={metric.name: metric.value for metric in measured.metrics},
        estimated={metric.name: metric.value for metric in found.estimated},
        outcomes=max((metric.rows for metric in measured.metrics), default=0),
        coverage=measured.coverage,
        label_delay=dict(measured.delay_seconds),
        retrains_exhausted=retrains_exhausted,
    )


def _feature(row: ColumnRow, apart: dict[str, float]) -> Feature:
    label = _label(row)
    score = row.ks if row.ks is not None else apart.get(label)
    return Feature(name=label, score=score, evidence=row.evidence, missing=row.missing_now)


def _label(row: ColumnRow) -> str:
    """The column's name in tables and pictures; a prediction and a feature may have the same name in the data."""
    return {"feature": row.name, "prediction": f"prediction: {row.name}", "target": "target"}[row.kind]


def _apart(found: Findings) -> Iterator[tuple[str, float]]:
    """The total variation of each distribution: the share of rows that would have to move for it to look as in training."""
    for one in found.distributions:
        yield one.name, sum(abs(before - now) for before, now in zip(one.before, one.now, strict=True)) / 2


def _alarms(found: Findings) -> list[Alarm]:
    """Open incidents, those that are over, and for each kind a 0 where it has none, so that an alert sees it end."""
    alarms = {(kind, ""): False for kind in get_args(Kind)}
    known = sorted(found.incidents, key=lambda one: (not one.open, -one.evidence))
    for incident in known:
        key = incident.kind, incident.column or ""
        if key in alarms or len(alarms) < MOST_FEATURES:
            alarms[key] = alarms.get(key, False) or incident.open
    return [Alarm(kind=kind, feature=feature, open=open) for (kind, feature), open in alarms.items()]
