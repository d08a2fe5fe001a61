"""What is said of the two sides of the split where rows have weights, groups or times; and of labels that are no words."""

import numpy as np
import pandas as pd
import pytest

from pipeline.data import checks
from pipeline.data.dataset import take_apart
from pipeline.errors import DataError
from pipeline.settings import Settings
from pipeline.validation import sides

ROWS = 600


def settings(by="id", positive="yes", **roles):
    """Settings of two classes with these roles."""
    data = {"task": "binary", "id": "id", "target": "t", "positive": positive, **roles}
    given = {"name": "n", "train": {"seed": 1}, "gate": {"metric": "log_loss", "margin": 0.0}, "data": data}
    return Settings.model_validate(given | {"split": {"by": by, "holdout": 0.25, "salt": "s"}})


def frame(**columns):
    """Six hundred rows, every tenth positive."""
    rows = np.arange(ROWS)
    return pd.DataFrame({"id": rows, "x": rows % 7, "t": np.where(rows % 10 == 0, "yes", "no")} | columns)


def only(made, given):
    """The one check of the sides."""
    (check,) = sides.examine(take_apart(made, given))
    return check


def test_few_groups_in_the_holdout_are_a_warning_and_one_is_a_failure():
    """Below 20 nothing is compared with production; of one group nothing can be said, and the share of the largest is."""
    few = only(frame(g=np.arange(ROWS) // 20), settings(group="g"))
    assert (few.severity, few.success) == (
        "warning",
        False,
    ) and "held out: rows of one group count as one" in few.observed
    one = only(frame(g=np.where(np.arange(ROWS) < 580, "big", "other")), settings(group="g"))
    assert (one.severity, one.success) == ("critical", False)
    assert "of 2 groups (the largest has 97% of the rows)" in one.observed
    assert only(frame(g=np.arange(ROWS) // 3), settings(group="g")).success


def test_groups_that_a_time_split_cuts_are_counted():
    """Time decides; the report of the data says how many groups are on both sides."""
    made = frame(g=np.arange(ROWS) % 50, d=np.arange(ROWS))
    newest, groups = sides.examine(take_apart(made, settings("time", group="g", time="d")))
    assert "150 from then on" in newest.observed
    assert groups.success and "50 have rows before and after the cut" in groups.observed


def test_a_class_that_counts_nothing_on_one_side_is_a_failure():
    """All of its weights there are 0."""
    made = frame(w=np.where(np.arange(ROWS) % 10 == 0, 0.0, 1.0))
    check = only(made, settings(weight="w"))
    assert not check.success and check.observed == "class 'yes' has no row with a weight above 0 on the training side"
    assert only(frame(w=np.arange(ROWS) + 1.0), settings(weight="w")).success


@pytest.mark.parametrize("values", [[-1.0] * ROWS, [0.0] * ROWS, ["a"] * ROWS, [None] * ROWS, [True] * ROWS])
def test_weights_that_are_none_are_a_critical_check(values):
    """With the words that the training would refuse them with."""
    found = [
        one for one in checks.check(frame(w=values), settings(weight="w")) if one.column == "w" and not one.success
    ]
    assert found and all(one.severity == "critical" for one in found)


def test_a_role_without_its_column_is_a_critical_check():
    """With the column that may be meant."""
    found = checks.present(frame(weights=1.0), settings(weight="weight"))
    assert [one.observed for one in found if not one.success] == ["column weight is missing; did you mean weights?"]


LABELS = {
    "flags": ([True, False], "True", ["False", "True"], "true"),
    "negative numbers": ([1, -1], "1", ["-1", "1"], "+1"),
    "floats": ([1.0, 0.0], "1.0", ["0.0", "1.0"], "1"),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_that_are_no_words(case):
    """They are classes named by their text; another spelling of the positive one is answered with the right one."""
    values, positive, classes, misspelt = LABELS[case]
    made = frame(t=np.where(np.arange(ROWS) % 10 == 0, *values))
    assert take_apart(made, settings(positive=positive)).classes == classes
    with pytest.raises(DataError, match=f'write positive = "{positive}"'):
        take_apart(made, settings(positive=misspelt))
    failed = [one for one in checks.check(made, settings(positive=misspelt)) if not one.success]
    assert any(f'write positive = "{positive}"' in one.observed for one in failed)
