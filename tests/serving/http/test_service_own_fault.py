"""The handler of last resort for errors of our own."""

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
    """The messages that a failing app sends, and the metrics afterwards."""
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


def test_unexpected_error_becomes_a_500_without_details(bundle, caplog):
    """An error of ours returns 500 without its text, logs the traceback and is counted."""

    async def broken(scope, receive, send):
        raise RuntimeError("a secret path")

    sent, error, metrics = _run(broken, bundle)
    assert error is None
    assert sent[0]["status"] == 500
    assert b"the service failed; the request is not at fault" in sent[1]["body"]
    assert b"secret" not in sent[1]["body"]
    assert "a secret path" in caplog.text
    assert 'slipway_requests_total{path="other",status="500"} 1.0' in metrics


def test_error_after_the_response_began_is_raised(bundle):
    """A response that has begun cannot become a 500: the server must see the error and close the connection."""

    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    sent, error, _ = _run(broken, bundle)
    assert len(sent) == 1
    assert str(error) == "too late"


def test_non_http_scopes_are_forwarded(bundle):
    """The server's lifespan messages pass unchanged."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    asyncio.run(Observe(app, None, RequestLog(False), Origins(Config(True)))({"type": "lifespan"}, None, None))
    assert seen == [{"type": "lifespan"}]
