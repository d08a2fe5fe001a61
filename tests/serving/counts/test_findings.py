"""What the monitor found reaches Prometheus: kept beside the log, read now and then, and never in the way of a scrape."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.counts import gauges
from serving.counts.exposed import Alarm, Exposed, Feature
from serving.counts.findings import Kept, make, read, write
from serving.counts.gauges import Gauges, exposition
from serving.log.store import Store
from tests.serving.postgres import postgres
from tests.serving.service import ROOT, serving

FOUND = Exposed(
    model="cars",
    version="3",
    features=[
        Feature(name="mass", score=0.31, evidence=1.4, missing=0.02),
        Feature(name='a "quoted"\nname', evidence=0.1),
    ],
    alarms=[Alarm(kind="data_drift", feature="mass", open=True), Alarm(kind="performance", open=False)],
    performance={"accuracy": 0.83, "log_loss": 0.4},
    estimated={"accuracy": 0.9},
    outcomes=420,
    coverage=0.7,
    label_delay={"0.5": 3600.0, "0.9": 86400.0},
)
SHOWN = {
    "slipway_monitor_last_success_timestamp_seconds": {(): 1000.0},
    "data_drift_score": {("mass",): 0.31},
    "slipway_drift_evidence": {("mass",): 1.4, ('a "quoted"\nname',): 0.1},
    "slipway_missing_ratio": {("mass",): 0.02},
    "slipway_performance": {("accuracy", "3"): 0.83, ("log_loss", "3"): 0.4},
    "model_accuracy": {("3",): 0.83},
    "slipway_performance_estimated": {("accuracy",): 0.9},
    "slipway_outcomes": {("3",): 420.0},
    "slipway_label_coverage": {("3",): 0.7},
    "slipway_label_delay_seconds": {("0.5",): 3600.0, ("0.9",): 86400.0},
    "slipway_drift_alarm": {("mass", "data_drift"): 1.0, ("", "performance"): 0.0},
    "slipway_retrains_exhausted": {(): 0.0},
}


def shown(text: str | bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """The series of a text in Prometheus' format, by name and values of the labels."""
    families = text_string_to_metric_families(text if isinstance(text, str) else text.decode())
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples} for family in families
    }


