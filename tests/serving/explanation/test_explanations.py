"""POST /predict with "explain": true: what is answered, refused and counted, and that nobody else waits for it."""

import asyncio
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.config import read_config
from serving.experiment.experiment import CHALLENGER
from serving.explanation.explainer import WAITING
from serving.model.bundle import EXPERIMENT, BundleError, open_bundle
from serving.telemetry.prometheus import exposition
from tests.serving.bundles import change, make_wide_bundle, read, seal, write
from tests.serving.experiment.carried import make_experiment
from tests.serving.http.test_service_slow_callers import serving_here

ROW = [12.5, -0.5, 4, True]
OPEN = {"SLIPWAY_RATE_LIMIT": "0", "SLIPWAY_RATE_LIMIT_BYTES": "0"}


class Caller:
    """One request to an application in this process, of a caller who may leave."""

    def __init__(self, app, body, path="/predict", method="POST"):
        self.app, self.body, self.left = app, json.dumps(body).encode(), asyncio.Event()
        self.scope = {"type": "http", "method": method, "path": path, "query_string": b"", "client": None, "state": {}}
        self.scope["headers"] = [(b"content-length", b"%d" % len(self.body))]
        self.sent = []

    async def receive(self):
        """The body, and then nothing until the caller leaves."""
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        """Keep what is answered."""
        self.sent.append(message)

    async def ask(self):
        """Status, headers and body of the answer; a status of None for none."""
        await self.app(self.scope, self.receive, self.send)
        if not self.sent:
            return None, {}, {}
        return self.sent[0]["status"], dict(self.sent[0]["headers"]), json.loads(self.sent[1]["body"])


def ask(app, body, path="/predict", method="POST"):
    """Status and body of an answer."""
    status, _, answer = asyncio.run(Caller(app, body, path, method).ask())
    return status, answer


def counted(app, name, **labels):
    """The sum of the samples of this name and these labels."""
    families = text_string_to_metric_families(exposition(app.metrics).decode())
    samples = [sample for family in families for sample in family.samples]
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def total(explanation):
    """What base and contributions add up to."""
    return explanation["base"] + sum(explanation["contributions"].values())


@pytest.fixture
def app(bundle):
    """A service in this process."""
    return create_app(bundle, read_config(OPEN))


class Slow:
    """A model that waits, before it answers many rows, until it may go on."""

    def __init__(self, model):
        self.model, self.go_on, self.asked = model, threading.Event(), 0
        self.run_one = model.run_one

    def run(self, rows):
        """The answers, once they may be given."""
        self.asked += 1
        self.go_on.wait(30)
        return self.model.run(rows)


@pytest.fixture
def slow(app):
    """The same service, whose model answers no batch before `go_on` is set."""
    app.predictor._model = Slow(app.predictor._model)
    yield app.predictor._model
    app.predictor._model.go_on.set()


def test_every_kind_of_model_explains_an_answer_that_adds_up(service):
    """Base and contributions, one for each input in order, add up to the answer, which is what it is without them."""
    rows, names = service.golden["inputs"][:5], [column["name"] for column in service.contract["inputs"]]
    for row in rows:
        for features in (row, dict(zip(names, row, strict=True))):
            plain, explained = service.predict(features).json(), service.predict(features, explain=True).json()
            told = explained.pop("explanation")
            for answer in (plain, explained):
                del answer["request_id"], answer["latency_ms"]
            assert explained == plain
            assert list(told["contributions"]) == names
            assert total(told) == pytest.approx(told["answer"], abs=1e-9)
            answered = plain.get("value", plain.get("probabilities", {}).get(told["of"]))
            assert told["answer"] == answered
            assert told["of"] == (service.contract["positive"] or plain.get("label", "target"))
            assert told["exact"] and told["error"] == 0 and told["rows"] == 10


def test_a_linear_model_s_contributions_are_known(regression):
    """Weight times the distance from the mean of the background rows, to a millionth."""
    background = read(regression.bundle, "background.json")["rows"]
    for row in regression.golden["inputs"]:
        told = regression.predict(row, explain=True).json()["explanation"]
        for place, (name, weight) in enumerate({"rooms": 3.0, "area": 2.5}.items()):
            mean = sum(one[place] for one in background) / len(background)
            assert told["contributions"][name] == pytest.approx(weight * (row[place] - mean), abs=1e-6, rel=1e-6)


def test_both_ways_of_a_request_are_explained_alike(binary):
    """A body in chunks goes through the framework's protocol, and its answer has the same explanation."""
    body = json.dumps({"features": ROW, "explain": True, "request_id": "me"}).encode()
    whole, chunked = binary.post("/predict", data=body), binary.post("/predict", data=iter([body[:9], body[9:]]))
    for response in (whole, chunked):
        assert response.status_code == 200 and response.headers["x-request-id"] == response.json()["request_id"] == "me"
    one, other = (response.json()["explanation"] for response in (whole, chunked))
    assert one | {"latency_ms": 0} == other | {"latency_ms": 0}


