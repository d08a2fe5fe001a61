"""Rules about a model's behaviour: what they let pass, and what they say when broken."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import ProjectError
from pipeline.evaluation.behaviour import Direction, Invariance, keeps_direction, keeps_still

FEATURES = pd.DataFrame({"age": [20.0, 40.0, 60.0], "noise": [3.0, 1.0, 2.0]}, index=["r1", "r2", "r3"])


def values(frame):
    """A regression: a hundredth of the age."""
    return frame["age"].to_numpy() / 100


def probabilities(frame):
    """Two classes; who is older is more surely in the second."""
    return np.column_stack([1 - values(frame), values(frame)])


@pytest.mark.parametrize("predict", [values, probabilities])
def test_change_that_does_not_matter_passes(predict):
    """Reordered rows, or another value in a column that is not used, move no answer."""
    for change in (lambda rows: rows.iloc[::-1], lambda rows: rows.assign(noise=0)):
        assert keeps_still(Invariance("n", change, 1e-12), FEATURES, predict).success


@pytest.mark.parametrize(("tolerance", "success"), [(0.0999, False), (0.1001, True)])
def test_tolerance_is_the_limit(tolerance, success):
    """An answer may move by the tolerance, not by more; how far it moved is told."""
    found = keeps_still(
        Invariance("ten years", lambda rows: rows.assign(age=rows["age"] + 10), tolerance), FEATURES, values
    )
    assert (found.check, found.success) == ("ten years", success)
    assert "the largest move of an answer is 0.1; at most" in found.observed


def test_the_features_are_not_changed():
    """A change that writes into its argument spoils nothing for the next rule."""

    def spoil(rows):
        rows["age"] = 0.0
        return rows

    def spoil_column(column):
        column[:] = 0.0
        return column

    keeps_still(Invariance("n", spoil, 1), FEATURES, values)
    keeps_direction(Direction("n", "age", spoil_column, "down"), FEATURES, values, [])
    assert FEATURES["age"].tolist() == [20.0, 40.0, 60.0]


@pytest.mark.parametrize(
    "change", [lambda rows: rows.head(2), lambda rows: rows.reset_index(drop=True), lambda rows: None]
)
def test_rows_must_be_kept(change):
    """A change that loses rows or their index is refused by the rule's name."""
    with pytest.raises(
        ProjectError, match=r"change of 'n' in project/checks\.py does not return the rows it was given"
    ):
        keeps_still(Invariance("n", change, 1), FEATURES, values)


def test_direction_kept_and_broken():
    """Older moves the answer up: expecting up passes and counts, expecting down fails and names the worst row."""
    older = Direction("older", "age", lambda age: age * 1.1, "up")
    assert keeps_direction(older, FEATURES, values, []).observed == "3 of 3 answers go up, none the other way"
    found = keeps_direction(Direction("older", "age", lambda age: age * 1.1, "down"), FEATURES, values, [])
    assert not found.success
    assert found.observed == "3 of 3 answers go the other way; worst in row r3, by 0.06"


def test_direction_is_about_one_class():
    """With classes the positive one is meant, unless the rule names another."""
    rule = Direction("older", "age", lambda age: age + 1, "up")
    assert keeps_direction(rule, FEATURES, probabilities, ["no", "yes"], "yes").success
    other = Direction("older", "age", lambda age: age + 1, "up", of="no")
    assert not keeps_direction(other, FEATURES, probabilities, ["no", "yes"], "yes").success


def test_one_answer_the_wrong_way_is_enough():
    """A rule that holds for all rows but one is broken."""
    found = keeps_direction(Direction("n", "age", lambda age: age + np.array([1, 1, -1]), "up"), FEATURES, values, [])
    assert not found.success and found.observed.startswith("1 of 3 answers")


def test_no_move_is_no_wrong_move():
    """Rounding is no behaviour: an answer that moves by a billionth stays."""
    rule = Direction("n", "age", lambda age: age - 1e-8, "up")
    assert keeps_direction(rule, FEATURES, values, []).observed == "0 of 3 answers go up, none the other way"


@pytest.mark.parametrize(
    ("rule", "classes", "message"),
    [
        (Direction("n", "wage", lambda x: x, "up"), [], "direction 'n' in project/checks.py names column 'wage', which is no feature"),
        (Direction("n", "age", lambda x: x, "up"), ["a", "b"], "must say whose probability it means: of = one of 'a', 'b'"),
        (Direction("n", "age", lambda x: x, "up", of="c"), ["a", "b"], "must say whose probability it means"),
        (Direction("n", "age", lambda x: x / "a", "up"), [], "the change of 'n' in project/checks.py failed"),
    ],
)  # fmt: skip
def test_rule_that_makes_no_sense_is_refused(rule, classes, message):
    """A rule that names what is not there, or raises, is refused by its name."""
    with pytest.raises(ProjectError, match="n") as caught:
        keeps_direction(rule, FEATURES, probabilities if classes else values, classes)
    assert message in caught.value.what


def test_model_that_raises_after_the_change_is_told():
    """When the changed rows make the model raise, the rule is named."""
    with pytest.raises(
        ProjectError, match=r"the model, after the change of 'n' in project/checks\.py, failed: KeyError"
    ):
        keeps_still(Invariance("n", lambda rows: rows[["noise"]], 1), FEATURES, values)
    with pytest.raises(ProjectError, match=r"the model, after the change of 'n'.* failed: TypeError"):
        keeps_direction(Direction("n", "age", lambda age: age.astype(str), "up"), FEATURES, values, [])


@pytest.mark.parametrize(("tolerance", "success"), [(0.0, False), (0.0999, False), (0.1001, True)])
def test_direction_may_be_missed_by_its_tolerance(tolerance, success):
    """A few answers may go the other way by the tolerance, in units of the answer; how many and how far is told."""

    def steps(frame):
        return np.where(frame["age"] == 70, 0.5, frame["age"].to_numpy() / 100)

    rule = Direction("older is more", "age", lambda age: age + 10, "up", tolerance=tolerance)
    found = keeps_direction(rule, FEATURES, steps, [])
    assert found.success == success
    assert "1" in found.observed and "by 0.1" in found.observed and ("is tolerated" in found.observed) == success
