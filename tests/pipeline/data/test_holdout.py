"""The split by hash: whatever happens to the rest of the data, a row stays on its side."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.data.holdout import is_holdout

IDS = [f"row-{number}" for number in range(4000)]


def test_rows_keep_their_side_as_data_grows():
    """Rows added, removed or reordered move no other row."""
    before = dict(zip(IDS[:1000], is_holdout(IDS[:1000], 0.25, "s"), strict=True))
    mixed = [*IDS[::-1], "new", *(f"old-{number}" for number in range(50))]
    after = dict(zip(mixed, is_holdout(mixed, 0.25, "s"), strict=True))
    assert all(after[name] == side for name, side in before.items())


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_share_is_met(share):
    """Of many rows about the share is held out: within four standard deviations."""
    held = is_holdout(IDS, share, "s").mean()
    assert abs(held - share) < 4 * np.sqrt(share * (1 - share) / len(IDS))


def test_larger_share_only_adds_rows():
    """With the same salt, a row held out at a smaller share is held out at every larger one."""
    sides = [is_holdout(IDS, share, "s") for share in (0.05, 0.1, 0.25, 0.5)]
    for smaller, larger in pairwise(sides):
        assert (larger | ~smaller).all() and larger.sum() > smaller.sum()


def test_salt_draws_another_holdout():
    """Two salts agree on no more rows than chance: a quarter of the held-out ones."""
    one, other = is_holdout(IDS, 0.25, "a"), is_holdout(IDS, 0.25, "b")
    assert 0.2 < other[one].mean() < 0.3


def test_numbers_and_their_text_are_the_same_id():
    """An id read as a number falls where the same id read as text falls."""
    assert (is_holdout(range(200), 0.3, "s") == is_holdout(map(str, range(200)), 0.3, "s")).all()


def test_the_hash_is_the_one_written_down():
    """The sides of ten ids are as they always were: a change of the hash would mix up every fork's hold-out."""
    held = is_holdout([f"wdbc-{number:04d}" for number in range(1, 11)], 0.25, "slipway")
    assert np.flatnonzero(held).tolist() == [0, 2, 3, 8]
