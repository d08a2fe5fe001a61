"""One row in, one answer out."""

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
    """Every golden row gives the answer that numpy computed, in both forms and in any order of names."""
    contract, golden = service.contract, service.golden
    names = [column["name"] for column in contract["inputs"]]
    for row, expected in zip(golden["inputs"], golden["expected"], strict=True):
        backwards = dict(reversed(list(zip(names, row, strict=True))))
        for features in (row, backwards):
            response = service.predict(features)
            assert response.status_code == 200, response.text
            _assert_same(response.json(), expected, contract)


def test_a_batch_gives_every_row_its_answer(service):
    """Lists and maps may be mixed; the order of answers is that of the rows."""
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


def test_ten_thousand_rows_are_one_batch(binary):
    """The largest batch is answered, row by row."""
    golden = binary.golden
    rows = golden["inputs"] * (10_000 // ROWS)
    answer = binary.post("/predict/batch", {"features": rows}).json()
    labels = [expected["label"] for expected in golden["expected"]] * (10_000 // ROWS)
    assert [given["label"] for given in answer["predictions"]] == labels


def test_the_answer_of_a_classifier(binary):
    """Exactly these fields, and class_id is the position of the label among the classes."""
    answer = binary.predict(binary.example).json()
    fields = {"label", "class_id", "probabilities", "model_version", "request_id", "latency_ms"}
    assert set(answer) == fields
    assert ["no", "yes"][answer["class_id"]] == answer["label"] == "yes"
    assert answer["model_version"] == "3"
    assert 0 < answer["latency_ms"] < 1000


def test_the_answer_of_a_regression(regression):
    """A value in the place of label and probabilities."""
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
def test_numbers_may_be_written_in_more_than_one_way(binary, feature, same):
    """3.0 is a whole number, 12 is a number, and 0 and 1 are false and true."""
    answers = [binary.predict({**binary.example, feature: value}) for value in same]
    assert [answer.status_code for answer in answers] == [200] * len(same)
    assert len({str(answer.json()["probabilities"]) for answer in answers}) == 1


@pytest.mark.parametrize(("feature", "limits"), [("mass", (0, 100)), ("doors", (0, 10)), ("tilt", (-3e38, 3e38))])
def test_the_limits_themselves_are_allowed(binary, feature, limits):
    """Minimum and maximum belong to the range; without them the model's own type is the limit."""
    for value in limits:
        assert binary.predict({**binary.example, feature: value}).status_code == 200


def test_null_and_the_empty_text_are_the_same_where_null_is_allowed(columns):
    """A nullable number or text takes null, and a text "" as well: that is how the model knows it."""
    answers = [columns.predict([None, "red", note]).json() for note in (None, "")]
    assert answers[0]["probabilities"] == answers[1]["probabilities"]
    assert answers[0]["probabilities"]["stayed"] == pytest.approx(0.6224593, abs=1e-6)  # sigmoid(0 + 0.5 + 1 - 1)


@pytest.mark.parametrize("word", ["ünïcode", "", "a\u0000b", "x" * 10_000, "🚢"])
def test_a_text_without_declared_values_may_be_anything(columns, word):
    """Any Unicode text is taken where the contract declares no values."""
    assert columns.predict([1.0, "red", word]).status_code == 200


def test_the_content_type_does_not_matter(binary):
    """curl sends a form's content type unless told otherwise; the body is JSON all the same."""
    body = b'{"features": [12.5, -0.5, 4, true]}'
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        assert binary.post("/predict", data=body, headers={"Content-Type": kind}).status_code == 200


def test_the_request_id_of_the_header_is_given_back(binary):
    """X-Request-ID comes back in header and body."""
    response = binary.post("/predict", {"features": binary.example}, headers={"X-Request-ID": "abc-1"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] == "abc-1"


def test_the_request_id_of_the_body_goes_before_the_header(binary):
    """One request has one id: the one in its body."""
    body = {"features": binary.example, "request_id": "of-the-body"}
    response = binary.post("/predict", body, headers={"X-Request-ID": "of-the-header"})
    assert response.json()["request_id"] == response.headers["X-Request-ID"] == "of-the-body"


@pytest.mark.parametrize("given", [{}, {"X-Request-ID": "with space"}, {"X-Request-ID": "x" * 129}])
def test_a_request_without_a_usable_id_gets_one(binary, given):
    """Each answer has an id of its own when the header has none that can be given back."""
    ids = {binary.get("/healthz", headers=given).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


def test_a_request_id_of_null_is_none(binary):
    """null in the body leaves the id to the header."""
    body = {"features": binary.example, "request_id": None}
    response = binary.post("/predict", body, headers={"X-Request-ID": "h"})
    assert response.json()["request_id"] == "h"


def test_a_large_batch_is_predicted_beside_the_loop(bundle):
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
    """The status with which an application answers a request."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        messages.append(message)

    headers = [(b"content-length", b"%d" % len(body))]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, "query_string": b"", "client": None}
    await app(scope, receive, send)
    return messages[0]["status"]
