"""Exclusive bounds: a number that must be above 0 is never 0, in the decoder, the careful reader and the document."""

import json

import msgspec
import pytest

from serving.http.schemas import plain
from serving.model.contract import Contract
from serving.model.features import Input
from serving.model.rows import RowError, read_row
from serving.requests.body import Body
from serving.requests.decoder import Decoder

# Bounds, their wording, allowed values, refused values.
BOUNDS = [
    ({"exclusive_minimum": 0}, "above 0", [1, 1e-300], [0, 0.0, -1]),
    ({"exclusive_maximum": 10}, "below 10", [9, -1e9], [10, 11]),
    ({"exclusive_minimum": 0, "maximum": 10}, "above 0 and at most 10", [1, 10], [0, 11]),
    ({"maximum": 10}, "of at most 10", [10, -1], [11]),
    ({"minimum": 0, "exclusive_maximum": 10}, "of at least 0 and below 10", [0, 9], [10, -1]),
    ({"exclusive_minimum": 0, "exclusive_maximum": 10}, "above 0 and below 10", [1, 9], [0, 10]),
    ({"minimum": 0, "maximum": 10}, "from 0 to 10", [0, 10], [-1, 11]),
    ({}, "", [-1, 0], []),
]


def contract(kind, bounds):
    """A contract of one number with these bounds."""
    onnx = {"layout": "matrix", "dtype": "float64", "label": "value"}
    column = {"name": "a", "type": kind, "example": 5, **bounds}
    rest = {"schema": 1, "name": "m", "task": "regression", "format": "onnx", "target": "t"}
    return msgspec.convert(rest | {"inputs": [column], "onnx": onnx}, Contract)


def taken_at_once(made, value):
    """Whether the decoder's types accept it, so that the careful reader is not needed."""
    body = Decoder(made).one(json.dumps({"features": [value]}).encode())
    return not isinstance(body, Body)


def taken_with_care(made, value):
    """Whether the careful reader accepts it."""
    try:
        read_row(made, [value])
    except RowError:
        return False
    return True


def documented(made):
    """The schema of the contract's number."""
    return plain(msgspec.json.schema(made.inputs[0].kind(made.largest)))


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize(("bounds", "words", "inside", "outside"), BOUNDS)
def test_exclusive_bound_is_refused(kind, bounds, words, inside, outside):
    """Both readers accept values inside and refuse the exclusive bound itself; the message says which kind of bound it is."""
    made = contract(kind, bounds)
    inside = [value for value in inside if kind == "number" or value == int(value)]
    for value in inside:
        assert taken_at_once(made, value) and taken_with_care(made, value), value
    for value in outside:
        assert not taken_at_once(made, value) and not taken_with_care(made, value), value
    noun = {"number": "a number", "integer": "a whole number"}[kind]
    assert made.inputs[0].allowed == f"{noun} {words}".rstrip()


@pytest.mark.parametrize(("bounds", "words", "inside", "outside"), BOUNDS)
def test_exclusive_bound_is_documented(bounds, words, inside, outside):
    """The document has exclusiveMinimum or exclusiveMaximum for it, and nothing else."""
    made = contract("number", bounds)
    schema = documented(made)
    for low, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        asked = bounds.get(f"exclusive_{low}")
        assert (strict in schema, low in schema) == (asked is not None, asked is None)
        assert asked is None or schema[strict] == asked


def test_tighter_of_two_bounds_counts():
    """Of an inclusive and an exclusive bound on one side, the tighter one is documented and enforced."""
    made = contract("number", {"minimum": 1, "exclusive_minimum": 0})
    assert documented(made)["minimum"] == 1
    assert taken_at_once(made, 1) and not taken_at_once(made, 0.5)
    assert made.inputs[0].allowed == "a number of at least 1"


def test_older_contract_has_no_exclusive_bounds():
    """A contract from before exclusive bounds is read as before."""
    made = msgspec.json.decode(b'{"name": "a", "type": "number", "minimum": 0, "example": 1}', type=Input)
    assert (made.exclusive_minimum, made.read(0, 1e38)) == (None, 0.0)
