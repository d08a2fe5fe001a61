"""The gate keeps its word: by a small simulation with fixed seeds, of the rates that docs/decisions/0001-gate.md measures."""

import pytest

from dev.simulation import WORLDS, measure, standard_error

TRIALS = 600
MOST = 0.05 + 3 * standard_error(TRIALS)
DEFAULTS = [("binary", "log_loss"), ("three classes", "log_loss"), ("regression", "mae")]


@pytest.mark.parametrize("rows", [100, 300])
@pytest.mark.parametrize(("world", "metric"), DEFAULTS)
def test_a_model_worse_by_the_margin_is_hardly_ever_accepted(world, metric, rows):
    """At most once in twenty, whatever the policy."""
    cell = measure(world, metric, "worse", WORLDS[world].worse, rows, TRIALS)
    assert cell.gain < 0
    assert max(cell.accepted.values()) <= MOST


@pytest.mark.parametrize("rows", [100, 300])
@pytest.mark.parametrize(("world", "metric"), DEFAULTS)
def test_of_two_equal_models_one_is_hardly_ever_called_superior_or_worse(world, metric, rows):
    """At most once in twenty accepted as superior, at most once in twenty refused."""
    cell = measure(world, metric, "equal", WORLDS[world].equal, rows, TRIALS)
    assert cell.accepted["superior"] <= MOST
    assert cell.refused["better"] <= MOST


@pytest.mark.parametrize(("world", "metric"), DEFAULTS)
def test_repeated_rows_break_no_error_rate(world, metric):
    """With each row 2 to 10 times, a model worse by the margin passes as rarely as without copies; counted as rows, far too often."""
    cell = measure(world, metric, "worse, repeated", WORLDS[world].worse, 200, TRIALS)
    assert max(cell.accepted.values()) <= MOST
    naive = measure(world, metric, "worse, repeated, copies as rows", WORLDS[world].worse, 200, 100)
    assert naive.accepted["not_worse"] > 0.1


def test_looking_at_slices_as_well_refuses_no_more_equal_models():
    """Three slices and the whole: each is as sure as it must be for all slices to be wrong once in twenty."""
    cell = measure("binary", "log_loss", "equal, 3 slices", WORLDS["binary"].equal, 300, TRIALS)
    assert cell.refused["better"] <= 2 * MOST


@pytest.mark.parametrize(("world", "metric"), DEFAULTS)
def test_a_clearly_better_model_is_nearly_always_accepted(world, metric):
    """The gate is not safe by refusing everything."""
    cell = measure(world, metric, "better", WORLDS[world].better[-1], 1000, 100)
    assert min(cell.accepted.values()) >= 0.95
    assert max(cell.refused.values()) == 0
