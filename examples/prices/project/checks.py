"""Your checks: what you expect of the data, and how the model must behave."""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance

RANGES = {"area_m2": (10, 1000), "rooms": (1, 20), "floor": (0, 60), "built": (1600, 2030), "centre_km": (0, 50)}
VALUES = {
    "district": ["old_town", "harbour", "hill", "north", "west", "mills", "ring"],
    "condition": ["to_renovate", "fair", "good", "renovated"],
}


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    rules = [
        expect.ExpectTableRowCountToBeBetween(min_value=1000, severity="critical"),
        expect.ExpectColumnValuesToBeBetween(column="price", min_value=1000, severity="critical"),
    ]
    for column, (low, high) in RANGES.items():
        rules += [
            expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"),
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high, severity="critical"),
        ]
    for column, allowed in VALUES.items():
        # A new district is no reason to stop: the model answers it like an average one, and the service warns.
        rules.append(expect.ExpectColumnValuesToBeInSet(column=column, value_set=allowed, severity="warning"))
    return ExpectationSuite("prices", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training.
INVARIANCES = [Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-4)]
DIRECTIONS = [
    Direction("a larger flat is never cheaper", "area_m2", lambda area: area * 1.1, "up"),
    Direction("a flat further out is never dearer", "centre_km", lambda distance: distance + 1, "down"),
]
