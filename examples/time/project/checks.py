"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectColumnValuesToBeInSet(column="weekday", value_set=DAYS, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="temperature", min_value=-40, max_value=50, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="loaves", min_value=0, severity="critical"),
    ]
    rules += [
        expect.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=100_000, severity="critical")
        for column in ("week_ago", "two_weeks_ago", "month_before")
    ]
    return ExpectationSuite("time", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training.
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-6)]
DIRECTIONS = [
    Direction("who sold more a month long will not sell less", "month_before", lambda loaves: loaves * 1.1, "up"),
    Direction("an offer never sells less", "offer", lambda offer: offer * 0 + 1, "up"),
]
