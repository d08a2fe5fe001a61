"""Numbers and dates written as text: recognised, and the remedy that is named reads them."""

import io
import re

import pandas as pd
import pytest

from pipeline.data.written_values import recognise

NUMBERS = {
    "decimal comma": (["1,5", "-0,25", "12"], 'decimal=","', [1.5, -0.25, 12]),
    "German thousands": (["1.234,56", "12,3"], 'decimal=",", thousands="."', [1234.56, 12.3]),
    "German thousands alone": (["1.234.567", "2.000"], 'decimal=",", thousands="."', [1234567, 2000]),
    "English thousands": (["1,234.56", "12.3"], 'thousands=","', [1234.56, 12.3]),
    "spaces": (["1 234", "12"], 'thousands=" "', [1234, 12]),
    "spaces and commas": (["1 234,5", "12"], 'decimal=",", thousands=" "', [1234.5, 12]),
    "Swiss thousands": (["1'234.5", "12"], 'thousands="\'"', [1234.5, 12]),
    "one in ten is no number": (["1,5"] * 19 + ["n. b."], 'decimal=","', None),
}
BY_HAND = {
    "narrow spaces": (["1\u202f234,5", "12"], "decimal commas", [1234.5, 12]),
    "currency before": (["€ 12.50", "€3", "-$4"], "€", [12.5, 3, -4]),
    "currency after": (["1.000,50 EUR", "12,5 EUR"], "EUR", [1000.5, 12.5]),
    "per cent": (["12 %", "3.5%"], "%", [12, 3.5]),
}
TEXT = ["Bonn", "<=50K", "10-12", "1.5 l", "1.2.3", "192.168.0.1", "030 123 456", "12:30", "A1,5", "", "?", "38/40"]


def read(values, **arguments):
    """The values after a trip through a file, as pandas reads it."""
    file = io.StringIO()
    pd.DataFrame({"x": values, "y": 1}).to_csv(file, sep=";", index=False)
    return pd.read_csv(io.StringIO(file.getvalue()), sep=";", **arguments)


@pytest.mark.parametrize("case", NUMBERS)
def test_argument_reads_the_numbers(case):
    """Text that pandas could have read as numbers gets the exact arguments, and with them it becomes those numbers."""
    values, arguments, numbers = NUMBERS[case]
    found = recognise("x", read(values)["x"])
    assert found.remedy == f"add {arguments} to pd.read_csv"
    assert numbers is None or read(values, **eval(f"dict({arguments})"))["x"].tolist() == numbers


@pytest.mark.parametrize("case", BY_HAND)
def test_line_turns_text_into_numbers(case):
    """Where no argument helps, the line for load() is given, and it gives these numbers."""
    values, what, numbers = BY_HAND[case]
    frame = read(values)
    found = recognise("x", frame["x"])
    assert what in found.what and found.remedy.startswith("in load(): ")
    exec(found.remedy.removeprefix("in load(): "), {"pd": pd, "frame": frame})
    assert frame["x"].tolist() == numbers


def test_comma_that_may_be_either_is_left_to_the_reader():
    """Three digits behind every comma may be decimals or thousands: both arguments are named."""
    found = recognise("x", pd.Series(["1,234", "22,345"]))
    assert 'decimal="," or thousands=","' in found.remedy and "'1,234' may be" in found.what
    assert recognise("x", pd.Series(["0,125", "0,250"])).remedy == 'add decimal="," to pd.read_csv'


@pytest.mark.parametrize(
    ("values", "what", "argument"),
    [
        (["2024-01-02", "2023-12-31"], "dates", "parse_dates=['x'] to"),
        (["2024-01-02 12:00", "2023-12-31T08:15:00"], "dates", "parse_dates=['x'] to"),
        (["31.12.2024", "1.2.2024"], "dates that begin with the day", "parse_dates=['x'], dayfirst=True to"),
        (["31/12/2024", "1/2/2024"], "dates that begin with the day", "parse_dates=['x'], dayfirst=True to"),
        (["12/31/2024", "1/2/2024"], "dates that begin with the month", "parse_dates=['x'] to"),
        (["1/2/2024", "2/3/2024"], "may begin with the day or the month", "with dayfirst=True if it is the day"),
    ],
)
def test_dates_are_recognised(values, what, argument):
    """Dates are named with the argument that reads them, and with the line that makes a number of them."""
    found = recognise("x", pd.Series(values))
    assert what in found.what and argument in found.remedy
    frame = pd.DataFrame({"x": pd.to_datetime(pd.Series(values), dayfirst="dayfirst" in argument, format="mixed")})
    exec(re.search(r"frame\['x'\] = .*?\.dt\.days", found.remedy)[0], {"pd": pd, "frame": frame})
    assert frame["x"].dtype.kind == "i"


@pytest.mark.parametrize("text", TEXT)
def test_text_stays_text(text):
    """Words, ranges, sizes, versions and telephone numbers are no numbers."""
    assert recognise("x", pd.Series([text] * 5)) is None
