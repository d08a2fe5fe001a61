"""The relay's endpoints. They respond at once: a worker handles what came afterwards."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from delivery.relay import alerts
from delivery.relay.alerts import Alerts
from delivery.relay.metrics import Metrics
from delivery.relay.worker import Worker
from pipeline.registry.webhooks import ALIASES, MAX_BODY, Refusal, Seen, parse, verify

BODY_SECONDS = 10  # for a client to send its body


def make(
    secret: str,
    model: str,
    worker: Worker,
    metrics: Metrics,
    seen: Seen | None = None,
    heard: Alerts | None = None,
) -> FastAPI:
    """The ASGI application; it starts and stops the workers. Without `heard` it takes no alerts."""
    known = Seen() if seen is None else seen
    workers = [worker, *([heard.worker] if heard else [])]

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        for one in workers:
            one.thread.start()
        yield
        await asyncio.gather(*(asyncio.to_thread(one.stop) for one in workers))

    app = FastAPI(title="slipway relay", openapi_url=None, lifespan=life)

    @app.post("/webhook")
    async def webhook(request: Request) -> JSONResponse:
        try:
            body = await body_of(request)
            now = time.time()
            delivery = verify(request.headers, body, secret, now)
            return take(delivery, body, now)
        except Refusal as refusal:
            metrics.delivery("refused", refusal.reason)
            return answer(refusal.status, refusal.what)

    def take(delivery: str, body: bytes, now: float) -> JSONResponse:
        if delivery in known:
            metrics.delivery("duplicate")
            return answer(200, "this delivery came before: nothing is started")
        event = parse(body)
        known.add(delivery, now)
        if event is None or event.alias not in ALIASES or event.model != model:
            reason = "event" if event is None else "model" if event.model != model else "alias"
            metrics.delivery("ignored", reason)
            return answer(202, f"understood; nothing follows from it here (another {reason})")
        metrics.delivery("accepted")
        worker.hear()
        return answer(202, f"understood: {event.alias} of {event.model} has moved")

    @app.post("/alerts")
    async def hear(request: Request) -> JSONResponse:
        try:
            if heard is None:
                raise Refusal(404, "off", "this relay takes no alerts: SLIPWAY_RELAY_BEARER is not set")
            alerts.verify(request.headers.get("authorization", ""), heard.bearer)
            return watch(heard, alerts.parse(await body_of(request, alerts.MAX_BODY), model))
        except Refusal as refusal:
            metrics.alert("refused", refusal.reason)
            return answer(refusal.status, refusal.what)

    def watch(heard: Alerts, names: set[str]) -> JSONResponse:
        if not names:
            metrics.alert("ignored")
            return answer(202, "understood; no alert about this model in production fires, and nothing follows")
        new = ", ".join(sorted(heard.new(names, time.time())))
        if not new:
            metrics.alert("duplicate")
            return answer(200, f"{', '.join(sorted(names))} came within the last hour: nothing is started")
        metrics.alert("accepted")
        heard.worker.hear()
        return answer(202, f"understood: {new} asks for the monitor")

    @app.get("/healthz")
    @app.get("/readyz")
    async def healthz() -> JSONResponse:
        alive = all(one.thread.is_alive() for one in workers)
        return JSONResponse({"status": "ok" if alive else "the worker has ended"}, 200 if alive else 503)

    @app.get("/metrics")
    async def page() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


def answer(status: int, detail: str) -> JSONResponse:
    """A plain-text response."""
    return JSONResponse({"detail": detail}, status)


async def body_of(request: Request, most: int = MAX_BODY) -> bytes:
    """Read the body; raises Refusal (413, 408) as soon as it is known to be too long, or when it is too slow."""
    too_long = Refusal(413, "size", f"the body is longer than {most} bytes")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > most:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise too_long
    except (TimeoutError, ClientDisconnect):
        raise Refusal(408, "slow", f"the body did not come within {BODY_SECONDS} seconds") from None
    return bytes(body)
