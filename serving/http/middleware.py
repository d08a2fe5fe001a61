"""Around every request that the framework answers: its id, its time, its count, and the net below our own mistakes."""

import time
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import problems
from serving.access.callers import GUEST
from serving.http.headers import by_name
from serving.http.origins import Origins
from serving.problems import GONE, MEDIA_TYPE, Problem
from serving.requests.request_ids import new_request_id, request_id
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import IN_FLIGHT, Metrics


class Observe:
    """ASGI middleware: gives each request an id that its answer carries, and counts it by path and status."""

    def __init__(self, app: Callable, metrics: Metrics, requests: RequestLog, origins: Origins):
        self._app = app
        self._origins = origins
        self._metrics = metrics
        self._requests = requests

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        fields = by_name(scope["headers"])
        given = request_id(fields.get(b"x-request-id", b""))
        scope["request_id"], scope["caller"] = given or new_request_id(), GUEST
        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # the server leaves out the body
        status = GONE
        self._metrics.own[IN_FLIGHT] += 1

        async def noting(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                headers.append((b"x-request-id", scope["request_id"].encode()))
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
            await send(message)

        try:
            if self._origins.guards:
                self._origins.check(fields, scope["method"])
            await self._app(asked, receive, noting)
        except ClientDisconnect:
            pass
        except Exception as error:
            if status != GONE:
                raise  # the answer has begun and cannot be replaced; the server closes the connection
            problem = problems.of(error, scope["request_id"])
            await respond(Request(scope), problem)(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.own[IN_FLIGHT] -= 1
            self._metrics.answered(scope["path"], status, seconds)
            if self._requests.on:
                self._requests.write(
                    scope["method"], scope["path"], status, seconds, scope["request_id"], asked["caller"].name
                )


def respond(request: Request, problem: Problem) -> Response:
    """The problem as a response of FastAPI."""
    body = problem.body(request.scope.get("request_id"))
    return Response(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every refusal of this app leave as a problem."""
    app.exception_handler(Problem)(_refused)
    app.exception_handler(HTTPException)(_http)


async def _refused(request: Request, problem: Problem) -> Response:
    return respond(request, problem)


async def _http(request: Request, error: HTTPException) -> Response:
    path, method = request.url.path, request.method
    if error.status_code == 405:
        return respond(request, problems.wrong_method(path, method, (error.headers or {}).get("Allow", "")))
    detail = (
        f"there is no {path[:100]} here; /docs lists what there is" if error.status_code == 404 else str(error.detail)
    )
    return respond(request, Problem(error.status_code, detail, headers=dict(error.headers or {})))
