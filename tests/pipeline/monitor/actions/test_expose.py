"""What of the findings Prometheus is told."""

from typing import get_args

from msgspec import structs

from pipeline.monitor.actions.expose import expose
from pipeline.monitor.findings import ColumnRow, Distribution, Estimate, Kind, Measured, Performance
from serving.counts.exposed import MOST_FEATURES
from tests.pipeline.monitor.found import VERSION, findings, incident, performance


def column(name: str, kind="feature", **given) -> ColumnRow:
    """A column of the last days."""
    return ColumnRow(name=name, kind=kind, version="3", rows=4200, **given)


def test_figures_of_the_version_that_serves_are_shown():
    """Performance, estimate, outcomes, coverage and delay, with the newest judged version."""
    accuracy = Measured(name="accuracy", value=0.76, rows=420, higher_is_better=True)
    newer = structs.replace(VERSION, version="4", judged=False)
    told = Performance(metrics=[accuracy], coverage=0.5, delay_seconds={"0.5": 60.0})
    found = expose(
        findings(
            versions=[structs.replace(VERSION, version="2"), VERSION, newer],
            performance=told,
            estimated=[Estimate(name="accuracy", value=0.9, rows=4000)],
        ),
        retrains_exhausted=True,
    )
    assert (found.model, found.version, found.performance, found.outcomes) == ("cars", "3", {"accuracy": 0.76}, 420)
    assert (found.estimated, found.coverage, found.label_delay) == ({"accuracy": 0.9}, 0.5, {"0.5": 60.0})
    assert found.retrains_exhausted


def test_a_column_has_its_distance_evidence_and_empty_cells():
    """The distance of a text is its total variation, where its distribution is known; a prediction is told from a feature of its name."""
    rows = [
        column("mass", ks=0.3, evidence=1.2, missing_now=0.1),
        column("colour", evidence=0.2),
        column("shape"),
        column("mass", "prediction", ks=0.1),
        column("sold", "target", ks=0.05),
    ]
    apart = Distribution(name="colour", values=["red"], before=[0.8, 0.2], now=[0.5, 0.5])
    found = {one.name: one for one in expose(findings(columns=rows, distributions=[apart])).features}
    assert (found["mass"].score, found["mass"].evidence, found["mass"].missing) == (0.3, 1.2, 0.1)
    assert (round(found["colour"].score or 0, 9), found["shape"].score) == (0.3, None)
    assert found["prediction: mass"].score == 0.1 and found["target"].score == 0.05


def test_an_alarm_is_on_until_its_incident_is_over():
    """Each kind has a series, so that an alert ends when the incident does; one open version is enough."""
    closed = incident(column="tilt", open=False, closed_day="2026-11-29")
    found = expose(findings(incident(), closed, structs.replace(incident(), open=False), performance()))
    alarms = {(one.kind, one.feature): one.open for one in found.alarms}
    assert alarms.pop(("data_drift", "mean_area")) and not alarms.pop(("data_drift", "tilt"))
    assert alarms == {(kind, ""): kind == "performance" for kind in get_args(Kind)}


def test_a_wide_model_does_not_fill_prometheus():
    """Of a thousand columns and alarms those with most evidence are told."""
    names = [f"f{number}" for number in range(1000)]
    wide = findings(
        *(incident(column=name, evidence=1 + number) for number, name in enumerate(names)),
        columns=[column(name, evidence=1.0 + number) for number, name in enumerate(names)],
    )
    found = expose(wide)
    assert len(found.features) == len(found.alarms) == MOST_FEATURES
    assert found.features[0].name == "f999" and any(one.feature == "f999" for one in found.alarms)


def test_nothing_judged_tells_of_no_figure():
    """Without a judged version there is a record, by which Prometheus knows that the monitor ran."""
    found = expose(findings(versions=[]))
    assert (found.version, found.features, found.performance, found.coverage) == ("", [], {}, None)
