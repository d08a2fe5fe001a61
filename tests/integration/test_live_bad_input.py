"""What a client gets wrong is refused with words, and named."""

import json

import pytest

COLUMNS = 20  # features that are tried; a wide model must not make this slow


@pytest.fixture(scope="module")
def columns(contract):
    """The features that are tried."""
    return contract["inputs"][:COLUMNS]


def _raw(features):
    """A body with NaN and Infinity, which JSON does not have but clients send."""
    return json.dumps({"features": features}).encode()


def test_a_missing_feature_is_named(refused, columns, example):
    """Leaving out any feature answers 422 with its name."""
    for column in columns:
        rest = {name: value for name, value in example.items() if name != column["name"]}
        problem = refused(422, json={"features": rest})
        assert problem["errors"][0]["feature"] == column["name"]
        assert repr(column["name"]) in problem["detail"]


def test_an_unknown_feature_is_named(refused, example):
    """A feature that the contract does not have answers 422 with its name."""
    problem = refused(422, json={"features": {**example, "no such feature": 1}})
    assert problem["errors"][0]["feature"] == "no such feature"


def test_a_list_of_the_wrong_length_is_refused(refused, contract):
    """One value too few names the feature that is missing, one too many is refused as well."""
    row = [column["example"] for column in contract["inputs"]]
    assert refused(422, json={"features": row[:-1]})["errors"][0]["feature"] == contract["inputs"][-1]["name"]
    refused(422, json={"features": [*row, 1]})


def test_a_wrong_type_is_named(refused, columns, example):
    """A list, an object, or a text for a number (a number for a text) answers 422 with the feature's name."""
    for column in columns:
        other = 1.5 if column["type"] == "text" else "text"
        for wrong in ([], {}, other):
            problem = refused(422, json={"features": {**example, column["name"]: wrong}})
            assert problem["errors"][0]["feature"] == column["name"]


def test_true_is_not_a_number(refused, columns, example):
    """true for a number or a whole number answers 422."""
    for column in columns:
        if column["type"] in ("number", "integer"):
            problem = refused(422, json={"features": {**example, column["name"]: True}})
            assert problem["errors"][0]["feature"] == column["name"]


def test_out_of_range_is_named(refused, columns, example):
    """A number beyond a declared limit answers 422 with the feature's name and the limit."""
    for column in columns:
        for key, step in (("minimum", -1), ("maximum", 1)):
            if column[key] is not None:
                problem = refused(422, json={"features": {**example, column["name"]: column[key] + step}})
                assert problem["errors"][0]["feature"] == column["name"]
                assert f"{column[key]:.12g}" in problem["detail"]


def test_null_is_taken_only_where_the_contract_says_so(refused, client, columns, example):
    """null answers 200 for a nullable feature and 422 with the name for any other."""
    for column in columns:
        body = {"features": {**example, column["name"]: None}}
        if column["nullable"]:
            assert client("POST", "/predict", json=body).status_code == 200
        else:
            assert refused(422, json=body)["errors"][0]["feature"] == column["name"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 10**400])
def test_what_is_not_finite_is_named(refused, columns, example, value):
    """NaN, infinity, and a number too large for the model answer 422 with the feature's name."""
    for column in columns[:5]:
        problem = refused(422, data=_raw({**example, column["name"]: value}))
        assert problem["errors"][0]["feature"] == column["name"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b'{"features": [1,]}', b"[" * 50_000])
def test_what_is_not_json_is_refused(refused, body):
    """A body that is not JSON answers 400."""
    refused(400, data=body)


@pytest.mark.parametrize("body", [[], 1, None, "features", {}, {"features": None}, {"features": 1}])
def test_json_of_another_shape_is_refused(refused, body):
    """JSON that holds no row answers 422."""
    refused(422, data=json.dumps(body).encode())


def test_one_wrong_row_in_a_batch_is_named(client, golden):
    """A batch with one wrong row answers 422 with the number of that row."""
    rows = [*golden["inputs"][:3], []]
    response = client("POST", "/predict/batch", json={"features": rows})
    assert response.status_code == 422
    assert response.json()["errors"][0]["row"] == 3


@pytest.mark.parametrize(("rows", "words"), [(0, "0 rows"), (10_001, "10001 rows")])
def test_a_batch_has_one_to_ten_thousand_rows(client, rows, words):
    """An empty batch and one of more than 10,000 rows answer 422."""
    response = client("POST", "/predict/batch", json={"features": [[]] * rows})
    assert response.status_code == 422
    assert words in response.json()["detail"]


def test_a_body_over_five_megabytes_is_refused(refused):
    """A larger body answers 413."""
    refused(413, data=b" " * 5_000_001)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/predict", 405)])
def test_a_wrong_address_is_a_problem_too(client, method, path, status):
    """404 and 405 have the same shape as every other refusal."""
    response = client(method, path)
    assert response.status_code == response.json()["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
