"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Invariance

TOPICS = ["billing", "defect", "delivery", "returns"]


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectColumnValuesToNotBeNull(column="message", severity="critical"),
        expect.ExpectColumnValueLengthsToBeBetween(column="message", min_value=3, max_value=2000, severity="warning"),
        expect.ExpectColumnValuesToBeInSet(column="channel", value_set=["mail", "form", "chat"], severity="warning"),
        expect.ExpectColumnValuesToBeInSet(column="topic", value_set=TOPICS, severity="critical"),
    ]
    return ExpectationSuite("text", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer; tried on a sample before the long training.
INVARIANCES = [
    Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-9),
    Invariance(
        "capital letters do not matter", lambda rows: rows.assign(message=rows["message"].str.upper()), tolerance=1e-9
    ),
    Invariance(
        "an order's number tells nothing",
        lambda rows: rows.assign(message=rows["message"].str.replace(r"\d{5}", "48613", regex=True)),
        tolerance=1e-9,
    ),
]
DIRECTIONS: list = []
