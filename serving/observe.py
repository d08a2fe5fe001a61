"""Around every request that the framework answers: its id, its time, its count, and the net below our own mistakes."""

import itertools
import os
import re
import time
from collections.abc import Callable

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving import problems
from serving.body import REQUEST_ID
from serving.logs import RequestLog
from serving.metrics import IN_FLIGHT, Metrics

GONE = 499  # the usual number for a client that left before its answer; counted, never sent

_USABLE = re.compile(REQUEST_ID)
_process = os.urandom(8).hex()
_NUMBER = itertools.count()


class Observe:
    """ASGI middleware: gives each request an id that its answer carries, and counts it by path and status."""

    def __init__(self, app: Callable, metrics: Metrics, requests: RequestLog):
        self._app = app
        self._metrics = metrics
        self._requests = requests

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        given = next((request_id(value) for name, value in scope["headers"] if name == b"x-request-id"), "")
        scope["request_id"] = given or new_request_id()
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
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            pass
        except Exception as error:
            if status != GONE:
                raise  # the answer has begun and cannot be replaced; the server closes the connection
            problem = problems.of(error, scope["request_id"])
            await problems.respond(Request(scope), problem)(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.own[IN_FLIGHT] -= 1
            self._metrics.answered(scope["path"], status, seconds)
            if self._requests.on:
                self._requests.write(scope, status, seconds, scope["request_id"], "")


def request_id(header: bytes) -> str:
    """The caller's X-Request-ID when it can be given back as it is, else ""."""
    given = header.decode("latin-1")
    return given if _USABLE.fullmatch(given) else ""


def new_request_id() -> str:
    """An id that no other request has: 16 random digits of this process, and a number."""
    return f"{_process}{next(_NUMBER):016x}"


def begin_process() -> None:
    """Draw this process's digits anew: after a fork two processes would give the same ids."""
    global _process
    _process = os.urandom(8).hex()
