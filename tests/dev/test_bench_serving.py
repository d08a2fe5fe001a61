"""The benchmark of the service: its arithmetic, its page, and what it refuses to measure."""

import os
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dev import bench
from dev.benchmarks import before, environments, explanations, families, load, models, servers
from dev.benchmarks.claims import Claim, claims, subject_of
from dev.benchmarks.page import merge
from dev.benchmarks.report import disturbed, number, section
from dev.benchmarks.servers import BENTOML_BATCH, EMPTY, LITSERVE_BATCH, MLFLOW, OFF, OURS, OWN_LIBRARY, SERVERS
from dev.benchmarks.serving import FOREST, FULL, SCENARIOS
from dev.benchmarks.timing import Figure, eventually, figure, percentile, ratios
from pipeline.errors import SlipwayError

OURS_OFF = next(server for server in SERVERS if server.name == OFF)


def results(**changed) -> dict:
    """What a measurement returns: ours ten times as fast as each peer, in three rounds that are not alike."""
    speed = {server.name: 1000 if server.name in (OURS, OFF) else 100 for server in SERVERS}
    rounds = [1.0, 0.5, 2.0]
    found = {
        "machine": "a machine",
        "python": "3.11",
        "effort": asdict(FULL),
        "versions": {"ours": {"numpy": "2"}, "mlflow": {"mlflow": "3"}},
        "others": {"median": 0.01, "low": 0.0, "high": 0.02},
        "missing": {},
        "invalid": {},
        "rates": {
            scenario.name: {name: [rate * share for share in rounds] for name, rate in speed.items()}
            for scenario in SCENARIOS
        },
        "pairs": {OURS: [90.0, 80.0], OFF: [100.0, 100.0], EMPTY: [100.0, 200.0]},
        "latency": {name: {"rate": 10, "p50_us": [1, 1], "p99_us": [2, 4]} for name in (OURS, OFF)}
        | {MLFLOW: {"rate": 5, "p50_us": [1, 1], "p99_us": [60, 120]}},
        "memory_mb": {server.name: {"pss": 100, "rss": 200} for server in SERVERS},
        "start_s": {server.name: [2.0, 1.0] for server in SERVERS},
        "size_mb": dict.fromkeys(environments.PACKAGES, 100),
    }
    return found | changed


