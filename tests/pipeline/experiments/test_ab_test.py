"""ABTest: users are divided as the service does, records get outcomes later, and the analysis is that of make experiment."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.errors import DataError
from pipeline.notebook import ABTest
from serving.experiment.experiment import position
from serving.log.identity import identity

SPLIT = {"A": 0.9, "B": 0.1}


class Constant:
    """A model that answers the same to every row."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, rows):
        """One answer a row."""
        return [self.answer] * len(rows)


def test_users_meet_who_answers_them_in_production():
    """The same user always the same model, by the function of the service; a tenth of them B."""
    test = ABTest({"A": None, "B": None}, SPLIT, name="greener")
    users = [f"user-{number}" for number in range(3000)]
    assigned = [test.assign(user) for user in users]
    assert assigned == [test.assign(user) for user in users]
    assert [one == "B" for one in assigned] == [position("greener", identity(user)) < 0.1 for user in users]
    assert assigned.count("B") / len(users) == pytest.approx(0.1, abs=0.02)


def test_without_an_id_the_model_is_random():
    """Divided by the split, and with a seed the same each time."""
    one, other = (ABTest({"A": None, "B": None}, SPLIT, seed=1) for _ in range(2))
    assigned = [one.assign() for _ in range(2000)]
    assert assigned == [other.assign() for _ in range(2000)]
    assert assigned.count("B") / 2000 == pytest.approx(0.1, abs=0.03)


def test_an_answer_is_recorded_with_its_features_and_its_outcome():
    """Outcomes are added later, by the number of the record."""
    test = ABTest({"A": Constant("yes"), "B": Constant("no")}, SPLIT, score=lambda said, true: said == true)
    answered = test.predict({"age": 40}, user="anna")
    test.add_outcome(answered.number, "yes")
    (row,) = test.records.to_dict("records")
    assert row["features"] == {"age": 40} and row["prediction"] == answered.prediction and row["outcome"] == "yes"


@pytest.mark.parametrize(
    "features", [[1, 2], np.array([1, 2]), np.array([[1, 2]]), pd.Series({"a": 1}), pd.DataFrame({"a": [1]})]
)
def test_a_row_may_have_any_usual_form(features):
    """A list, an array, a Series or a frame of one row."""
    assert ABTest({"A": Constant(3), "B": lambda rows: [3]}, SPLIT).predict(features, user=1).prediction == 3


def measured(numbers_a, numbers_b, **more):
    """A test whose users have these outcomes, one each."""
    test = ABTest({"A": None, "B": None}, {"A": 0.5, "B": 0.5}, **more)
    for variant, numbers in (("A", numbers_a), ("B", numbers_b)):
        for place, value in enumerate(numbers):
            test.add_outcome(test.record(variant, user=f"{variant}{place}"), value)
    return test


def test_the_analysis_has_counts_means_deviations_and_the_t_test():
    """As pandas and scipy have them."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 150), rng.normal(1, 2, 160)
    found = measured(a, b).analyze()
    table = found.table
    assert table["count"].tolist() == [150, 160] and table["users"].tolist() == [150, 160]
    assert table["mean"].tolist() == pytest.approx([a.mean(), b.mean()])
    assert table["standard deviation"].tolist() == pytest.approx([a.std(ddof=1), b.std(ddof=1)])
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue) and found.significant
    assert found.better == "B" and "B has the larger mean" in repr(found) and "<table" in found._repr_html_()


def test_records_of_a_user_are_one_number():
    """Ten outcomes of one user are not ten users; without an id each record is one."""
    test = measured([1.0, 0.0], [0.0, 0.0])
    for _ in range(10):
        test.add_outcome(test.record("A", user="A0"), 0.0)
    test.add_outcome(test.record("B"), 1.0)
    table = test.analyze().table
    assert table["count"].tolist() == [2, 3] and table["mean"].tolist() == pytest.approx([1 / 22, 1 / 3])


def test_users_of_both_variants_are_left_out():
    """They are counted apart."""
    test = measured([1.0, 0.0], [0.0, 0.0])
    test.record("B", user="A0")
    found = test.analyze()
    assert found.crossed == 1 and found.table["users"].tolist() == [1, 2]


def test_a_split_that_is_not_as_set_decides_nothing():
    """However clear the outcomes are."""
    found = measured([0.0, 1.0] * 200, [5.0, 6.0] * 100).analyze()
    assert found.ratio.mismatch and found.sequence.decided and found.better == "" and "do not compare" in found.words


def test_nothing_is_decided_before_there_are_outcomes():
    """Without any, and with few."""
    empty = ABTest({"A": None, "B": None}, SPLIT).analyze()
    assert (empty.welch, empty.sequence, empty.ratio, empty.better, empty.significant) == (None, None, None, "", False)
    assert "100 users" in repr(empty)


def test_users_that_are_all_alike_are_not_too_few():
    """However many they are, nothing says how sure a difference is; rounding least of all."""
    found = measured([0.1] * 1000, [0.1] * 1500, planned=2500).analyze()
    assert found.welch is None and found.sequence is None and "alike" in found.words and "are needed" not in found.words


def test_a_missing_id_in_a_table_names_nobody():
    """Records with NaN are not all those of one user."""
    test = ABTest({"A": None, "B": None}, {"A": 0.5, "B": 0.5}, seed=1)
    assert {test.assign(float("nan")) for _ in range(20)} == {"A", "B"}
    for user in (None, float("nan"), pd.NA):
        test.record("A", user=user)
    assert test.analyze().table["users"].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ABTest(["A", "B"], [0.9, 0.1]), "mappings by name"),
        (lambda: ABTest({"A": 1, "B": 2}, {"A": "most", "B": "few"}), "add up to 1"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT, planned=float("nan")), "at least 200 users"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT).add_outcome("anna", 1), "no record 'anna'"),
        (lambda: ABTest(dict.fromkeys("AB", lambda rows: []), SPLIT).predict([1]), "answered nothing"),
        (lambda: measured([1e200], []), "no finite number up to 1e"),
        (lambda: ABTest({"A": 1, "B": 2, "C": 3}, {"A": 0.5, "B": 0.3, "C": 0.2}), "compares two"),
        (lambda: ABTest({"A": 1, "B": 2}, {"A": 0.5, "C": 0.5}), "the variants are 'A', 'B'"),
        (lambda: ABTest({"A": 1, "B": 2}, {"A": 0.5, "B": 0.4}), "add up to 1"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT, planned=10), "at least 200 users"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT).predict([1]), "neither `predict`"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT).record("C"), "no variant 'C'"),
        (lambda: ABTest({"A": 1, "B": 2}, SPLIT).add_outcome(0, 1), "no record 0"),
        (lambda: ABTest({"A": Constant(1), "B": Constant(1)}, SPLIT).predict([[1], [2]]), "2 rows"),
        (lambda: measured(["yes"], []), "no finite number"),
    ],
)
def test_bad_input_is_refused_in_words(call, said):
    """What is wrong, and where."""
    with pytest.raises(DataError, match=said):
        call()
