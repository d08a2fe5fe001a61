"""Every invalid input is refused with a message that names the feature, never with a 500."""

import json
import socket
import time

import pytest

from tests.serving.bundles import graph_that_reads_numbers, make_bundle
from tests.serving.service import serving

ROW = {"mass": 12.5, "tilt": -0.5, "doors": 4, "sold": True}
VISIT = {"age": 30.5, "colour": "red", "note": "red"}


def _problem(response, status):
    """The problem details of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(problem)
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


def _connection(service):
    """A connection for arbitrary bytes."""
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 10)


def _feature(response, name, detail):
    """Assert a 422 for one wrong feature, with its name and this message."""
    problem = _problem(response, 422)
    assert problem["errors"][0]["feature"] == name
    assert problem["detail"] == detail


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("mass", "12.5", '"12.5" was given, allowed is a number from 0 to 100'),
        ("mass", True, "true was given, allowed is a number from 0 to 100"),
        ("mass", None, "null was given, allowed is a number from 0 to 100"),
        ("mass", [1], "a list was given, allowed is a number from 0 to 100"),
        ("mass", {"a": 1}, "an object was given, allowed is a number from 0 to 100"),
        ("mass", -0.001, "-0.001 was given, allowed is a number from 0 to 100"),
        ("mass", 100.001, "100.001 was given, allowed is a number from 0 to 100"),
        ("tilt", False, "false was given, allowed is a number"),
        ("tilt", 1e39, "1e+39 was given, allowed is a number, finite and at most 3.4e+38 in size"),
        ("doors", 3.5, "3.5 was given, allowed is a whole number from 0 to 10"),
        ("doors", True, "true was given, allowed is a whole number from 0 to 10"),
        ("doors", 11, "11 was given, allowed is a whole number from 0 to 10"),
        ("sold", "yes", '"yes" was given, allowed is true or false'),
        ("sold", 2, "2 was given, allowed is true or false"),
        ("sold", 0.5, "0.5 was given, allowed is true or false"),
        ("sold", None, "null was given, allowed is true or false"),
        ("mass", "x" * 500, '"' + "x" * 58 + "… was given, allowed is a number from 0 to 100"),
    ],
)
def test_wrong_value_is_named(binary, feature, value, words):
    """The message has the feature, the given value and the allowed values."""
    _feature(binary.predict({**ROW, feature: value}), feature, f"feature {feature!r}: {words}")
    place = list(ROW).index(feature)
    row = [*ROW.values()]
    row[place] = value
    _feature(binary.predict(row), feature, f"feature {feature!r}: {words}")


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("age", -1, "-1 was given, allowed is a number from 0 to 120 or null"),
        ("age", "", '"" was given, allowed is a number from 0 to 120 or null'),
        ("colour", "pink", '"pink" was given, allowed is one of "red", "green", "blue"'),
        ("colour", "", '"" was given, allowed is one of "red", "green", "blue"'),
        ("colour", None, 'null was given, allowed is one of "red", "green", "blue"'),
        ("note", 3, "3 was given, allowed is a text or null"),
        ("note", False, "false was given, allowed is a text or null"),
        ("note", "\ud800", '"\\ud800" was given, allowed is a text or null'),
    ],
)
def test_wrong_text_is_named(columns, feature, value, words):
    """Declared values, types, and text that UTF-8 cannot encode."""
    _feature(columns.predict({**VISIT, feature: value}), feature, f"feature {feature!r}: {words}")


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("sepal length (cm)", -11, "-11 was given, allowed is a number of at least -10"),
        ("größe", 21, "21 was given, allowed is a number of at most 20"),
    ],
)
def test_single_limit_is_enforced(multiclass, feature, value, words):
    """A minimum without a maximum, and the reverse."""
    _feature(multiclass.predict({**multiclass.example, feature: value}), feature, f"feature {feature!r}: {words}")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize("feature", ["mass", "tilt", "doors", "sold"])
def test_non_finite_numbers_are_named(binary, feature, value):
    """NaN, infinity and numbers of four hundred digits are refused with the feature's name."""
    body = json.dumps({"features": {**ROW, feature: "HERE"}}).replace('"HERE"', value)
    problem = _problem(binary.post("/predict", data=body.encode()), 422)
    assert problem["errors"][0]["feature"] == feature