def claim(found: dict, words: str):
    """The one claim whose text has these words."""
    (one,) = [one for one in claims(found) if words in one.what]
    return one


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained model, stored for every kind of server, and the warnings that scikit-learn raised meanwhile."""
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        subject = models.make("linear", tmp_path_factory.mktemp("models") / "linear")
    return subject, [str(one.message) for one in raised if "feature names" in str(one.message)]


@pytest.fixture(scope="module")
def subject(made):
    """A trained model, stored for every kind of server."""
    return made[0]


@pytest.fixture(scope="module")
def ours(subject, tmp_path_factory):
    """Our own service with it, in this Python."""
    core = min(os.sched_getaffinity(0))
    with servers.running(OURS_OFF, Path(sys.executable), subject, tmp_path_factory.mktemp("run"), core) as one:
        yield one


def test_a_figure_is_the_median_of_its_rounds_with_their_range():
    """Neither the mean, nor the best round."""
    assert figure([1.0, 9.0, 2.0]) == Figure(2.0, 1.0, 9.0)


def test_a_ratio_is_of_the_same_round():
    """A round that was slow for both sides says what the others say."""
    assert ratios([10.0, 1.0], [5.0, 0.5]) == [2.0, 2.0]
    with pytest.raises(ValueError):
        ratios([1.0, 2.0], [1.0])


def test_a_percentile_is_a_value_that_was_measured():
    """The smallest that the share of the values does not exceed."""
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([7], 0.99) == 7


def test_the_median_decides_whether_a_claim_is_met():
    """A claim is met from its target on, and missed below."""
    slow = claim(results(), "random forest, 1 row: requests/s, Slipway / mlflow")
    assert (slow.verdict, slow.found.median) == ("missed", 10.0)
    assert claim(results(), "1000 rows: requests/s, Slipway / mlflow").verdict == "met"
    assert Claim("a ratio", 2.0, Figure(2.0, 1.0, 3.0)).verdict == "met"
    paired = claim(results(), "everything on / everything off")
    assert (paired.verdict, paired.found) == ("met", figure([0.9, 0.8]))
    late = claim(results(), "p99")
    assert (late.verdict, late.found) == ("met", Figure(30, 30, 30))


def test_what_failed_claims_nothing():
    """A peer that is missing, and figures with errors in them, are told with their reason."""
    found = results(missing={MLFLOW: "no such version"}, invalid={"pairs": {EMPTY: "3 lost connections"}})
    for words in ("Slipway / mlflow", "start time, mlflow", "p99, mlflow"):
        for one in claims(found):
            if words in one.what:
                assert (one.verdict, one.why) == ("not measured", "no such version")
    assert claim(found, "Slipway / empty answer").why == "3 lost connections"
    page = section(found)
    assert f"- {MLFLOW}: no such version" in page and f"- {EMPTY}, pairs: 3 lost connections" in page
    assert f"| {MLFLOW} | not measured |" in page


def test_the_best_peer_is_the_one_that_bore_most():
    """The claim about batching is against whichever peer batches best, and names it."""
    found = results()
    found["rates"][FOREST.name][BENTOML_BATCH] = [400.0, 400.0, 400.0]
    best = claim(found, "the best batching peer")
    assert f"({BENTOML_BATCH})" in best.what and best.found.median == 2.5
    found["invalid"] = {FOREST.name: {BENTOML_BATCH: "1 answers without success"}}
    assert f"({LITSERVE_BATCH})" in claim(found, "the best batching peer").what


def test_claims_are_about_the_service_with_everything_on():
    """Only where that cannot be measured they are about the bare one, and the page says so."""
    assert subject_of(results()) == OURS
    bare = results(missing={OURS: "asks for no key"})
    assert subject_of(bare) == OFF
    assert "with everything off" in section(bare) and "with everything on" in section(results())


def test_the_page_shows_the_peers_first_and_all_targets_last():
    """A reader sees the service beside its peers, then every figure, then the method, and each target, met or missed."""
    page = section(results())
    headings = ("## The service beside", "### Requests per second", "### How it was measured", "### Targets")
    places = [page.index(heading) for heading in headings]
    assert places == sorted(places)
    table = page[: places[1]]
    assert all(f"| {server.name} |" in table for server in SERVERS if server.name not in (OURS, OFF, EMPTY))
    assert f"| **{OURS}** | 1,000 |" in table
    targets = page[places[-1] :]
    assert all(f"| {one.what} |" in targets for one in claims(results())) and "| missed |" in targets


def test_a_machine_that_had_other_work_is_told_of():
    """Figures of a busy machine are not to be believed."""
    assert not disturbed(results())
    assert "30%" in disturbed(results(others={"median": 0.3, "low": 0.1, "high": 0.6}))


def test_numbers_are_as_long_as_they_are_exact():
    """Three digits that matter."""
    assert [number(value) for value in (12345.6, 12.34, 0.567)] == ["12,346", "12.3", "0.57"]


def test_a_part_writes_its_section_and_leaves_the_other():
    """The pipeline's figures survive a run of the serving part alone, and the other way round."""
    page = merge("# of an older form\n", {"serving": "## S\n\n| 1 |\n"})
    page = merge(page, {"pipeline": "## P\n"})
    assert page.index("| 1 |") < page.index("## P")
    page = merge(page, {"serving": "## S\n\n| 2 |\n"})
    assert "## P" in page and "| 2 |" in page and "| 1 |" not in page and "older" not in page
    assert merge(page, {}) == page


def test_making_a_model_warns_of_nothing(made):
    """The benchmark prints its progress, not hundreds of warnings about names of columns."""
    assert made[1] == []


def test_our_bundle_is_served_and_answers_like_the_model(ours, subject):
    """One row and many, through the same checks that every peer must pass before it is timed."""
    for rows in (1, 32, 1000):
        servers.check(ours, subject, rows)
    assert ours.started > 0
    memory = servers.memory_mb(ours)
    assert 10 < memory["pss"] <= memory["rss"]


def test_wrong_answers_are_not_timed(ours, subject):
    """A benchmark of wrong answers is worth nothing."""
    other = replace(subject, probabilities=np.flip(subject.probabilities, axis=1))
    with pytest.raises(SlipwayError, match="otherwise than the model"):
        servers.check(ours, other, 32)


def test_everything_on_must_be_on(ours, subject):
    """A service that answers without a key has not everything on, whatever its environment says."""
    with pytest.raises(SlipwayError, match="without a key"):
        servers.check_switches(ours, subject)


def test_the_open_loop_keeps_its_rate(ours, subject):
    """As many answers as were due; one that is no success makes the figure invalid."""
    core = max(os.sched_getaffinity(0))
    asked = [servers.request(OURS_OFF, subject.rows[place : place + 1]) for place in range(8)]
    took = load.open_loop(ours.port, asked, 100, 0.5, 4, core)
    assert took.invalid == "" and 0 < took.p50 <= took.p99
    path, _, headers = asked[0]
    assert (
        load.open_loop(ours.port, [(path, b"{}", headers)], 100, 0.1, 4, core).invalid == "10 answers without success"
    )


def test_a_frozen_server_goes_on_where_it_stood(ours, subject):
    """Freezing keeps a server still, and waking it brings it back."""
    servers.freeze(ours)
    assert eventually(lambda: ours.process.status() == "stopped", lambda: True, 10) is not None
    servers.wake(ours)
    servers.check(ours, subject, 1)


