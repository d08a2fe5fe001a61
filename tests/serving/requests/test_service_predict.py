"""Predictions: one answer per row."""

import asyncio
import threading

import pytest

from serving.app import create_app
from serving.config import read_config
from tests.serving.bundles import ROWS


def _assert_same(given, expected, contract):
    if "value" in expected:
        assert given["value"] == pytest.approx(expected["value"], rel=1e-5, abs=1e-5)
        return
    assert given["label"] == expected["label"]
    assert list(given["probabilities"]) == contract["classes"]
    assert list(given["probabilities"].values()) == pytest.approx(expected["probabilities"], abs=1e-5)


def test_rows_as_lists_and_by_name(service):
    """Every golden row gets the answer that numpy computed, in both forms and in any order of names."""
    contract, golden = service.contract, service.golden
    names = [column["name"] for column in contract["inputs"]]
    for row, expected in zip(golden["inputs"], golden["expected"], strict=True):
        backwards = dict(reversed(list(zip(names, row, strict=True))))
        for features in (row, backwards):
            response = service.predict(features)
            assert response.status_code == 200, response.text
            _assert_same(response.json(), expected, contract)


def test_batch_answers_every_row(service):
    """Lists and maps may be mixed; the answers are in the order of the rows."""
    contract, golden = service.contract, service.golden
    names = [column["name"] for column in contract["inputs"]]
    rows = [dict(zip(names, row, strict=True)) if i % 2 else row for i, row in enumerate(golden["inputs"])]
    answer = service.post("/predict/batch", {"features": rows, "request_id": "b-1"}).json()
    assert len(answer["predictions"]) == ROWS
    for given, expected in zip(answer["predictions"], golden["expected"], strict=True):
        _assert_same(given, expected, contract)
    assert answer["model_version"] == "3"
    assert answer["request_id"] == "b-1"
    assert answer["latency_ms"] > 0


def test_batch_of_10000_rows(binary):
    """The largest batch is answered, row by row."""
    golden = binary.golden
    rows = golden["inputs"] * (10_000 // ROWS)
    answer = binary.post("/predict/batch", {"features": rows}).json()
    labels = [expected["label"] for expected in golden["expected"]] * (10_000 // ROWS)
    assert [given["label"] for given in answer["predictions"]] == labels


def test_classifier_answer_fields(binary):
    """Exactly these fields, and class_id is the position of the label among the classes."""
    answer = binary.predict(binary.example).json()
    fields = {"label", "class_id", "probabilities", "model_version", "request_id", "latency_ms"}
    assert set(answer) == fields
    assert ["no", "yes"][answer["class_id"]] == answer["label"] == "yes"
    assert answer["model_version"] == "3"
    assert 0 < answer["latency_ms"] < 1000


def test_regression_answer_fields(regression):
    """A value in place of label and probabilities."""
    answer = regression.predict([3, 80.0]).json()
    assert set(answer) == {"value", "model_version", "request_id", "latency_ms"}
    assert answer["value"] == 3 * 3 + 2.5 * 80 + 10


@pytest.mark.parametrize(
    ("feature", "same"),
    [
        ("doors", (4, 4.0)),
        ("mass", (12, 12.0)),
        ("mass", (1, 1e0)),
        ("sold", (True, 1)),
        ("sold", (False, 0, 0.0)),
    ],
)
def test_equivalent_number_forms_are_accepted(binary, feature, same):
    """3.0 is an integer, 12 is a number, and 0 and 1 are false and true."""
    answers = [binary.predict({**binary.example, feature: value}) for value in same]
    assert [answer.status_code for answer in answers] == [200] * len(same)
    assert len({str(answer.json()["probabilities"]) for answer in answers}) == 1


@pytest.mark.parametrize(("feature", "limits"), [("mass", (0, 100)), ("doors", (0, 10)), ("tilt", (-3e38, 3e38))])
def test_limits_are_inclusive(binary, feature, limits):
    """Minimum and maximum are allowed values; without them the model's type is the limit."""
    for value in limits:
        assert binary.predict({**binary.example, feature: value}).status_code == 200


def test_null_and_empty_text_are_equal_where_null_is_allowed(columns):
    """A nullable number or text accepts null, and a text also "", which is how the model receives null."""
    answers = [columns.predict([None, "red", note]).json() for note in (None, "")]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
    assert answers[0]["probabilities"]["stayed"] == pytest.approx(0.6224593, abs=1e-6)  # sigmoid(0 + 0.5 + 1 - 1)


@pytest.mark.parametrize("word", ["ünïcode", "", "a\u0000b", "x" * 10_000, "🚢"])
def test_text_without_declared_values_may_be_anything(columns, word):
    """Any Unicode text is accepted if the contract declares no values."""
    assert columns.predict([1.0, "red", word]).status_code == 200


def test_content_type_does_not_matter(binary):
    """curl sends a form's content type by default; the body is read as JSON all the same."""
    body = b'{"features": [12.5, -0.5, 4, true]}'
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        assert binary.post("/predict", data=body, headers={"Content-Type": kind}).status_code == 200


def test_request_id_header_is_returned(binary):
    """X-Request-ID is returned in header and body."""
    response = binary.post("/predict", {"features": binary.example}, headers={"X-Request-ID": "abc-1"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] == "abc-1"


def test_request_id_in_the_body_takes_precedence(binary):
    """A request has one id: the one in its body."""
    body = {"features": binary.example, "request_id": "of-the-body"}
    response = binary.post("/predict", body, headers={"X-Request-ID": "of-the-header"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] == "of-the-body"


@pytest.mark.parametrize("given", [{}, {"X-Request-ID": "with space"}, {"X-Request-ID": "x" * 129}])
def test_unusable_request_id_is_replaced(binary, given):
    """A response has a new id when the header has none that can be returned."""
    ids = {binary.get("/healthz", headers=given).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


def test_null_request_id_is_ignored(binary):
    """With null in the body, the header's id is used."""
    body = {"features": binary.example, "request_id": None}
    response = binary.post("/predict", body, headers={"X-Request-ID": "h"})
    assert response.json()["request_id"] == "h"


def test_large_batch_does_not_block_the_event_loop(bundle):
    """While the model works on a batch of more than 64 KB, a health check is answered."""
    app = create_app(bundle, read_config({}))
    began, go_on = threading.Event(), threading.Event()
    predict = app.predictor.predict

    def slow(rows):
        began.set()
        assert go_on.wait(10)
        return predict(rows)

    app.predictor.predict = slow
    row = b"[12.5, -0.5, 4, true]"

    async def both(rows):
        body = b'{"features": [' + b", ".join([row] * rows) + b"]}"
        batch = asyncio.create_task(_ask(app, "POST", "/predict/batch", body))
        await asyncio.get_running_loop().run_in_executor(None, began.wait, 10)
        health = await _ask(app, "GET", "/healthz")
        answered = batch.done()
        go_on.set()
        return health, answered, await batch

    health, answered, batch = asyncio.run(both(5000))
    assert (health, answered, batch) == (200, False, 200)


async def _ask(app, method, path, body=b""):
    """The status of an application's response to a request."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        messages.append(message)

    headers = [(b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "client": None}
    await app(scope, receive, send)
    return messages[0]["status"]
