"""Around every request: its id, its time, its count, and the net below our own mistakes."""

import time
import uuid
from collections.abc import Callable

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving import problems
from serving.body import REQUEST_ID
from serving.metrics import Metrics

GONE = 499  # the usual number for a client that left before its answer; counted, never sent


class Observe:
    """ASGI middleware: gives each request an id that its answer carries, and counts it by path and status."""

    def __init__(self, app: Callable, metrics: Metrics, paths: frozenset[str]):
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        scope["request_id"] = _request_id(scope)
        status = GONE

        async def noting(message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", scope["request_id"].encode()))
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            pass
        except Exception:
            if status != GONE:
                raise  # the answer has begun and cannot be replaced; the server closes the connection
            await problems.unexpected(Request(scope))(scope, receive, noting)
        finally:
            # One label for all unknown paths: a scanner must not be able to grow the metrics.
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.answered(path, status, time.perf_counter() - started)


def _request_id(scope) -> str:
    """The caller's X-Request-ID when it can be given back as it is, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
