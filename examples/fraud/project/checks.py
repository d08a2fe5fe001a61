"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Invariance

RANGES = {
    "amount": (0, 100_000),
    "hour": (0, 23),
    "distance_km": (0, 20_100),  # half the way round the earth
    "payments_today": (0, 1000),
    "card_age_days": (0, 20_000),
}
MERCHANTS = ["groceries", "fuel", "restaurant", "clothes", "travel", "electronics", "gift_cards"]


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectTableRowCountToBeBetween(min_value=10_000, severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="merchant", value_set=MERCHANTS, severity="warning"),
        # Fraud that is not reported yet looks like none: a share far below the usual one means that labels are late.
        expect.ExpectColumnValuesToBeInSet(column="fraud", value_set=["no"], mostly=0.99, severity="critical"),
        expect.ExpectColumnDistinctValuesToContainSet(column="fraud", value_set=["yes", "no"], severity="critical"),
    ]
    for column, (low, high) in RANGES.items():
        rules += [
            expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"),
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity="critical"),
        ]
    return ExpectationSuite("fraud", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer; tried on a sample before the long training.
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-6)]
DIRECTIONS: list = []
