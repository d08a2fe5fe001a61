"""The simulation of the monitor measures the code that judges production, and says what it leaves out."""

import numpy as np
import pytest

from dev import public_streams, simulate_monitor
from dev.simulate_monitor import BOTH, CALM, CHANGES, STILL, Cell, delays, false_alarms, usual_false_alarms

OFTEN = 200  # false alarms a year of KS at 5 % on thirty columns, at least


def test_a_model_of_thirty_features_has_no_false_alarm_in_a_year():
    """The detector keeps its budget in a year whose days and weekdays differ, in which the usual test has hundreds of alarms."""
    assert false_alarms("", BOTH, 1000, 1).figures["alarms"] == 0
    usual = {cell.row: cell.figures["alarms"] for cell in usual_false_alarms("", STILL, 100)}
    assert usual["p < 0.05"] > OFTEN


@pytest.mark.parametrize(("change", "within"), zip(CHANGES, (5, 1, 6, 1, 3, 12, 3), strict=True))
def test_changes_are_found_within_days(change, within):
    """With 1,000 rows a day each change is found in the median within the days that the decision document says."""
    assert delays("", STILL, 1000, change, CALM, 15).figures["median"] <= within


def test_the_same_seed_gives_the_same_figures():
    """A cell measured again is the same, so that the document changes only with the code."""
    first, second = (delays("", BOTH, 100, CHANGES[1], CALM, 3) for _ in range(2))
    assert first == second


def test_a_table_has_what_was_measured():
    """Rows and columns come in the order in which they were measured; what was never found is said so."""
    cells = [
        Cell("t", "a", "100", {"median": 3.0, "late": np.inf}),
        Cell("t", "a", "1,000", {"median": 1.0, "late": 1.0}),
    ]
    assert (
        simulate_monitor.table(cells, "t", "change")
        == "| change | 100 | 1,000 |\n|---|---:|---:|\n| a | 3 (never) | 1 (1) |"
    )


def test_public_data_that_is_not_installed_is_left_out_by_name(tmp_path, monkeypatch):
    """Without the packages that bring the data the table says which command brings them."""
    monkeypatch.setattr(public_streams, "PACKAGES", tmp_path)
    assert "make .venv/streams.ready" in public_streams.table()
