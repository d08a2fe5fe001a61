"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance

# What the sensors can measure.
RANGES = {
    "speed_rpm": (0, 6000),
    "load": (0, 1.5),
    "vibration_across": (0, 50),
    "vibration_along": (0, 50),
    "vibration_high": (0, 20),
    "temperature": (-40, 200),
}
STATES = ["bearing", "healthy", "loose", "unbalanced"]


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectTableRowCountToBeBetween(min_value=1000, severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="state", value_set=STATES, severity="critical"),
    ]
    for column, (low, high) in RANGES.items():
        rules += [
            expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"),
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity="critical"),
        ]
    return ExpectationSuite("network", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training.
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-5)]
DIRECTIONS = [
    # A network promises no direction: in a few rows a little the other way is tolerated.
    Direction(
        "more shaking at high frequencies is no sign of health",
        "vibration_high",
        lambda shaking: shaking + 0.3,
        "down",
        of="healthy",
        tolerance=0.15,
    ),
]
