"""Your own tests: of your data, your rules and your model."""

import pytest

from project import rules
from project.data import load

USUAL = {
    "amount": 40.0,
    "hour": 12,
    "merchant": "fuel",
    "distance_km": 8.0,
    "payments_today": 1,
    "card_present": True,
    "card_age_days": 400,
    "reported_stolen": False,
}


def test_three_payments_in_a_thousand_are_fraud():
    """What the limits and costs in pipeline.toml were chosen for."""
    assert (load()["fraud"] == "yes").mean() == pytest.approx(0.003)


def test_a_stolen_card_is_fraud_whatever_is_bought():
    """Even where the payment is tiny: the rule comes first."""
    stolen = USUAL | {"reported_stolen": True, "amount": 0.9}
    decided = [answer for rule in rules.BEFORE if (answer := rule(stolen))]
    assert decided[0] == "yes" and rules.BEFORE[0] is rules.card_reported_stolen


def test_most_payments_are_left_to_the_model():
    """A usual row meets no rule, and its probability stays as it is."""
    assert [rule(USUAL) for rule in rules.BEFORE] == [None, None]
    assert rules.cap_of_neighbourhood(USUAL, 0.9) == 0.9


def test_groceries_round_the_corner_are_never_sure_to_be_fraud():
    """The cap lowers a high probability, and leaves a low one."""
    near = USUAL | {"merchant": "groceries", "distance_km": 0.4}
    assert rules.cap_of_neighbourhood(near, 0.9) == 0.5 and rules.cap_of_neighbourhood(near, 0.1) == 0.1
