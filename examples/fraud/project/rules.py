"""Your rules beside the model: what is decided without asking it, and what its answer may not be.

A rule of BEFORE takes a row and returns a class, or None where it has nothing to say. A rule of AFTER takes the row and the model's
probability of fraud, and returns another one or a class. The first that answers decides; answers of the service name it.
"""

TINY = 2.0  # euros: a payment that is not worth a question
NEAR = 2.0  # kilometres from the payment before


def card_reported_stolen(row: dict) -> str | None:
    """Block: nobody pays with a card that its owner has reported as stolen, whatever the model thinks."""
    return "yes" if row["reported_stolen"] else None


def tiny_payment_in_person(row: dict) -> str | None:
    """Allow: a coffee, paid with the card in the shop, as the second or third payment of the day."""
    return "no" if row["amount"] < TINY and row["card_present"] and row["payments_today"] < 4 else None


def cap_of_neighbourhood(row: dict, probability: float) -> float:
    """Cap: groceries round the corner, with the card in the shop, are never sure to be fraud: a person is asked, nobody is blocked."""
    usual = row["card_present"] and row["distance_km"] < NEAR and row["merchant"] == "groceries"
    return min(probability, 0.5) if usual else probability


BEFORE = [card_reported_stolen, tiny_payment_in_person]
AFTER = [cap_of_neighbourhood]