def test_a_server_that_does_not_start_says_why(subject, tmp_path):
    """Its last line is what the reader needs."""
    broken = replace(OURS_OFF, command=lambda *_: [sys.executable, "-c", "raise SystemExit('no room for me')"])
    core = min(os.sched_getaffinity(0))
    with (
        pytest.raises(SlipwayError, match="no room for me"),
        servers.running(broken, Path(sys.executable), subject, tmp_path, core),
    ):
        pass


def test_a_peer_that_cannot_be_installed_says_why(monkeypatch, tmp_path):
    """With the installer's own words, so that its rows can be told from those that failed."""
    monkeypatch.setattr(environments, "CACHE", tmp_path)
    monkeypatch.setitem(environments.PACKAGES, "mlflow", ("slipway-no-such-package",))
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(SlipwayError, match="slipway-no-such-package"):
        environments.environment("mlflow")


def of_release(**rates) -> dict:
    """What a comparison with an earlier release finds: each service's rates, and other figures that are all alike."""
    values = {
        name: {"rate": given, "p50_us": [1.0] * 3, "p99_us": [1.0] * 3, "cpu_us": [50.0] * 3}
        for name, given in rates.items()
    }
    return {"machine": "a machine", "before": "abc1234", "rounds": 3, "loads": {"a load": values}}


def test_an_earlier_release_is_compared_within_rounds_and_with_itself():
    """The claim is of the present rate over the earlier one; the page has quartiles, and how far two runs of the same code are apart."""
    rates = {
        before.PRESENT: [90.0, 45.0, 180.0],
        before.BEFORE: [100.0, 50.0, 200.0],
        before.AGAIN: [110.0, 55.0, 220.0],
    }
    found = of_release(**rates)
    (one,) = before.claims(found)
    assert (one.found.median, one.verdict) == (pytest.approx(0.9), "missed")
    page = before.section(found)
    assert "| a load | present ÷ before | 0.900 [0.900 to 0.900] |" in page
    assert "| a load | twice the same | 1.100 [1.100 to 1.100] |" in page and "| missed |" in page


def test_quartiles_leave_out_the_extreme_rounds():
    """One round that was disturbed moves no quartile far."""
    assert before.quartiles([1.0, 2.0, 3.0, 4.0, 1000.0]) == before.Quartiles(2.0, 3.0, 4.0)
    assert before.quartiles([2.0]) == before.Quartiles(2.0, 2.0, 2.0)


def test_an_earlier_release_must_be_a_checkout(tmp_path):
    """Before anything is started."""
    with pytest.raises(SlipwayError, match="no checkout"):
        before.measure(Console(quiet=True), True, None, tmp_path)
    assert bench.main(["--only", "before"]) == 1


def test_families_are_compared_with_their_own_library():
    """Each model beside FastAPI with the library that trained it; a model that is not twice as fast misses its target."""
    rates = {OURS: [100.0, 200.0], OFF: [150.0, 300.0]}
    found = {
        "machine": "a machine", "rounds": 2, "versions": {"torch": "2"},
        "rates": {kind: {rows: rates | {OWN_LIBRARY[kind].name: [100.0, 200.0]} for rows in families.ROWS} for kind in families.WORDS},
    }  # fmt: skip
    assert [one.verdict for one in families.claims(found)] == ["missed"] * 3
    page = families.section(found)
    assert all(f"| {words} | 1 |" in page for words in families.WORDS.values()) and "1.000 [1.000 to 1.000]" in page


def test_explanations_are_told_with_their_number_and_what_others_wait():
    """Times of all rounds together, and the ratio of plain requests within a round."""
    slow, quick = {"p50_us": [2000.0], "p99_us": [6000.0]}, {"p50_us": [1000.0], "p99_us": [2000.0]}
    entry = {"alone_ms": [1.0, 2.0, 3.0], "beside_ms": [], explanations.WITH: slow, explanations.WITHOUT: quick}
    found = {"machine": "a machine", "rounds": 1, "models": {"linear": entry}}
    page = explanations.section(found)
    assert "| logistic regression | 3 | 2.00 | 3.00 | 0 | not measured | not measured |" in page
    assert "| 1.00, 2.00 | 2.00, 6.00 | 2.000 [2.000 to 2.000] | 3.000 [3.000 to 3.000] |" in page
    (one,) = explanations.claims(found)
    assert (one.found.median, one.verdict) == (0.5, "met")


def test_boosted_trees_with_text_are_served_by_their_library(tmp_path):
    """The benchmark's model with text, made through its family, answers from its bundle as it was trained."""
    subject = models.make_of_family("LightGBM", tmp_path / "trees")
    core = min(os.sched_getaffinity(0))
    with servers.running(OURS_OFF, Path(sys.executable), subject, tmp_path / "run", core) as one:
        servers.check(one, subject, 32)
