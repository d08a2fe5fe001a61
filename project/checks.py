"""Your checks: what you expect of the data, and how the model must behave.

What matters for any data is checked without being asked for: infinite values, repeated rows, rare classes,
and a column that gives the target away.
"""

# Great Expectations takes a severity as text too, which its type hints do not say.
# mypy: disable-error-code="arg-type"

from pipeline.evaluation.behaviour import Direction, Invariance

# The largest value that each measurement may have; the smallest is 0. The service refuses what lies outside.
LARGEST = {
    "radius": 100,
    "texture": 100,
    "perimeter": 1000,
    "area": 10000,
    "smoothness": 1,
    "compactness": 5,
    "concavity": 5,
    "concave_points": 1,
    "symmetry": 1,
    "fractal_dimension": 1,
}
FEATURES = {
    name: largest
    for measurement, largest in LARGEST.items()
    for name in (f"mean_{measurement}", f"{measurement}_error", f"worst_{measurement}")
}


def expectations():
    """Return what must hold of the data (critical: the run stops) or should (warning: it is reported)."""
    from great_expectations import ExpectationSuite
    from great_expectations import expectations as expect

    classes = ["benign", "malignant"]
    rules = [
        expect.ExpectTableColumnsToMatchSet(column_set=["id", *FEATURES, "diagnosis"], severity="critical"),
        expect.ExpectTableRowCountToBeBetween(min_value=300, severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column="id", severity="critical"),
        expect.ExpectColumnValuesToBeUnique(column="id", severity="critical"),
        expect.ExpectColumnValuesToNotBeNull(column="diagnosis", severity="critical"),
        expect.ExpectColumnValuesToBeInSet(column="diagnosis", value_set=classes, severity="critical"),
        expect.ExpectColumnKLDivergenceToBeLessThan(
            column="diagnosis",
            partition_object={"values": classes, "weights": [0.63, 0.37]},
            threshold=0.1,  # reached when fewer than 17 % or more than 59 % of the rows are malignant
            severity="warning",
        ),
    ]
    for column, largest in FEATURES.items():
        rules += [
            expect.ExpectColumnValuesToBeInTypeList(column=column, type_list=["float64", "int64"], severity="critical"),
            expect.ExpectColumnValuesToNotBeNull(column=column, severity="critical"),
            expect.ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=largest, severity="critical"),
        ]
    return ExpectationSuite("breast-cancer", rules)


# Columns that may predict the target alone, because you know that they do so honestly.
MAY_PREDICT_ALONE: list[str] = []

# What must not move the answer, and which way it goes; tried on a sample before the long training.
INVARIANCES = [
    Invariance("the order of the rows does not matter", lambda rows: rows.iloc[::-1], tolerance=1e-9),
    Invariance(
        "a change in the fourth digit, the precision of the measurements, hardly matters",
        lambda rows: rows * 1.0005,
        tolerance=0.02,
    ),
]
DIRECTIONS = [
    Direction("a larger worst area is never judged less malignant", "worst_area", lambda area: area * 1.1, "up"),
    Direction(
        "more concave points are never judged less malignant",
        "worst_concave_points",
        lambda points: points + 0.02,
        "up",
    ),
    Direction(
        "a smoother texture is never judged more malignant",
        "worst_texture",
        lambda texture: texture * 0.9,
        "down",
    ),
]
