"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance

VALUES = {"contract": ["monthly", "one_year", "two_years"], "payment": ["card", "invoice", "transfer"]}
RANGES = {
    "tenure_months": (0, 600),
    "monthly_fee": (0, 1000),
    "data_gb": (0, 10_000),
    "support_calls": (0, 200),
    "satisfaction": (1, 5),
}
MAY_BE_EMPTY = ("data_gb", "satisfaction")


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [expect.ExpectTableRowCountToBeBetween(min_value=1000, severity="critical")]
    for column, allowed in VALUES.items():
        rules.append(expect.ExpectColumnValuesToBeInSet(column=column, value_set=allowed, severity="critical"))
    for column, (low, high) in RANGES.items():
        rules.append(
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity="critical")
        )
        if column not in MAY_BE_EMPTY:
            rules.append(expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"))
    # Not everybody is asked how satisfied they are, but when nearly nobody is, something is wrong.
    rules.append(expect.ExpectColumnValuesToNotBeNull(column="satisfaction", mostly=0.4, severity="warning"))
    return ExpectationSuite("churn", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training.
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-9)]
DIRECTIONS = [
    # Trees answer in steps, and a step of a small sample may go the wrong way a little.
    Direction(
        "more calls to support never keep a customer", "support_calls", lambda calls: calls + 3, "up", tolerance=0.15
    ),
]