def test_requests_behind_an_explanation_are_answered_after_it(binary):
    """On one connection the answers come in the order of the requests, and it is kept."""

    def request(explain):
        body = json.dumps({"features": ROW, "explain": explain}).encode()
        return b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def next_answer(stream):
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = http.client.parse_headers(stream)
        return json.loads(stream.read(int(headers["content-length"])))

    host, port = binary.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection, connection.makefile("rb") as stream:
        for batch in ((True, False, True), (False,), (True,)):
            connection.sendall(b"".join(map(request, batch)))
            assert ["explanation" in next_answer(stream) for _ in batch] == list(batch)


@pytest.mark.parametrize("given", ["yes", 1, 0, None])
def test_explain_is_true_or_false(app, given):
    """Any other value is named."""
    status, problem = ask(app, {"features": ROW, "explain": given})
    assert (status, problem["detail"]) == (422, f"explain is {json.dumps(given)}, allowed are true and false")


def test_false_asks_for_nothing(app):
    """The answer has no explanation."""
    status, answer = ask(app, {"features": ROW, "explain": False})
    assert status == 200 and "explanation" not in answer


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "detail"),
    [
        ("/predict", "POST", {"explain": True}, 422, "the body has no 'features'"),
        ("/predict", "POST", {"explain": True, "features": [1, 2, 4]}, 422, "feature 'sold' is missing"),
        ("/predict", "POST", {"explain": True, "features": [1, 2, 4, "x"]}, 422, "feature 'sold': \"x\" was given"),
        ("/predict", "POST", {"explain": True, "features": ROW, "subject": 3}, 422, "subject is 3"),
        ("/predict", "POST", {"explains": True, "features": ROW}, 422, "subject, explain"),
        ("/predict", "GET", {"explain": True, "features": ROW}, 405, "does not take GET"),
        ("/predict/batch", "POST", {"explain": True, "features": [ROW]}, 422, "explain is for one row; /predict takes it"),
        ("/predict/batch", "POST", {"explain": False, "features": [ROW]}, 422, "explain is for one row; /predict takes it"),
        ("/invocations", "POST", {"explain": True, "instances": [ROW]}, 422, 'unknown field "explain"'),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_said(app, path, method, body, status, detail):
    """The row's own faults come first, and only one row is explained."""
    given, problem = ask(app, body, path, method)
    assert given == status and detail in problem["detail"]


def test_a_bundle_without_background_rows_says_what_to_do(bundle):
    """It answers all else, and neither its document nor its page offers an explanation."""
    (bundle / "background.json").unlink()
    app = create_app(seal(bundle), read_config(OPEN))
    status, problem = ask(app, {"features": ROW, "explain": True})
    assert status == 422 and "train the model again" in problem["detail"]
    assert ask(app, {"features": ROW})[0] == 200
    document, info = (ask(app, {}, path, "GET")[1] for path in ("/openapi.json", "/model/info"))
    assert "explain" not in document["components"]["schemas"]["Request"]["properties"]
    assert not info["explains"]


def test_a_document_of_background_rows_offers_it(app):
    """The request, the answer and an example are described."""
    document = ask(app, {}, "/openapi.json", "GET")[1]
    schemas, post = document["components"]["schemas"], document["paths"]["/predict"]["post"]
    assert schemas["Request"]["properties"]["explain"]["default"] is False
    assert "explain" not in schemas["Batch"]["properties"]
    assert list(schemas["Explanation"]["properties"]["contributions"]["properties"]) == [
        "mass",
        "tilt",
        "doors",
        "sold",
    ]
    assert "429" in post["responses"]
    example = post["requestBody"]["content"]["application/json"]["examples"]["with an explanation"]["value"]
    assert set(ask(app, example)[1]["explanation"]) == set(schemas["Explanation"]["properties"])
    assert ask(app, {}, "/model/info", "GET")[1]["explains"]


@pytest.mark.parametrize("content", ['{"rows": [[1, 2]]}', '{"rows": [["x", 0, 4, true]]}', "{}", "[]", "nonsense"])
def test_damaged_background_rows_are_refused_at_the_start(bundle, content):
    """The file is named."""
    (bundle / "background.json").write_text(content)
    with pytest.raises(BundleError, match=r"background\.json is damaged"):
        open_bundle(seal(bundle))


def test_others_are_answered_while_one_explanation_is_made(app, slow):
    """One is made at a time and a few wait; more are told to come again; predictions wait for none of them."""

    async def all_of_it():
        explained = [asyncio.create_task(Caller(app, {"features": ROW, "explain": True}).ask()) for _ in range(WAITING + 1)]  # fmt: skip
        await asyncio.sleep(0.05)
        status, headers, problem = await Caller(app, {"features": ROW, "explain": True}).ask()
        assert status == 429 and headers[b"retry-after"] == b"2" and "too many explanations" in problem["detail"]
        for _ in range(3):
            assert (await Caller(app, {"features": ROW}).ask())[0] == 200
        assert slow.asked == 1 and not any(one.done() for one in explained)
        slow.go_on.set()
        assert [status for status, _, _ in await asyncio.gather(*explained)] == [200] * len(explained)
        assert (await Caller(app, {"features": ROW, "explain": True}).ask())[0] == 200

    asyncio.run(all_of_it())


def test_a_caller_that_leaves_ends_its_explanation(app, slow):
    """Its place is free at once, the model is asked no further, and the request counts as left."""

    async def all_of_it():
        caller = Caller(app, {"features": ROW, "explain": True})
        asked = asyncio.create_task(caller.ask())
        while not slow.asked:
            await asyncio.sleep(0.01)
        caller.left.set()
        assert await asked == (None, {}, {})
        slow.go_on.set()
        assert (await Caller(app, {"features": ROW, "explain": True}).ask())[0] == 200
        assert slow.asked == 3  # one of the first explanation, two of the second

    asyncio.run(all_of_it())
    assert counted(app, "slipway_requests_total", path="/predict", status="499") == 1
    assert counted(app, "slipway_explanation_seconds_count") == 1


@pytest.mark.parametrize("leave", [lambda connection: connection.close(), lambda connection: connection.shutdown(1)])
def test_a_caller_that_hangs_up_has_left(bundle, app, slow, leave):
    """Whoever will send no more after asking for an explanation is not waited for, as a closed connection looks no different."""
    body = json.dumps({"features": ROW, "explain": True}).encode()
    request = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with serving_here(bundle, app) as port, socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(request)
        while not slow.asked:
            time.sleep(0.01)
        leave(connection)
        while not counted(app, "slipway_requests_total", path="/predict", status="499"):
            time.sleep(0.01)
        slow.go_on.set()
    assert counted(app, "slipway_explanation_seconds_count") == 0
    assert counted(app, "slipway_requests_in_flight") == 0


def test_times_of_predictions_are_without_explanations(app, slow):
    """An explanation counts in a histogram of its own, and as one request, one prediction, one answer of the log."""

    def go_on_later():
        while not slow.asked:
            time.sleep(0.01)
        time.sleep(0.2)
        slow.go_on.set()

    threading.Thread(target=go_on_later).start()
    began = time.perf_counter()
    status, answer = ask(app, {"features": ROW, "explain": True})
    took = time.perf_counter() - began
    assert status == 200 and answer["explanation"]["latency_ms"] > 200
    explained = counted(app, "slipway_explanation_seconds_sum")
    assert counted(app, "slipway_explanation_seconds_count") == 1 and explained > 0.2
    assert counted(app, "slipway_request_seconds_sum") < took - explained
    assert answer["latency_ms"] / 1000 < took - explained
    assert counted(app, "slipway_predictions_total") == 1
    assert counted(app, "slipway_requests_total", path="/predict") == 1
    assert counted(app, "slipway_requests_in_flight") == 0


def test_an_explanation_is_one_request_of_its_caller(bundle):
    """The limit counts it once."""
    app = create_app(bundle, read_config(OPEN | {"SLIPWAY_RATE_LIMIT": "2"}))
    given = [ask(app, {"features": ROW, "explain": True})[0] for _ in range(3)]
    assert given == [200, 200, 429]


def test_a_model_with_no_answer_between_two_rows_says_so(app, slow):
    """The mixtures that it is asked are nobody's row, so the words do not blame the caller's."""
    slow.go_on.set()
    slow.run = lambda rows: slow.model.run(rows) * (1 if len(rows) == 10 else np.nan)
    status, problem = ask(app, {"features": ROW, "explain": True})
    assert status == 422 and "mixture" in problem["detail"]


def test_a_model_of_very_many_features_is_not_explained(tmp_path):
    """The bound would not leave enough for each; a model of a thousand has room."""
    for count, status in ((1_000, 200), (1_300, 422)):
        folder = make_wide_bundle(
            tmp_path / f"{count}" / "bundle", [f"x{number}" for number in range(count)], ["no", "yes"]
        )
        write(folder, "background.json", {"rows": [[float(row)] * count for row in range(12)]})
        app = create_app(seal(folder), read_config(OPEN))
        given, answer = ask(app, {"features": [0.5] * count, "explain": True})
        assert given == status, answer
    assert "1300 features" in answer["detail"]


def test_the_model_that_answered_is_explained(tmp_path):
    """In an experiment the challenger's answers are explained by the challenger, from its own background rows."""
    guardrails = {"max_failures": 1.0, "max_latency_ratio": 1000.0}
    folder = make_experiment(tmp_path / "bundle", "ab", "binary", share=0.5, guardrails=guardrails)
    challenger = folder / EXPERIMENT / CHALLENGER
    change(challenger, "background.json", rows=read(challenger, "background.json")["rows"][:3])
    app = create_app(folder, read_config(OPEN | {"SLIPWAY_DATABASE_URL": "sqlite:///log.db"}))
    seen = set()
    for number in range(20):
        _, answer = ask(app, {"features": ROW, "explain": True, "subject": f"customer-{number}"})
        told = answer["explanation"]
        assert total(told) == pytest.approx(answer["probabilities"]["yes"], abs=1e-9)
        seen.add((answer["model_version"], told["rows"]))
    assert seen == {("3", 10), ("4", 3)}
