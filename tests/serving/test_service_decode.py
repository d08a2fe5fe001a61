"""Reading bodies in one pass: never another answer than reading them with care."""

import json
import random

import numpy as np
import pytest

from serving.body import Body, check_batch, parse_body
from serving.bundle import open_bundle
from serving.decode import Decoder
from serving.problems import Problem
from serving.rows import RowError, read_row, read_rows
from tests.serving.bundles import KINDS, make_bundle
from tests.serving.random_bodies import random_body

BODIES = 20_000


@pytest.fixture(scope="module", params=KINDS)
def contract(request, tmp_path_factory):
    """The contract of each kind of model in turn."""
    return open_bundle(make_bundle(request.param, tmp_path_factory.mktemp("decode") / "bundle")).contract


def _one_with_care(contract, raw):
    body = parse_body(raw)
    return [read_row(contract, body.features)], body.request_id


def _many_with_care(contract, raw):
    body = parse_body(raw)
    check_batch(body.features)
    return read_rows(contract, body.features), body.request_id


def _as_the_model_gets(contract, row):
    """Texts as they are, numbers in the model's type."""
    return [
        value if column.type == "text" else np.array(value, getattr(contract.form, "dtype", "float64")).tobytes()
        for column, value in zip(contract.inputs, row, strict=True)
    ]


def test_what_is_taken_at_once_is_what_care_takes(contract):
    """Whatever the types of the contract accept, the careful reader accepts with the same values, for one row and for many."""
    decoder, rng = Decoder(contract), random.Random(5)
    example = {column.name: column.example for column in contract.inputs}
    at_once = 0
    for _ in range(BODIES):
        raw = random_body(rng, example)
        for read, rows_of, careful in (
            (decoder.one, lambda body: [decoder.row(body)], _one_with_care),
            (decoder.many, decoder.rows, _many_with_care),
        ):
            try:
                body = read(raw)
            except Problem:
                continue
            if isinstance(body, Body):
                continue  # it was read with care
            at_once += 1
            rows, request_id = careful(contract, raw)
            assert body.request_id == request_id
            for quick, slow in zip(rows_of(body), rows, strict=True):
                assert _as_the_model_gets(contract, quick) == _as_the_model_gets(contract, slow), raw
    assert at_once > BODIES / 100


def test_a_right_body_is_read_at_once(contract):
    """A body as the documents show it needs no second reading, as a list or by name, alone or in a batch."""
    decoder = Decoder(contract)
    named = {column.name: column.example for column in contract.inputs}
    for features in (contract.example, named):
        assert not isinstance(decoder.one(json.dumps({"features": features}).encode()), Body)
        assert not isinstance(decoder.many(json.dumps({"features": [features, named]}).encode()), Body)


@pytest.mark.parametrize("values", [[0.5, 1.5], [True], [], ["a", 1]])
def test_values_that_no_type_can_list_are_read_with_care(tmp_path, values):
    """A list of allowed values beyond texts and whole numbers is judged by the careful reader alone."""
    bundle = make_bundle("binary", tmp_path / "bundle")
    contract = open_bundle(bundle).contract
    first = contract.inputs[0].model_copy(update={"type": "number", "values": values})
    contract = contract.model_copy(update={"inputs": [first, *contract.inputs[1:]]})
    body = json.dumps({"features": [values[0] if values else 0, *contract.example[1:]]}).encode()
    read = Decoder(contract).one(body)
    assert isinstance(read, Body)
    if values == [0.5, 1.5]:
        assert Decoder(contract).row(read)[0] == 0.5
    else:
        with pytest.raises(RowError):
            Decoder(contract).row(read)
