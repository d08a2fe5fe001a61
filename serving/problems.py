"""Errors as RFC 9457 problem details: one shape for every refusal, in words that a caller can act on."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from serving.predictor import NoAnswer
from serving.rows import Fault, RowError

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """A request that is refused: the status and what is wrong with it."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, Any]] | None = None):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem as a response."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request.scope.get("request_id"),
        **({"errors": problem.errors} if problem.errors else {}),
    }
    # json.dumps escapes all but ASCII: a message may quote half a surrogate pair, which UTF-8 cannot carry.
    return Response(json.dumps(body), problem.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Let every error of this app leave as a problem."""
    app.exception_handler(Problem)(_refused)
    app.exception_handler(RowError)(_broken_row)
    app.exception_handler(NoAnswer)(_no_answer)
    app.exception_handler(HTTPException)(_http)


def unexpected(request: Request) -> Response:
    """Our own mistake: the log has the traceback, the caller only learns that it was not theirs."""
    logging.getLogger("serving").exception("request %s failed", request.scope.get("request_id"))
    return respond(request, Problem(500, "the service failed; the request is not at fault"))


async def _refused(request: Request, problem: Problem) -> Response:
    return respond(request, problem)


async def _broken_row(request: Request, error: RowError) -> Response:
    more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
    errors = [fault.to_json() for fault in error.faults]
    return respond(request, Problem(422, f"{error}{more}", errors))


async def _no_answer(request: Request, error: NoAnswer) -> Response:
    return respond(request, Problem(422, str(error), [Fault(None, str(error), error.row).to_json()]))


async def _http(request: Request, error: HTTPException) -> Response:
    path, method = request.url.path, request.method
    details = {
        404: f"there is no {path[:100]} here; /docs lists what there is",
        405: f"{path} does not take {method}",
    }
    detail = details.get(error.status_code, str(error.detail))
    return respond(request, Problem(error.status_code, detail), dict(error.headers or {}))
