"""Whether a model beats a dummy is stated only if the rows suffice to tell."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.validation.model import beats_dummy, mean_bounds


def outcome(rows, gain, noise=1.0, seed=0):
    """The outcome of a regression on values of spread 1 whose errors are smaller by the share `gain`, with random noise."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=rows)
    given = gain * y + noise * 0.1 * rng.normal(size=rows)
    data = SimpleNamespace(task="regression", positive=None)
    return beats_dummy(SimpleNamespace(settings=SimpleNamespace(data=data), classes=[]), y, given, np.zeros(rows))


@pytest.mark.parametrize("rows", [20, 500])
def test_good_model_passes(rows):
    """A model that explains most of the spread is significantly better, on few rows as on many."""
    found = outcome(rows, 0.8)
    assert found.success and "surely better" in found.observed


@pytest.mark.parametrize(("gain", "noise"), [(0.0, 0.0), (0.0, 1.0), (-0.5, 1.0)])
def test_useless_model_fails_on_many_rows(gain, noise):
    """One that is like the dummy, or worse, fails if the rows suffice to be sure."""
    found = outcome(500, gain, noise)
    assert not found.success and "surely not better" in found.observed


def test_few_rows_are_inconclusive():
    """With few rows a weak model neither fails nor passes by luck: the outcome says that they are too few, for any sample."""
    said = {outcome(8, 0.05, noise=5.0, seed=seed).observed.rpartition(": ")[2] for seed in range(20)}
    assert any("too few to tell" in one for one in said) and outcome(1, 0.1).success


def test_false_verdicts_are_rare():
    """A model that guesses is taken for significantly better in about one sample of twenty, not in half."""
    surely = ["surely better" in outcome(40, 0.0, noise=3.0, seed=seed).observed for seed in range(300)]
    assert np.mean(surely) < 0.08


def test_bounds_are_those_of_the_t_test():
    """The paired t test; one row has no bounds."""
    low, high = mean_bounds(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 2.919986 / np.sqrt(3), 2 + 2.919986 / np.sqrt(3)), abs=1e-5)
    assert mean_bounds(np.array([1.0])) == (-np.inf, np.inf)
