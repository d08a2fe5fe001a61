"""Errors as RFC 9457 problem details: one shape for every refusal, in words that a caller can act on."""

import json
import logging
from http import HTTPStatus
from typing import Any

from serving.model.predictor import NoAnswer
from serving.model.rows import Fault, RowError

MEDIA_TYPE = "application/problem+json"
GONE = 499  # the usual number for a client that left before its answer; counted, never sent


class Problem(Exception):
    """A request that is refused: the status and what is wrong with it."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}

    def body(self, request_id: str | None) -> bytes:
        """The problem as JSON."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
            **({"errors": self.errors} if self.errors else {}),
        }
        # json.dumps escapes all but ASCII: a message may quote half a surrogate pair, which UTF-8 cannot carry.
        return json.dumps(body).encode()


def of(error: Exception, request_id: str | None) -> Problem:
    """The problem that an error is to its caller; one that is our own mistake goes to the log with its traceback."""
    match error:
        case Problem():
            return error
        case RowError():
            more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
            return Problem(422, f"{error}{more}", [fault.to_json() for fault in error.faults])
        case NoAnswer():
            return Problem(422, str(error), [Fault(None, str(error), error.row).to_json()])
    logging.getLogger("serving").error("request %s failed", request_id, exc_info=error)
    return Problem(500, "the service failed; the request is not at fault")


def wrong_method(path: str, method: str, allowed: str) -> Problem:
    """The problem of a path that is there, but not for this method; HEAD is taken wherever GET is."""
    allowed = "GET, HEAD" if "GET" in allowed else allowed
    return Problem(405, f"{path} does not take {method}", headers={"allow": allowed})


def check_encoding(encoding: bytes) -> None:
    """Raise Problem 415 for a body that is compressed."""
    if encoding.lower() == b"identity":
        return
    detail = f"a body in the encoding {encoding[:60].decode('latin-1')!r} is not read here; send it as it is, without Content-Encoding"
    raise Problem(415, detail, headers={"accept-encoding": "identity"})
