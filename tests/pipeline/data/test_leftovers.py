"""Leftovers of the shipped example: found on other data, and never on the example itself."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data import leftovers
from pipeline.settings import Settings

EXAMPLE = Path(__file__).resolve().parents[2] / "example"
TOML = tomllib.loads((EXAMPLE / "pipeline.toml").read_text(encoding="utf-8"))
OTHER = pd.DataFrame({"id": ["a"], "age": [1], "bought": ["no"]})


def found(frame, **changes):
    """The places of what is left, in the example's settings with some keys changed."""
    settings = Settings.model_validate(TOML | changes)
    return [where for where, _ in leftovers.found(frame, settings, EXAMPLE / "project/checks.py")]


def test_every_word_of_the_example_is_found_on_other_data():
    """Name, card, slices, limits and checks are each named by file and key; the values are those that are shipped."""
    assert found(OTHER) == [
        "pipeline.toml name",
        "pipeline.toml [model] purpose",
        "pipeline.toml [model] not_for",
        "pipeline.toml [gate] slices",
        "pipeline.toml [gate.limits]",
        "project/checks.py",
    ]


def test_example_has_no_leftovers():
    """On the shipped columns nothing is left over, nor where one of them was dropped."""
    columns = ["id", *sorted(leftovers.COLUMNS)]
    assert found(pd.DataFrame(columns=columns)) == found(pd.DataFrame(columns=columns[:-1])) == []


@pytest.mark.parametrize(
    ("table", "change"),
    [("model", {}), ("gate", TOML["gate"] | {"slices": ["age"], "limits": {"log_loss": 0.4}}), ("name", "customers")],
)
def test_what_is_the_teams_own_is_no_leftover(table, change):
    """Words, slices, limits and a name of the team's own are not pointed out."""
    assert not [
        where for where in found(OTHER, **{table: change}) if f"[{table}" in where or where.endswith(f" {table}")
    ]
    assert leftovers.is_shipped(EXAMPLE / "project/data.py") is False