def test_missing_features_are_named(binary):
    """Every missing feature is listed."""
    problem = _problem(binary.predict({"mass": 1, "sold": True}), 422)
    assert problem["detail"] == "feature 'tilt' is missing (and 1 more)"
    assert [error["feature"] for error in problem["errors"]] == ["tilt", "doors"]


def test_unknown_feature_gets_a_suggestion(binary):
    """The message for a misspelt name suggests the right one."""
    problem = _problem(binary.predict({**ROW, "doorz": 1}), 422)
    assert problem["errors"] == [{"feature": "doorz", "detail": "feature 'doorz' is unknown; did you mean 'doors'?"}]


def test_thousand_unknown_features_give_a_short_response(binary):
    """The size of an error does not grow with the faults of the request."""
    response = binary.predict({**ROW, **{f"{'x' * 500}{i}": i for i in range(100)}})
    assert len(_problem(response, 422)["errors"]) == 10
    assert len(response.content) < 10_000


def test_all_wrong_values_are_named(binary):
    """One response lists all wrong features."""
    problem = _problem(binary.predict({**ROW, "mass": -1, "doors": 3.5}), 422)
    assert [error["feature"] for error in problem["errors"]] == ["mass", "doors"]
    assert problem["detail"].endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("row", "feature", "detail"),
    [
        ([], "mass", "0 values were given, 4 are needed: feature 'mass' is missing"),
        ([1, 2, 3], "sold", "3 values were given, 4 are needed: feature 'sold' is missing"),
        ([1, 2, 3, True, 5], "sold", "5 values were given, 4 are needed: feature 'sold' is the last"),
    ],
)
def test_list_of_wrong_length_is_refused(binary, row, feature, detail):
    """The message has both lengths, and the feature where the list ends too early or should end."""
    _feature(binary.predict(row), feature, detail)


@pytest.mark.parametrize("features", [None, 1, "text", True, 1.5])
def test_features_are_a_list_or_an_object(binary, features):
    """Anything else is refused, and the message says what was given."""
    detail = _problem(binary.predict(features), 422)["detail"]
    assert detail == f"a row is a list or an object of features, not {json.dumps(features)}"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], 'the body must be an object like {"features": …}, not a list'),
        (None, 'the body must be an object like {"features": …}, not null'),
        ({}, "the body has no 'features'"),
        ({"feature": [1]}, "the body has no 'features'"),
        (
            {"features": [], "id": 1},
            'the body has an unknown field "id"; it takes features, request_id, subject',
        ),
        (
            {"features": [], "request_id": 7},
            "request_id is 7, allowed are 1 to 128 visible ASCII characters",
        ),
        (
            {"features": [], "request_id": "a\nb"},
            'request_id is "a\\nb", allowed are 1 to 128 visible ASCII characters',
        ),
        (
            {"features": [], "request_id": ""},
            'request_id is "", allowed are 1 to 128 visible ASCII characters',
        ),
        (
            {"features": [], "request_id": "ä"},
            'request_id is "\\u00e4", allowed are 1 to 128 visible ASCII characters',
        ),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_body_of_wrong_shape_is_refused(binary, path, body, detail):
    """The body's own fields are checked before the rows."""
    told = _problem(binary.post(path, data=json.dumps(body).encode()), 422)["detail"]
    assert told.removesuffix(", explain") == detail  # a field that one row alone may have


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{'features': []}",
        b'{"features": [1,]}',
        b'{"features": []} x',
        b"\xff",
        b'{"features": ["\xe4"]}',
        b"[" * 60_000,
        b'{"a":' * 12_000,
        b'{"features": [' + b"9" * 5_000 + b"]}",
        b"\x00\x01\x02",
    ],
    ids=lambda body: repr(body[:12]),
)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_invalid_json_is_refused(binary, path, body):
    """400 with the position, whatever the bytes are."""
    assert "not JSON" in _problem(binary.post(path, data=body), 400)["detail"]


