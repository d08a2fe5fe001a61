"""Fast decoding of bodies in one pass gives the same result as the careful reader."""

import contextlib
import json
import random

import msgspec
import numpy as np
import pytest
from msgspec.structs import force_setattr

from serving.model.bundle import open_bundle
from serving.model.rows import RowError, read_row, read_rows
from serving.problems import Problem
from serving.requests import decoder as decode
from serving.requests.body import Body, check_batch, parse_body
from serving.requests.decoder import Decoder
from serving.requests.mlflow_protocol import FORMS, read_invocation
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
    """Texts unchanged, numbers in the model's type."""
    return [
        value if column.type == "text" else np.array(value, getattr(contract.form, "dtype", "float64")).tobytes()
        for column, value in zip(contract.inputs, row, strict=True)
    ]


def test_fast_decoding_agrees_with_the_careful_reader(contract):
    """Whatever the decoder's types accept, the careful reader accepts with the same values, for one row and for many."""
    decoder, rng = Decoder(contract), random.Random(5)
    example = {column.name: column.example for column in contract.inputs}
    at_once = {"one": 0, "many": 0}
    for number in range(BODIES):
        raw = random_body(rng, example, ("/predict", "/predict/batch")[number % 2])
        with contextlib.suppress(Problem):
            body = decoder.one(raw)
            if not isinstance(body, Body):
                at_once["one"] += 1
                _same(contract, raw, ([decoder.row(body)], body.request_id), _one_with_care(contract, raw))
                _same_as_written(contract, decoder.written(body, raw), [decoder.row(body)])
        with contextlib.suppress(Problem):
            body = decoder.many(raw)
            if body.checked:
                at_once["many"] += 1
                _same(contract, raw, (decoder.rows(body), body.request_id), _many_with_care(contract, raw))
                _same_as_written(contract, body.written, decoder.rows(body))
    assert min(at_once.values()) > BODIES / 200


def test_fast_decoding_of_mlflow_agrees_with_the_careful_reader(contract, monkeypatch):
    """The same for each JSON form of MLflow's protocol."""
    careful = []
    monkeypatch.setattr(decode, "read_invocation", lambda *args: careful.append(args) or [])
    decoder, rng = Decoder(contract), random.Random(6)
    example = {column.name: column.example for column in contract.inputs}
    forms = set()
    for _ in range(BODIES):
        raw = random_body(rng, example, "/invocations")
        careful.clear()
        with contextlib.suppress(Problem):
            rows, written = decoder.invocation(raw, "application/json")
            if not careful:
                forms |= json.loads(raw).keys()
                _same(contract, raw, (rows, None), (read_invocation(contract, raw, "application/json"), None))
                _same_as_written(contract, written, rows)
    assert forms == set(FORMS)


def _same(contract, raw, at_once, careful):
    (quick, one), (slow, other) = at_once, careful
    assert one == other
    for left, right in zip(quick, slow, strict=True):
        assert _as_the_model_gets(contract, left) == _as_the_model_gets(contract, right), raw


def _same_as_written(contract, written, rows):
    """Assert that the rows logged as received are the rows that the model got."""
    if written:
        for left, right in zip(json.loads(written), rows, strict=True):
            assert _as_the_model_gets(contract, left) == _as_the_model_gets(contract, right), written


def test_logged_rows_are_the_rows_that_the_model_got(contract):
    """Whatever a caller sends and however it is written down: read from the log again, it gives the model the same values."""
    decoder, rng = Decoder(contract), random.Random(7)
    example = {column.name: column.example for column in contract.inputs}
    encode, read = msgspec.json.Encoder().encode, 0
    for number in range(BODIES // 4):
        raw = random_body(rng, example, ("/predict", "/predict/batch")[number % 2])
        with contextlib.suppress(Problem, RowError):
            if number % 2:
                body = decoder.many(raw)
                rows, written = decoder.rows(body), body.written
            else:
                body = decoder.one(raw)
                rows, written = [decoder.row(body)], decoder.written(body, raw)
            for features in {encode(rows), written or encode(rows)}:
                for left, right in zip(decoder.logged(features), rows, strict=True):
                    assert _as_the_model_gets(contract, left) == _as_the_model_gets(contract, right), features
                read += 1
    assert read > BODIES / 100


@pytest.mark.parametrize("features", [b"[[1]]", b"[{}]", b"{}", b"7", b"[", b"\xff", b'["a"]'])
def test_logged_features_of_another_model_are_refused(contract, features):
    """What this contract does not take raises RowError, so that it is never answered by chance."""
    with pytest.raises(RowError):
        Decoder(contract).logged(features)


def test_valid_body_is_decoded_fast(contract):
    """A body as in the documentation needs no second pass, as a list or by name, alone or in a batch."""
    decoder = Decoder(contract)
    named = {column.name: column.example for column in contract.inputs}
    for features in (contract.example, named):
        assert not isinstance(decoder.one(json.dumps({"features": features}).encode()), Body)
        assert decoder.many(json.dumps({"features": [features, named]}).encode()).checked


@pytest.mark.parametrize(
    "more",
    [
        b', "request_id": "a]", "request_id": null',
        b', "request_id": "[a", "request_id": null',
        b', "features": %b',
        b', "request_id": "a"',
        b', "subject": "[]"',
    ],
)
def test_raw_row_is_logged_only_if_unambiguous(tmp_path, more):
    """Brackets elsewhere in a body, also in a value that a later key overrides, are not taken for those of the row."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract
    decoder, row = Decoder(contract), json.dumps(contract.example).encode()
    plain = b'{"features": ' + row + b"}"
    assert json.loads(decoder.written(decoder.one(plain), plain)) == [contract.example]
    raw = b'{"features": ' + row + more.replace(b"%b", row) + b"}"
    body = decoder.one(raw)
    assert decoder.row(body) and decoder.written(body, raw) == b""


@pytest.mark.parametrize("values", [[0.5, 1.5], [True], [], ["a", 1]])
def test_other_allowed_values_are_read_carefully(tmp_path, values):
    """Allowed values other than texts and integers are checked by the careful reader alone."""
    bundle = make_bundle("binary", tmp_path / "bundle")
    contract = open_bundle(bundle).contract
    force_setattr(contract.inputs[0], "type", "number")
    force_setattr(contract.inputs[0], "values", values)
    body = json.dumps({"features": [values[0] if values else 0, *contract.example[1:]]}).encode()
    read = Decoder(contract).one(body)
    assert isinstance(read, Body)
    if values == [0.5, 1.5]:
        assert Decoder(contract).row(read)[0] == 0.5
    else:
        with pytest.raises(RowError):
            Decoder(contract).row(read)
