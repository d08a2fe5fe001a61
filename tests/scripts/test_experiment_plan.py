"""make experiment-plan: days and subjects for a difference that somebody names."""

import json

import pytest

from scripts.experiment_plan import main

ASKED = ["--from", "0.10", "--to", "0.12", "--per-day", "2000", "--share", "0.5"]


def test_a_table_says_days_and_subjects(capsys):
    """A line for each way of deciding."""
    assert main(ASKED) == 0
    out = capsys.readouterr().out
    assert out.startswith("from 0.1 to 0.12, 2,000 subjects a day, 50% of them B's:")
    assert [line.split("  ")[1] for line in out.splitlines()[2:]] == [
        "one look at the end, 80% power", "one look at the end, 90% power",
        "looked at each day, median", "looked at each day, 80% power", "looked at each day, 90% power",
    ]  # fmt: skip


def test_json_has_the_same_figures(capsys):
    """All of them, with what was asked."""
    assert main([*ASKED, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_day"] == 2000 and [row["method"] for row in found["rows"]] == ["fixed"] * 2 + ["sequence"] * 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--from", "0.1"], "TO is missing"),
        ([*ASKED, "--share", "half"], "SHARE is 'half'; it must be a number"),
        ([*ASKED, "--share", "1"], "the share is 1; it must be above 0 and below 1"),
        ([*ASKED, "--to", "0.1"], "both means are 0.1: there is no difference to find"),
        ([*ASKED, "--to", "12"], "other means need a standard deviation"),
        ([*ASKED, "--to", "nan"], "all values must be finite numbers"),
        ([*ASKED, "--per-day", "0"], "allowed are 2 to 1e12"),
        ([*ASKED, "--deviation", "-1"], "the standard deviation is -1; it must be above 0"),
    ],
)
def test_bad_input_is_refused_in_words(capsys, given, said):
    """One line says what is wrong, the next one how it is written."""
    assert main(given) == 1
    what, then = capsys.readouterr().err.splitlines()
    assert said in what and "make experiment-plan FROM=0.10" in then


def test_what_would_take_years_is_said_so(capsys):
    """A small difference with few subjects."""
    assert main(["--from", "0.10", "--to", "0.101", "--per-day", "100"]) == 0
    assert capsys.readouterr().out.count("more than 365 days") == 5
