"""The body of a prediction request: received up to a limit, parsed, and its own fields checked."""

import json
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from serving import forms
from serving.contract import shown
from serving.problems import Problem
from serving.request_ids import REQUEST_ID

LARGEST_BODY = 5_000_000  # bytes; about 10,000 rows of 30 numbers
LARGEST_BATCH = 10_000  # rows
FIELDS = ("features", "request_id", "subject")
LONGEST_SUBJECT = 256  # characters


class Disconnected(Exception):
    """The caller left before its request was whole."""


@dataclass(frozen=True)
class Body:
    """What a caller asks for."""

    features: Any
    request_id: str | None
    subject: str | None
    checked: bool = False  # whether `features` are rows that the contract takes
    written: bytes = b""  # the rows as the caller wrote them, where nothing about them changes


async def receive_body(declared: int, receive: Callable[[], Awaitable[Any]]) -> bytes:
    """The bytes of a request whose header declares so many; raises Problem 413, or Disconnected."""
    if declared > LARGEST_BODY:
        raise _too_large()
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body = message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise _too_large()
        return body
    chunks, size = [], 0
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST_BODY:  # a chunked body declares no length
            raise _too_large()
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise Disconnected


def parse_body(raw: bytes, names: Collection[str] = ()) -> Body:
    """The fields of a body, for a model whose features have these names; raises Problem 400 or 422."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise Problem(422, f'the body must be an object like {{"features": …}}, not {shown(body)}{forms.of_list(body)}')
    if "features" not in body:
        raise Problem(422, f"the body has no 'features'{forms.of_object(body, names)}")
    if unknown := body.keys() - set(FIELDS):
        raise Problem(422, f"the body has an unknown field {shown(min(unknown))}; it takes {', '.join(FIELDS)}")
    given = body.get("request_id")
    if given is not None and (not isinstance(given, str) or not re.fullmatch(REQUEST_ID, given)):
        raise Problem(422, f"request_id is {shown(given)}, allowed are 1 to 128 visible ASCII characters")
    subject = body.get("subject")
    if subject is not None and (not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT):
        raise Problem(422, f"subject is {shown(subject)}, allowed are 1 to {LONGEST_SUBJECT} characters")
    return Body(body["features"], given, subject)


def check_batch(features: Any) -> None:
    """Raise Problem 422 unless these are rows, neither none nor too many."""
    if not isinstance(features, list):
        raise Problem(422, f"features must be a list of rows, not {shown(features)}")
    if not 1 <= len(features) <= LARGEST_BATCH:
        raise Problem(422, f"{len(features)} rows were given, allowed are 1 to {LARGEST_BATCH}")


def _too_large() -> Problem:
    return Problem(413, f"the body may have at most {LARGEST_BODY} bytes; send fewer rows at once")


def parse_json(raw: bytes) -> Any:
    """The value that a body spells; raises Problem 400."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError):
        # A number of more than 4,300 digits, or lists a thousand deep: valid JSON that Python does not read.
        raise Problem(400, "the body is not JSON that can be read: a number too long, lists too deep") from None