@pytest.mark.parametrize(
    ("features", "detail"),
    [
        ([], "0 rows were given, allowed are 1 to 10000"),
        ([[]] * 10_001, "10001 rows were given, allowed are 1 to 10000"),
        ({"mass": 1}, "features must be a list of rows, not an object"),
        (None, "features must be a list of rows, not null"),
    ],
)
def test_batch_has_1_to_10000_rows(binary, features, detail):
    """An empty batch, a larger one, and one that is not a list are refused."""
    assert _problem(binary.post("/predict/batch", {"features": features}), 422)["detail"] == detail


def test_one_wrong_row_refuses_the_batch(binary):
    """The first wrong row is named by its number, counting from 0, and nothing is predicted."""
    rows = [ROW, [*ROW.values()], {**ROW, "doors": 99}, {**ROW, "mass": -1}]
    problem = _problem(binary.post("/predict/batch", {"features": rows}), 422)
    assert problem["detail"] == "row 2: feature 'doors': 99 was given, allowed is a whole number from 0 to 10"
    assert problem["errors"] == [{"feature": "doors", "detail": problem["detail"], "row": 2}]


@pytest.mark.parametrize("row", [1, None, "row"])
def test_batch_row_is_a_list_or_an_object(binary, row):
    """A flat list of values is the usual mistake: its first value is not a row."""
    problem = _problem(binary.post("/predict/batch", {"features": [row]}), 422)
    assert problem["detail"].startswith("row 0: a row is a list or an object of features")


def test_values_without_a_finite_answer_are_refused(regression):
    """Each value is finite but the answer is not: 422 with the row, because JSON has no infinity."""
    huge = [20, 1.7e308]
    words = "the model has no finite answer for these values"
    assert _problem(regression.predict(huge), 422)["detail"] == words
    problem = _problem(regression.post("/predict/batch", {"features": [[1, 1], huge]}), 422)
    assert problem["errors"] == [{"detail": words, "row": 1}]


@pytest.mark.parametrize(
    ("path", "start", "end", "most", "words"),
    [
        (
            *("/predict", b'{"features": [12.5, -0.5, 4, true', b"]}", 65_536),
            "the body may have at most 65536 bytes for one row; /predict/batch takes 5000000 bytes, one row or many",
        ),
        (
            *("/predict/batch", b'{"features": [[12.5, -0.5, 4, true', b"]]}", 5_000_000),
            "the body may have at most 5000000 bytes; send fewer rows at once",
        ),
        (
            *("/invocations", b'{"instances": [[12.5, -0.5, 4, true', b"]]}", 5_000_000),
            "the body may have at most 5000000 bytes; send fewer rows at once",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_body_over_the_path_s_limit_is_refused(binary, path, start, end, most, words):
    """A body of the maximum size is read; one more byte is refused before parsing, with advice."""
    headers = {"Content-Type": "application/json"}
    largest = start + b" " * (most - len(start) - len(end)) + end
    assert binary.post(path, data=largest, headers=headers).status_code == 200
    assert _problem(binary.post(path, data=largest + b" ", headers=headers), 413)["detail"] == words


def test_chunked_body_over_five_megabytes_is_refused(binary):
    """A body without a declared length is counted as it arrives."""
    chunks = (b" " * 100_000 for _ in range(51))
    _problem(binary.post("/predict", data=chunks), 413)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/nothing",
            "/predict/nothing/",
            "/predict/batch/x",
            "//",
            "/%00",
            "/%ff",
            "/" + "x" * 5000,
            "/PREDICT",
            "/predict%20",
        ),
        *("/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/docs/../../etc/passwd", "/static/%5c..%5cx"),
    ],
)
def test_unknown_path_is_a_problem(binary, path):
    """404 in the same format as every refusal."""
    assert "there is no /" in _problem(binary.get(path), 404)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict/batch", "POST"),
        ("DELETE", "/health", "GET, HEAD"),
        ("OPTIONS", "/predict", "POST"),
        ("HEAD", "/predict", "POST"),
        ("TRACE", "/invocations", "POST"),
        ("QUERY", "/predict", "POST"),
        ("OPTIONS", "/health", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PATCH", "/predict", "POST"),
    ],
)
def test_wrong_method_is_a_problem(binary, method, path, allowed):
    """The 405 says which method the path takes."""
    response = binary.session.request(method, binary.url + path, timeout=10)
    assert response.headers["allow"] == allowed
    if method == "HEAD":
        assert (response.status_code, response.content) == (405, b"")
    else:
        _problem(response, 405)


