"""The body of a prediction request: read up to a limit, parsed, and its own fields checked."""

import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from serving.contract import shown
from serving.problems import Problem

LARGEST_BODY = 5_000_000  # bytes; about 10,000 rows of 30 numbers
LARGEST_BATCH = 10_000  # rows
# What can stand in a header as it is.
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class Body:
    """What a client asks for; `features` is checked against the contract later."""

    features: Any
    request_id: str


async def read_body(request: Request) -> Body:
    """The request's body; raises Problem 400, 413 or 422. Its request_id replaces the header's."""
    body = _parse(await _read(request))
    if not isinstance(body, dict):
        raise Problem(422, f'the body must be an object like {{"features": …}}, not {shown(body)}')
    if "features" not in body:
        raise Problem(422, "the body has no 'features'")
    if unknown := body.keys() - {"features", "request_id"}:
        raise Problem(422, f"the body has an unknown field {shown(min(unknown))}; it takes features and request_id")
    given = body.get("request_id")
    if given is not None:
        if not isinstance(given, str) or not REQUEST_ID.fullmatch(given):
            raise Problem(422, f"request_id is {shown(given)}, allowed are 1 to 128 visible ASCII characters")
        request.scope["request_id"] = given
    return Body(body["features"], request.scope["request_id"])


def check_batch(features: Any) -> list[Any]:
    """The rows of a batch; raises Problem 422 when there are none or too many."""
    if not isinstance(features, list):
        raise Problem(422, f"features must be a list of rows, not {shown(features)}")
    if not 1 <= len(features) <= LARGEST_BATCH:
        raise Problem(422, f"{len(features)} rows were given, allowed are 1 to {LARGEST_BATCH}")
    return features


async def _read(request: Request) -> bytes:
    too_large = Problem(413, f"the body may have at most {LARGEST_BODY} bytes; send fewer rows at once")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LARGEST_BODY:
        raise too_large
    chunks, size = [], 0
    async for chunk in request.stream():  # a chunked body declares no length
        size += len(chunk)
        if size > LARGEST_BODY:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError):
        # A number of more than 4,300 digits, or lists a thousand deep: valid JSON that Python does not read.
        raise Problem(400, "the body is not JSON that can be read: a number too long, lists too deep") from None
