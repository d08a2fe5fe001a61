"""A small body costs little: the work may grow linearly with its length, but not quadratically."""

import json
import time

import pytest

from serving.model.bundle import open_bundle
from serving.model.features import Input
from serving.model.rows import RowError, read_row
from serving.problems import Problem
from serving.requests.feedback import read_feedback
from serving.requests.mlflow_protocol import read_invocation
from tests.serving.bundles import make_bundle, make_wide_bundle


def _seconds(work):
    """Processor time of the fastest of five runs."""
    times = []
    for _ in range(5):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def test_long_csv_cell_takes_linear_time(tmp_path):
    """Digits that end in a letter are refused in linear time: ten times the digits, not a hundred times the work."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract

    def refused(digits):
        line = ",".join(contract.names) + "\n" + "1" * digits + "x,1,1,true\n"
        with pytest.raises(RowError, match="was given, allowed is a number"):
            read_invocation(contract, line.encode(), "text/csv")

    assert _seconds(lambda: refused(4_000)) < 40 * _seconds(lambda: refused(400))


def test_unknown_names_are_compared_with_a_bounded_number(tmp_path):
    """The nearest name is searched among a bounded number: fifty times the inputs is not fifty times the work."""
    few, many = (
        open_bundle(
            make_wide_bundle(tmp_path / f"{width}", [f"input_{n:05}" for n in range(width)], ["a", "b"])
        ).contract
        for width in (40, 2_000)
    )

    def refused(contract):
        with pytest.raises(RowError, match="is missing"):
            read_row(contract, {f"inptu_{n:05}": 1 for n in range(10)})

    assert _seconds(lambda: refused(many)) < 15 * _seconds(lambda: refused(few))


def test_misspelt_name_of_a_wide_model_gets_the_nearest(tmp_path):
    """Only names missing in the row are compared, so a typo among many inputs is found."""
    names = [f"input_{n:05}" for n in range(2_000)]
    contract = open_bundle(make_wide_bundle(tmp_path / "bundle", names, ["a", "b"])).contract
    row = dict.fromkeys(names, 1.0)
    row["inptu_01234"] = row.pop("input_01234")
    with pytest.raises(RowError) as caught:
        read_row(contract, row)
    assert "feature 'inptu_01234' is unknown; did you mean 'input_01234'?" in [f.detail for f in caught.value.faults]


def test_refusal_lists_at_most_twenty_values(tmp_path):
    """For a model with thousands of categories or classes, an error does not list them all."""
    column = Input(name="town", type="text", values=[f"town {n}" for n in range(5_000)], example="town 1")
    assert column.allowed.endswith('"town 18", "town 19" and 4980 more')
    classes = [f"class {n}" for n in range(3_000)]
    contract = open_bundle(make_wide_bundle(tmp_path / "bundle", ["x"], classes)).contract
    with pytest.raises(Problem, match="and 2980 more"):
        read_feedback(contract, json.dumps({"request_id": "a", "outcome": "none"}).encode())
