"""The hot path: predictions without the framework, whose routing alone costs more than a whole prediction."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from serving import problems
from serving.body import Disconnected, receive_body
from serving.bundle import Release
from serving.contract import Contract
from serving.decode import Decoder
from serving.metrics import Metrics
from serving.observe import GONE, new_request_id, request_id
from serving.predictor import Predictor

LARGE = 65_536  # bytes; a larger batch is answered in a thread, because it would hold up the health checks
JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", problems.MEDIA_TYPE.encode())


class Call:
    """One request on its way: its id, which its body may replace, and when it began (seconds of `perf_counter`)."""

    __slots__ = ("began", "request_id")

    def __init__(self, request_id: str):
        self.began = time.perf_counter()
        self.request_id = request_id


class HotPath:
    """ASGI application that answers predictions itself and hands every other path on."""

    def __init__(self, contract: Contract, release: Release, predictor: Predictor, metrics: Metrics, rest: Callable):
        self.release = release
        self._predictor, self._metrics, self._rest = predictor, metrics, rest
        self._decoder = Decoder(contract)
        self._encode = msgspec.json.Encoder().encode
        self._answers: dict[str, Callable[[Call, bytes], Awaitable[bytes]]] = {
            "/predict": self._predict,
            "/predict/batch": self._predict_batch,
        }

    async def __call__(self, scope, receive, send) -> None:
        answer = self._answers.get(scope["path"]) if scope["type"] == "http" else None
        if answer is None:
            return await self._rest(scope, receive, send)
        given, declared = "", 0
        for name, value in scope["headers"]:
            if name == b"content-length":
                declared = int(value)  # the server has refused what is no number
            elif name == b"x-request-id":
                given = request_id(value)
        call = Call(given or new_request_id())
        status, kind, more = 200, JSON, []
        try:
            if scope["method"] != "POST":
                raise problems.wrong_method(scope["path"], scope["method"], "POST")
            body = await answer(call, await receive_body(declared, receive))
        except Disconnected:
            return self._metrics.answered(scope["path"], GONE, time.perf_counter() - call.began)
        except Exception as error:
            problem = problems.of(error, call.request_id)
            status, kind, body = problem.status, PROBLEM, problem.body(call.request_id)
            more = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
        headers = [
            kind,
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", call.request_id.encode()),
            *more,
        ]
        self._metrics.answered(scope["path"], status, time.perf_counter() - call.began)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _predict(self, call: Call, raw: bytes) -> bytes:
        body = self._decoder.one(raw)
        call.request_id = body.request_id or call.request_id
        answer = self._predictor.predict_one(self._decoder.row(body))
        self._metrics.predicted([answer])
        return self._encoded(call, answer)

    async def _predict_batch(self, call: Call, raw: bytes) -> bytes:
        if len(raw) <= LARGE:
            return self._batch(call, raw)
        return await asyncio.get_running_loop().run_in_executor(None, self._batch, call, raw)

    def _batch(self, call: Call, raw: bytes) -> bytes:
        body = self._decoder.many(raw)
        call.request_id = body.request_id or call.request_id
        answers = self._predictor.predict(self._decoder.rows(body))
        self._metrics.predicted(answers)
        return self._encoded(call, {"predictions": answers})

    def _encoded(self, call: Call, answer: dict[str, Any]) -> bytes:
        answer["model_version"] = self.release.version
        answer["request_id"] = call.request_id
        answer["latency_ms"] = round((time.perf_counter() - call.began) * 1000, 3)
        return self._encode(answer)
