"""What the monitor found, for tests of what follows from it."""

from typing import Any

from pipeline.monitor.findings import Findings, Incident, OutcomeCounts, WatchedVersion

VERSION = WatchedVersion(version="3", first_day="2026-11-01", last_day="2026-11-30", rows=30000, judged=True)


def incident(kind: Any = "data_drift", column: str | None = "mean_area", **given: Any) -> Incident:
    """An incident that is open."""
    made: dict[str, Any] = {
        "version": "3", "check": "distribution", "since": "2026-11-20", "alarm_day": "2026-11-22", "open": True, "evidence": 1.4,
        "before": 0.1, "now": 0.35, "unit": "share above 782.7", "rows": 4200,
        "words": f"{column}: 35 % of the rows are above 782.7, in training 10 %",
    }  # fmt: skip
    return Incident(kind=kind, column=column, **made | given)


def performance(**given: Any) -> Incident:
    """The accuracy that falls."""
    made = {"check": "wrong", "before": 0.15, "now": 0.24, "unit": "share of wrong answers"}
    return incident("performance", None, **made | {"words": "accuracy 0.76 (hold-out 0.85)"} | given)


def findings(*incidents: Incident, **given: Any) -> Findings:
    """All that the monitor found."""
    made: dict[str, Any] = {
        "name": "cars", "environment": "production", "time": "2026-12-01T04:00:00Z", "last_day": "2026-11-30",
        "verdict": "falling" if incidents else "ok", "versions": [VERSION], "incidents": list(incidents),
        "outcomes": OutcomeCounts(matched=4000),
    }  # fmt: skip
    return Findings(**made | given)
