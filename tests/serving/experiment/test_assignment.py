"""Who is answered by which model: decided by a hash of the experiment's name and the subject, and by nothing else."""

import math
from itertools import pairwise

import pytest

from serving.experiment.experiment import position
from serving.log.identity import identity

pytestmark = pytest.mark.quick
SUBJECTS = [identity(f"customer-{number}") for number in range(20_000)]


def challenged(name, share):
    """The subjects of an experiment that its challenger answers."""
    return {subject for subject in SUBJECTS if position(name, subject) < share}


def test_position_is_the_documented_hash():
    """It must never change: subjects would change sides in the middle of an experiment."""
    assert position("greener", identity("customer-17")) == 0.2696548803768469


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["greener", "faster", "a"])
def test_share_of_the_subjects_is_the_challengers(name, share):
    """Within five standard deviations of a binomial, also for subjects that are numbered one after the other."""
    wrong = abs(len(challenged(name, share)) - share * len(SUBJECTS))
    assert wrong < 5 * math.sqrt(len(SUBJECTS) * share * (1 - share))


def test_larger_share_moves_subjects_to_the_challenger_only():
    """Whoever was answered by it stays with it."""
    shares = [challenged("greener", share) for share in (0.05, 0.1, 0.5, 1.0)]
    assert all(less < more for less, more in pairwise(shares))
    assert len(shares[-1]) == len(SUBJECTS)


def test_two_experiments_divide_independently():
    """Half of the one's subjects are the other's: a challenger does not always meet the same people."""
    both = len(challenged("greener", 0.5) & challenged("faster", 0.5))
    assert abs(both - len(SUBJECTS) / 4) < 5 * math.sqrt(len(SUBJECTS) * 3 / 16)
