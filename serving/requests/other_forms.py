"""Bodies in the form of another service, or of another path of this one: the sentence that names the right form."""

from collections.abc import Collection
from typing import Any

from serving.problems import Problem

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")  # what /invocations takes


def of_list(body: Any) -> str:
    """What to do with a body that is a list of rows; "" for any other."""
    return '; rows go to /predict/batch as {"features": […]}' if _are_rows(body) else ""


def of_object(body: dict[str, Any], names: Collection[str]) -> str:
    """What to do with a body that has no `features`, by what it has; "" where that says nothing."""
    if form := next((form for form in FORMS if form in body), None):
        return f"; {form!r} is MLflow's form, which /invocations takes"
    if any(name in body for name in names):
        return '; the features themselves go inside it: {"features": {…}}'
    return ""


def check_one(features: Any) -> None:
    """Raise Problem 422 when these are many rows where one is wanted."""
    if _are_rows(features):
        raise Problem(422, "features is a list of rows, and /predict takes one row; /predict/batch takes many")
    if _are_columns(features):
        detail = "features has a list for each name, and /predict takes one value for each"
        raise Problem(422, f'{detail}; /invocations takes lists as {{"inputs": {{…}}}}')


def check_many(features: Any) -> None:
    """Raise Problem 422 when these are columns where rows are wanted."""
    if _are_columns(features):
        detail = "features has a list for each name, and /predict/batch takes a list of rows"
        raise Problem(422, f'{detail}; /invocations takes lists as {{"inputs": {{…}}}}')


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list | dict) for row in value)


def _are_columns(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(column, list) for column in value.values())