@pytest.mark.parametrize("query", ["?", "?features=1", "?a=%00&a=%ff", "?" + "q" * 5000, "?x=../../etc/passwd"])
def test_query_is_ignored(binary, query):
    """No path has query parameters: a query changes nothing."""
    assert binary.post("/predict" + query, {"features": ROW}).json()["label"] == binary.predict(ROW).json()["label"]
    assert binary.get("/health" + query).json()["status"] == "ok"


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "a", "text/csv2", "\xff"])
def test_unsupported_media_type_is_refused(binary, content_type):
    """/invocations returns a 415 that names the supported types."""
    headers = {"Content-Type": content_type.encode("latin-1")}
    detail = _problem(binary.post("/invocations", data=b'{"instances": []}', headers=headers), 415)["detail"]
    assert detail.endswith("is not read here; send application/json or text/csv")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET http://elsewhere/health HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"no request at all\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
    ids=lambda value: str(value[:30]),
)
def test_arbitrary_bytes_are_answered(binary, raw, status):
    """What is not HTTP gets 400, what is gets its response, and neither reveals internals."""
    with _connection(binary) as connection:
        connection.sendall(raw)
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert b"Traceback" not in answer and b".py" not in answer


@pytest.mark.parametrize("outcome", [10**30, 1.7e308, -(2**70), 3])
def test_huge_outcome_is_stored(tmp_path, outcome):
    """Feedback takes any finite number, also an integer of more than 64 bits."""
    bundle = make_bundle("regression", tmp_path / "bundle")
    with serving(bundle, SLIPWAY_DATABASE_URL=f"sqlite:///{tmp_path}/log.db") as service:
        answer = service.post("/feedback", {"request_id": "a", "outcome": outcome})
        assert (answer.status_code, answer.json()["outcome"]) == (200, outcome), answer.text


def test_client_disconnect_is_not_a_server_error(binary):
    """A connection that ends in the middle of a body is counted as 499, and the next client is served."""
    with _connection(binary) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    deadline = time.monotonic() + 10
    while 'path="/predict",status="499"' not in binary.get("/metrics").text:
        assert time.monotonic() < deadline, "the service did not notice that the client left"
    assert binary.predict(ROW).status_code == 200


def test_declared_length_over_five_megabytes_is_refused_early(binary):
    """A too large Content-Length is refused before any byte of the body is sent."""
    with _connection(binary) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000001\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_graph_failure_is_a_client_error(tmp_path):
    """A graph may raise on a text that it cannot parse: the fault is the client's value, not the server's."""
    folder = make_bundle("columns", tmp_path / "bundle")
    graph_that_reads_numbers(folder)
    with serving(folder) as service:
        assert service.predict({**VISIT, "note": "2.5"}).json()["probabilities"]["stayed"] > 0.9
        problem = _problem(service.predict({**VISIT, "note": "no number"}), 422)
        assert problem["detail"] == "the model has no finite answer for these values"


@pytest.mark.parametrize("row", [list, dict], ids=["list", "map"])
def test_number_is_read_as_the_nearest_double(binary, row):
    """Digits beyond a double's precision do not matter: in a list and in a map, with the limit 100, this number is 100."""
    written = json.dumps({"features": row(ROW.items()) if row is dict else list(ROW.values())})
    for mass, status in (("100.00000000000000000001", 200), ("100.0000000000001", 422), ("1" + "0" * 400, 422)):
        answer = binary.post("/predict", data=written.replace("12.5", mass))
        assert answer.status_code == status, answer.text


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_integer_is_read_as_the_nearest_double(binary, path):
    """In every reader, the largest number plus one is the largest number, which is allowed."""
    most = int(3.4028234663852886e38)
    for tilt, status in ((most, 200), (most + 1, 200), (most * 2, 422)):
        row = ROW | {"tilt": tilt}
        bodies = [{"features": row}, {"features": list(row.values())}] if path == "/predict" else [
            {"instances": {name: [value] for name, value in row.items()}}, {"dataframe_records": [row]}]  # fmt: skip
        for body in bodies:
            assert binary.post(path, body).status_code == status, (tilt, body)
