"""Which rows an earlier version was not trained on, whatever it was split by: on no other row is it compared."""

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison.registered import COMMON_ROWS, incomparable, unseen
from pipeline.data.dataset import take_apart
from pipeline.registry.model_version import ModelVersion, Split, as_tags
from pipeline.settings import Settings
from pipeline.validation import sides

FIRST = 400  # rows of the data that production was trained on; 200 come later


def dataset(rows, by="id", holdout=0.25, salt="s", dates=False, **roles):
    """Rows in the order of time, of customers with three each."""
    number = np.arange(rows)
    at = pd.Timestamp("2026-01-01") + pd.to_timedelta(number, "h") if dates else number
    frame = pd.DataFrame({"id": number, "x": number % 7, "t": number * 0.5, "customer": number // 3, "at": at})
    frame = frame.drop(columns=[name for name in ("customer", "at") if name not in roles.values()])
    data = {"task": "regression", "id": "id", "target": "t", **roles}
    given = {"name": "n", "train": {"seed": 1}, "gate": {"metric": "mae", "margin": 0.0}, "data": data}
    return take_apart(frame, Settings.model_validate(given | {"split": {"by": by, "holdout": holdout, "salt": salt}}))


def version(of):
    """The version that was trained on this data, as the registry gives it back."""
    facts = of.split_facts
    split = Split(facts["id"], facts["salt"], facts["holdout"], facts.get("by", "id"), facts.get("cut", ""))
    tags = as_tags(split, {})
    found = type(
        "Found",
        (),
        {"name": "n", "version": "1", "run_id": "", "creation_timestamp": 0, "current_stage": "", "tags": tags},
    )
    return ModelVersion.from_mlflow(found)


KINDS = {
    "id": {},
    "group": {"group": "customer"},
    "time": {"by": "time", "time": "at"},
    "dates": {"by": "time", "time": "at", "dates": True},
    "time with groups": {"by": "time", "time": "at", "group": "customer"},
}
CASES = [
    (before, after, share)
    for before in KINDS
    for after in KINDS
    if ("dates" in before) == ("dates" in after) or "time" not in before + after
    for share in (0.25, 0.4)
]


@pytest.mark.parametrize(("before", "after", "share"), CASES)
def test_production_is_never_judged_on_a_row_that_it_trained_on(before, after, share):
    """The data has grown, and the split may be another: what both held out is compared, and nothing else."""
    roles = {**KINDS[before], **KINDS[after]} if before != after else KINDS[before]
    old = dataset(FIRST, **KINDS[before])
    new = dataset(FIRST + 200, **(roles | {"by": KINDS[after].get("by", "id"), "holdout": share}))
    trained = set(old.ids[~old.holdout])
    rows = unseen(version(old), new.settings, new)
    assert not trained & set(new.ids[new.holdout][rows])
    learned = set(new.ids[~new.holdout])
    assert not learned & set(new.ids[new.holdout])
    if before == after:
        assert rows.sum() >= COMMON_ROWS


def test_growing_data_leaves_the_whole_holdout_to_compare_on_with_a_time_split():
    """The cut has moved forwards, so production has seen none of the rows after it."""
    old, new = dataset(FIRST, by="time", time="at"), dataset(FIRST + 200, by="time", time="at")
    assert new.cut > old.cut
    assert unseen(version(old), new.settings, new).all()


def test_older_data_than_production_saw_is_compared_on_what_production_held_out():
    """Rows were removed and the cut went back: only those from production's cut on count."""
    old, new = dataset(FIRST, by="time", time="at"), dataset(FIRST - 60, by="time", time="at")
    rows = unseen(version(old), new.settings, new)
    assert new.cut < old.cut and 0 < rows.sum() < len(rows)
    assert (new.times[new.holdout][rows] >= old.cut).all()


@pytest.mark.parametrize(
    "tags", [{}, {"split_id": "id", "split_salt": "s", "split_holdout": "0.25", "split_by": "moon"}]
)
def test_a_version_of_which_nobody_knows_the_split_is_compared_on_no_row(tags):
    """Neither is one of a later release, which is split in another way."""
    new = dataset(FIRST)
    found = type(
        "Found",
        (),
        {"name": "n", "version": "1", "run_id": "", "creation_timestamp": 0, "current_stage": "", "tags": tags},
    )
    assert not unseen(ModelVersion.from_mlflow(found), new.settings, new).any()


def test_an_earlier_release_compares_no_row_with_a_version_that_was_split_otherwise():
    """It reads the tag split_id as the id column, and stops where the data has another."""
    grouped = version(dataset(FIRST, group="customer"))
    assert as_tags(grouped.split, {})["split_id"] == "customer"


def test_few_groups_keep_production_in_words_of_groups():
    """The limit is the one that `make validate` warns of."""
    new = dataset(FIRST, group="customer")
    contract = {"task": "regression", "classes": [], "inputs": []}
    problem = incomparable(contract, new, 90, 19, "3")
    assert problem.verdict == "keep" and "are of 19 groups (customer)" in problem.reason
    assert sides.GROUPS == COMMON_ROWS
