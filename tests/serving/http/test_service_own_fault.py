"""The net below our own mistakes."""

import asyncio

from serving.config import Config
from serving.http.middleware import Observe
from serving.http.origins import Origins
from serving.model.bundle import open_bundle
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics
from serving.telemetry.prometheus import exposition

SCOPE = {"type": "http", "method": "GET", "path": "/broken", "headers": [], "query_string": b""}


def _run(app, bundle):
    """What an app that fails sends, and the metrics after it."""
    metrics = Metrics(open_bundle(bundle), [])
    sent = []

    async def send(message):
        sent.append(message)

    async def run():
        await Observe(app, metrics, RequestLog(False), Origins(Config(True)))(dict(SCOPE), None, send)

    error = None
    try:
        asyncio.run(run())
    except RuntimeError as caught:
        error = caught
    return sent, error, exposition(metrics).decode()


def test_an_unexpected_error_is_a_problem_without_details(bundle, caplog):
    """A mistake of ours answers 500 without its text, logs the traceback and is counted."""

    async def broken(scope, receive, send):
        raise RuntimeError("a secret path")

    sent, error, metrics = _run(broken, bundle)
    assert error is None
    assert sent[0]["status"] == 500
    assert b"the service failed; the request is not at fault" in sent[1]["body"]
    assert b"secret" not in sent[1]["body"]
    assert "a secret path" in caplog.text
    assert 'slipway_requests_total{path="other",status="500"} 1.0' in metrics


def test_an_error_in_the_middle_of_an_answer_is_not_hidden(bundle):
    """An answer that has begun cannot become a 500: the server must see the error and close."""

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    sent, error, _ = _run(broken, bundle)
    assert len(sent) == 1
    assert str(error) == "too late"


def test_what_is_not_http_passes(bundle):
    """Messages of the server itself go through untouched."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    asyncio.run(Observe(app, None, RequestLog(False), Origins(Config(True)))({"type": "lifespan"}, None, None))
    assert seen == [{"type": "lifespan"}]
