"""The canary's rule keeps its word: a small simulation, with fixed seeds, of the rates that docs/decisions/0004-canary.md measures."""

import pytest

from dev.simulate_canary import Situation, main, measure, table
from dev.simulation import standard_error

TRIALS = 100
WRONGLY_ABORTED = 0.025 + 3 * standard_error(TRIALS, 0.025)
WRONGLY_ON = 0.05 + 3 * standard_error(TRIALS, 0.05)


@pytest.mark.parametrize("traffic", [(400, 400), (9000, 1000)])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05])
def test_a_canary_at_the_error_ratio_is_hardly_ever_aborted(rate, traffic):
    """Within its share of once in 20 releases, over all looks."""
    assert measure(Situation("", "", rate, 1.5 * rate), *traffic, TRIALS).abort <= WRONGLY_ABORTED


@pytest.mark.parametrize("traffic", [(3000, 3000), (9000, 1000)])
def test_a_canary_at_the_latency_ratio_is_hardly_ever_aborted(traffic):
    """Within its share of once in 20 releases, though requests are slow together."""
    cell = measure(Situation("", "", ratio=1.2, milliseconds=20, shared=0.25), *traffic, TRIALS)
    assert cell.abort <= WRONGLY_ABORTED


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_canary_beyond_ratio_and_margin_hardly_ever_goes_on(rate):
    """At most once in 20, over all looks."""
    assert measure(Situation("", "", rate, 1.5 * rate + 0.01), 3000, 3000, TRIALS).go <= WRONGLY_ON


def test_a_canary_beyond_the_latency_ratio_and_margin_hardly_ever_goes_on():
    """At most once in 20, over all looks."""
    assert measure(Situation("", "", ratio=1.25, milliseconds=20), 5000, 5000, TRIALS).go <= WRONGLY_ON


@pytest.mark.parametrize("traffic", [(400, 400), (3600, 400)])
def test_an_equal_canary_of_a_quiet_service_goes_on_by_golden_requests_alone(traffic):
    """The rule is not safe by holding everything."""
    assert measure(Situation("", "equal"), *traffic, TRIALS).go >= 0.95


@pytest.mark.parametrize("traffic", [(1000, 1000), (9000, 1000), (3600, 400)])
def test_five_percent_of_errors_against_none_are_practically_always_aborted(traffic):
    """And never go on."""
    cell = measure(Situation("", "broken", 0.0, 0.05), *traffic, TRIALS)
    assert cell.abort >= 0.99 and cell.go == 0


def test_twice_the_latency_is_practically_always_aborted():
    """And never goes on."""
    cell = measure(Situation("", "slow", ratio=2, milliseconds=20), 3000, 3000, TRIALS)
    assert cell.abort >= 0.99 and cell.go == 0


def test_one_pause_hardly_ever_aborts():
    """Ten requests that wait for 300 ms, once."""
    cell = measure(Situation("", "pause", milliseconds=20, pause_ms=300), 3600, 400, TRIALS)
    assert cell.abort <= WRONGLY_ABORTED


def test_the_simulation_writes_what_it_measured(tmp_path, capsys, monkeypatch):
    """Each table is shown, the figures are kept, and only --document touches the document."""
    monkeypatch.setattr("dev.simulate_canary.TRAFFIC", ((400, 400), (3600, 400), (1000, 1000)))
    monkeypatch.setattr("dev.simulate_canary.FIGURE", tmp_path / "power.svg")
    text = tmp_path / "canary.md"
    names = ("equal-errors", "limit-errors", "margin-errors", "more-errors", "latency", "latency-fast", "latency-rough")
    text.write_text(
        "before\n" + "".join(f"<!-- measured: {name} -->\nold\n<!-- end -->\n" for name in names), encoding="utf-8"
    )
    monkeypatch.setattr("dev.simulate_canary.DOCUMENT", text)
    before = text.read_text(encoding="utf-8")
    assert main(["--trials", "1", "--processes", "1", "--json", str(tmp_path / "f.json")]) == 0
    assert text.read_text(encoding="utf-8") == before
    assert main(["--trials", "1", "--processes", "1", "--json", str(tmp_path / "f.json"), "--document"]) == 0
    assert "old" not in text.read_text(encoding="utf-8") and "<svg" in (tmp_path / "power.svg").read_text(
        encoding="utf-8"
    )
    assert "| truth | 400 + 400 | 3600 + 400 | 1000 + 1000 |" in capsys.readouterr().out


def test_a_table_shows_shares_and_the_requests_at_the_verdict():
    """percent go / abort / hold (median requests of the canary)."""
    cell = measure(Situation("t", "broken", 0.0, 1.0), 400, 400, 2)
    assert table([cell], "t").splitlines()[-1] == "| broken | 0.0 / 100.0 / 0.0 (20) |"