def keep(url: str, given: bytes, expected: int = 0) -> str:
    """Run the command that keeps a record; return what it says on standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "serving.counts.findings"],
        cwd=ROOT,
        env={**os.environ, "SLIPWAY_DATABASE_URL": url},
        input=given,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == expected and not done.stdout, done.stderr.decode()
    return done.stderr.decode()


def kept(url: str) -> Exposed | None:
    """The record of the model in a database."""
    with closing(Store(url)) as store:
        found = read(store, "cars")
        return found and found.exposed


def a_database(folder: Path, found: Exposed = FOUND, at: float = 1000.0) -> str:
    """A prediction log with a record."""
    url = f"sqlite:///{folder}/log.db"
    with closing(Store(url)) as store:
        make(store)
        write(store, found, at)
    return url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_last_record_of_a_model_is_kept(tmp_path, kind):
    """Each run of the monitor replaces the one before it, and leaves other models alone."""
    if kind == "postgresql":
        with postgres(tmp_path) as (_, _, url):
            _keeps_the_last(url)
    else:
        _keeps_the_last(f"sqlite:///{tmp_path}/log.db")


def _keeps_the_last(url: str) -> None:
    newer = msgspec.structs.replace(FOUND, outcomes=421)
    for found in (FOUND, newer, msgspec.structs.replace(FOUND, model="boats")):
        assert keep(url, msgspec.json.encode(found)) == ""
    assert kept(url) == newer


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "the record of the findings cannot be read: Input data was truncated"),
        (b'{"model": 3}', "Expected `str`, got `int` - at `$.model`"),
        (b'{"model": "\xff"}', "cannot be read"),
        (b" " * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, given, words):
    """The command says in one line what is wrong, and the last record stays."""
    url = a_database(tmp_path)
    said = keep(url, given, expected=1)
    assert said.startswith("error: ") and words in said and said.count("\n") == 1
    assert kept(url) == FOUND


def test_no_database_is_an_error():
    """Without SLIPWAY_DATABASE_URL the command names the variable."""
    assert "SLIPWAY_DATABASE_URL is not set" in keep("", b"{}", expected=1)


def test_every_gauge_has_its_name_and_labels():
    """The names are those that dashboards ask for; what is not known is left out, and any name of a feature is possible."""
    assert shown(exposition(Kept(1000.0, FOUND))) == SHOWN


def test_a_monitor_without_a_judgement_shows_that_it_ran():
    """Before a version is judged there are no figures, but the time of the last run."""
    found = shown(exposition(Kept(1000.0, Exposed(model="cars"))))
    given = {"slipway_monitor_last_success_timestamp_seconds": {(): 1000.0}, "slipway_retrains_exhausted": {(): 0.0}}
    assert {name: series for name, series in found.items() if series} == given


def test_the_database_is_asked_once_a_minute(tmp_path):
    """A scrape within the minute shows what was read before; the next one reads again."""
    now = [100.0]

    async def scrapes() -> list[float]:
        found = Gauges(a_database(tmp_path), "cars", lambda: now[0])
        seen = []
        for later in (0, 59, 2, 1):
            now[0] += later
            text = await found.text()
            while found._reading is not None and not found._reading.done():
                await asyncio.sleep(0.01)
            seen.append(next(iter(shown(text)["slipway_outcomes"].values())))
            a_database(tmp_path, msgspec.structs.replace(FOUND, outcomes=421))
        return seen

    assert asyncio.run(scrapes()) == [420, 420, 420, 421]


def test_the_last_figures_stay_while_the_database_is_away(tmp_path, monkeypatch):
    """A database that is gone fails no scrape, and is read again when it is back."""
    monkeypatch.setattr(gauges, "FRESH", 0.0)
    url = a_database(tmp_path)

    async def scrapes() -> None:
        found = Gauges(url, "cars")

        async def read_now() -> dict:
            text = await found.text()
            await asyncio.wait([found._reading])
            return shown(text)

        assert await read_now() == SHOWN
        (tmp_path / "log.db").rename(tmp_path / "away.db")
        (tmp_path / "log.db").mkdir()
        for _ in range(3):
            assert await read_now() == SHOWN
        (tmp_path / "log.db").rmdir()
        a_database(tmp_path, at=2000.0)
        await read_now()
        assert (await read_now())["slipway_monitor_last_success_timestamp_seconds"] == {(): 2000.0}

    asyncio.run(scrapes())


def test_reading_waits_for_no_writer(tmp_path):
    """The record is read while another process writes to the log."""
    url = a_database(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        found = Gauges(url, "cars")
        found._read()
        assert shown(found._text) == SHOWN


def test_a_scrape_does_not_wait_for_a_database_that_hangs(tmp_path, monkeypatch):
    """The first scrape waits a moment for the first figures, then answers without them."""
    monkeypatch.setattr(gauges, "PATIENCE", 0.05)

    async def scrape() -> bytes:
        found = Gauges(a_database(tmp_path), "cars")
        found._thread.submit(time.sleep, 0.5)
        return await asyncio.wait_for(found.text(), 0.4)

    assert asyncio.run(scrape()) == b""


def test_the_service_shows_what_was_found(bundle, tmp_path):
    """/metrics has the gauges where the service has a log in which the monitor wrote, beside its own counters."""
    with serving(bundle, SLIPWAY_DATABASE_URL=a_database(tmp_path)) as service:
        found = shown(service.get("/metrics").text)
    assert {name: found[name] for name in SHOWN} == SHOWN and "slipway_requests" in found


@pytest.mark.parametrize("log", [False, True], ids=["no log", "monitor never ran"])
def test_without_findings_there_are_no_gauges(bundle, tmp_path, log):
    """A service without a log, or whose log no monitor has judged, shows none of them: no 0 that would look like a good figure."""
    settings = {"SLIPWAY_DATABASE_URL": f"sqlite:///{tmp_path}/log.db"} if log else {}
    with serving(bundle, **settings) as service:
        answer = service.get("/metrics")
        assert answer.status_code == 200 and not SHOWN.keys() & shown(answer.text).keys()
        assert "cannot be read" not in service.logged
