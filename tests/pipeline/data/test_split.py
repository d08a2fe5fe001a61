"""Folds of the training side: each row is judged once, groups stay together, and time goes forwards."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data.dataset import take_apart
from pipeline.data.split import folds, stop_rows
from pipeline.errors import DataError
from pipeline.settings import Settings


def dataset(rows=400, by="id", task="binary", **roles):
    """Rows with an id, a feature, one in ten positive, customers of five rows each, and a time that is the row's number."""
    numbers = np.arange(rows)
    frame = pd.DataFrame({"id": numbers, "x": numbers % 7 + 0.5, "t": np.where(numbers % 10 == 3, "yes", "no")})
    frame = frame.assign(customer=numbers // 5, at=numbers)
    frame = frame.drop(columns=[name for name in ("customer", "at") if name not in roles.values()])
    data = {"task": task, "id": "id", "target": "t", **roles} | ({"positive": "yes"} if task == "binary" else {})
    given = {"name": "n", "train": {"seed": 1}, "gate": {"metric": "log_loss", "margin": 0.0}, "data": data}
    return take_apart(frame, Settings.model_validate(given | {"split": {"by": by, "holdout": 0.25, "salt": "s"}}))


def test_each_training_row_is_judged_once_and_never_by_a_model_that_learned_from_it():
    """Five folds: masks over the training rows, disjoint, of about equal size, with each class in each."""
    data = dataset()
    made = folds(data, 5)
    judged = np.array([judge for _, judge in made])
    assert judged.shape == (5, (~data.holdout).sum()) and (judged.sum(axis=0) == 1).all()
    assert all((fit == ~judge).all() for fit, judge in made)
    y = data.y[~data.holdout]
    assert np.ptp(judged.sum(axis=1)) <= 2 and np.ptp([y[judge].sum() for judge in judged]) <= 1


def test_folds_are_the_same_each_time_whatever_the_order_of_the_rows():
    """The fold of a row follows from its id and the salt."""
    data = dataset()
    assert all((one[1] == other[1]).all() for one, other in zip(folds(data, 3), folds(dataset(), 3), strict=True))


def test_rows_of_one_group_are_in_one_fold_and_on_one_side():
    """A customer is judged by models that never saw the customer, in folds, early stopping and hold-out."""
    data = dataset(group="customer")
    customers = pd.Series(data.groups)
    assert customers.groupby(data.holdout).unique().explode().is_unique
    training = customers[~data.holdout].to_numpy()
    for fit, judge in folds(data, 4):
        assert not set(training[fit]) & set(training[judge])
    stop = stop_rows(data)
    assert stop.any() and not set(training[stop]) & set(training[~stop])


def test_folds_go_forwards_in_time():
    """With a time split each fold judges rows that are younger than all that it learned from."""
    data = dataset(by="time", time="at")
    times = data.times[~data.holdout]
    made = folds(data, 4)
    assert len(made) == 4
    for fit, judge in made:
        assert times[fit].max() < times[judge].min() and judge.sum() == 60
    stop = stop_rows(data)
    assert times[~stop].max() < times[stop].min() and stop.sum() == 30


def test_fewer_groups_than_folds_are_refused():
    """Ten customers on the training side cannot make eleven folds."""
    data = dataset(rows=60, group="customer")
    with pytest.raises(DataError, match="groups, too few for 40 folds"):
        folds(data, 40)


def test_the_rows_that_stop_a_training_are_a_tenth_and_another_draw_than_the_holdout():
    """Their salt is their own: with the hold-out's, no training row would be among them."""
    data = dataset(rows=4000)
    assert 0.08 < stop_rows(data).mean() < 0.12
