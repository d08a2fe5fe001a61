"""A small body costs little, however it is made: work may grow with its length, never with the square of it."""

import json
import time

import pytest

from serving.model.bundle import open_bundle
from serving.model.contract import Input
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


def test_a_long_cell_of_a_csv_takes_no_longer_than_its_length(tmp_path):
    """Digits that end in a letter are refused in linear time: ten times the digits, not a hundred times the work."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract

    def refused(digits):
        line = ",".join(contract.names) + "\n" + "1" * digits + "x,1,1,true\n"
        with pytest.raises(RowError, match="was given, allowed is a number"):
            read_invocation(contract, line.encode(), "text/csv")

    assert _seconds(lambda: refused(4_000)) < 40 * _seconds(lambda: refused(400))


def test_unknown_names_are_compared_with_few_names_of_a_wide_model(tmp_path):
    """The nearest name is looked for among a bounded number: fifty times the inputs is not fifty times the work."""
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


def test_a_mistyped_name_of_a_wide_model_gets_its_nearest(tmp_path):
    """The names that are compared are those that the row lacks: a typing mistake among many inputs is found."""
    names = [f"input_{n:05}" for n in range(2_000)]
    contract = open_bundle(make_wide_bundle(tmp_path / "bundle", names, ["a", "b"])).contract
    row = dict.fromkeys(names, 1.0)
    row["inptu_01234"] = row.pop("input_01234")
    with pytest.raises(RowError) as caught:
        read_row(contract, row)
    assert "feature 'inptu_01234' is unknown; did you mean 'input_01234'?" in [f.detail for f in caught.value.faults]


def test_a_refusal_lists_at_most_twenty_allowed_values(tmp_path):
    """A model with thousands of categories or classes does not answer a small mistake with all of them."""
    column = Input(name="town", type="text", values=[f"town {n}" for n in range(5_000)], example="town 1")
    assert column.allowed.endswith('"town 18", "town 19" and 4980 more')
    classes = [f"class {n}" for n in range(3_000)]
    contract = open_bundle(make_wide_bundle(tmp_path / "bundle", ["x"], classes)).contract
    with pytest.raises(Problem, match="and 2980 more"):
        read_feedback(contract, json.dumps({"request_id": "a", "outcome": "none"}).encode())
