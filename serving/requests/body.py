"""The body of a prediction request: received up to a limit, parsed, and its own fields checked."""

import json
import json.decoder
import json.scanner
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from serving.model.contract import Contract
from serving.model.features import Input, shown
from serving.problems import Problem
from serving.requests import other_forms
from serving.requests.request_ids import REQUEST_ID

SMALL = 32_768  # bytes; a larger body is read beside the event loop, which would answer nobody meanwhile
FEW = 16_384  # bytes that the fields of a body other than its values may have, with all space
LARGEST_BODY = 5_000_000  # bytes of a batch; about 10,000 rows of 30 numbers
LARGEST_ROW = 65_536  # bytes that the body for one row may have, however few inputs the model has
TEXT = 65_536  # bytes that each free text adds to that
NUMBER = 64  # bytes that each other value adds, with the space around it
STEPWISE = 65_536  # bytes; a larger body is parsed in steps between which other threads go on
MOST_PARTS = 25_000  # lists and objects of such a body; more than 10,000 rows have
LARGEST_BATCH = 10_000  # rows
FIELDS = ("features", "request_id", "subject")
EXPLAIN = "explain"  # a field more, for one row
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
    explain: bool = False


class ExplanationAsked(Exception):
    """A row is to be answered with an explanation, which takes longer than anything else and is made in a task of its own."""

    def __init__(self, body: Body, raw: bytes):
        super().__init__()
        self.body, self.raw = body, raw
        self.call: Any = None  # the request, once it was let in


@dataclass(frozen=True)
class BodyLimit:
    """How many bytes a path takes, and what to do about more."""

    largest: int
    words: str

    def check(self, size: int) -> None:
        """Raise Problem 413 when this is too much."""
        if size > self.largest:
            raise Problem(413, f"the body may have at most {self.largest} bytes{self.words}")


def limits(contract: Contract) -> dict[str, BodyLimit]:
    """The limit of each path that takes a body. One row and one outcome are small, so that nobody can send much in vain."""
    batch = BodyLimit(LARGEST_BODY, "; send fewer rows at once")
    row = min(LARGEST_BODY, max(LARGEST_ROW, FEW + sum(_room(column) for column in contract.inputs)))
    longest = max((len(json.dumps(name)) for name in contract.classes), default=0)
    return {
        "/predict": BodyLimit(row, f" for one row; /predict/batch takes {LARGEST_BODY} bytes, one row or many"),
        "/predict/batch": batch,
        "/invocations": batch,
        "/feedback": BodyLimit(FEW + longest, " for one outcome; send one request for each"),
    }


def _room(column: Input) -> int:
    """Bytes that a column may need in a row by name."""
    if column.values is not None:
        value = max((len(json.dumps(value)) for value in column.values), default=0)
    else:
        value = TEXT if column.type == "text" else 0
    return len(json.dumps(column.name)) + value + NUMBER


async def receive_body(
    declared: int, receive: Callable[[], Awaitable[Any]], limit: BodyLimit, take: Callable[[int], None]
) -> bytes:
    """The bytes of a request whose header declares so many; raises Problem 413, or Disconnected.

    `take` is told of each piece of a body that is not small, and may raise a Problem as well.
    """
    limit.check(declared)
    chunks: list[bytes] = []
    size, taken = 0, 0
    message = await receive()
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        limit.check(size)  # a chunked body declares no length
        if size > SMALL:
            take(size - taken)
            taken = size
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise Disconnected


def parse_body(raw: bytes, names: Collection[str] = (), one: bool = False) -> Body:
    """The fields of a body, for a model whose features have these names; raises Problem 400 or 422.

    Where it is for one row, it may ask for an explanation.
    """
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise Problem(
            422, f'the body must be an object like {{"features": …}}, not {shown(body)}{other_forms.of_list(body)}'
        )
    if "features" not in body:
        raise Problem(422, f"the body has no 'features'{other_forms.of_object(body, names)}")
    if EXPLAIN in body and not one:
        raise Problem(422, f"{EXPLAIN} is for one row; /predict takes it")
    explain = body.pop(EXPLAIN, False)
    if not isinstance(explain, bool):
        raise Problem(422, f"{EXPLAIN} is {shown(explain)}, allowed are true and false")
    if unknown := body.keys() - set(FIELDS):
        fields = (*FIELDS, *([EXPLAIN] if one else []))
        raise Problem(422, f"the body has an unknown field {shown(min(unknown))}; it takes {', '.join(fields)}")
    given = body.get("request_id")
    if given is not None and (not isinstance(given, str) or not re.fullmatch(REQUEST_ID, given)):
        raise Problem(422, f"request_id is {shown(given)}, allowed are 1 to 128 visible ASCII characters")
    subject = body.get("subject")
    if subject is not None and (not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT):
        raise Problem(422, f"subject is {shown(subject)}, allowed are 1 to {LONGEST_SUBJECT} characters")
    return Body(body["features"], given, subject, explain=explain)


def check_batch(features: Any) -> None:
    """Raise Problem 422 unless these are rows, neither none nor too many."""
    if not isinstance(features, list):
        raise Problem(422, f"features must be a list of rows, not {shown(features)}")
    check_number(len(features))


def check_number(rows: int) -> None:
    """Raise Problem 422 for no row, or too many."""
    if not 1 <= rows <= LARGEST_BATCH:
        raise Problem(422, f"{rows} rows were given, allowed are 1 to {LARGEST_BATCH}")


def parse_json(raw: bytes) -> Any:
    """The value that a body spells; raises Problem 400."""
    try:
        return json.loads(raw) if len(raw) <= STEPWISE else _stepwise(raw)
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError):
        # A number of more than 4,300 digits, or lists a thousand deep: valid JSON that Python does not read.
        raise Problem(400, "the body is not JSON that can be read: a number too long, lists too deep") from None


def _stepwise(raw: bytes) -> Any:
    """The same by the parser of the standard library that is written in Python.

    The one written in C lets no other thread run until it is done, which a body made for it delays by seconds. Only bodies
    come here that msgspec has refused or that have an unusual form.
    """
    parts = 0

    def counted(parse: Callable) -> Callable:
        def count(*args: Any) -> Any:
            nonlocal parts
            parts += 1
            if parts > MOST_PARTS:  # the collector of garbage looks at all of them, again and again
                raise Problem(
                    422, f"the body has more than {MOST_PARTS} lists and objects, allowed are 1 to {LARGEST_BATCH} rows"
                )
            return parse(*args)

        return count

    decoder = json.JSONDecoder()
    decoder.parse_array = counted(json.decoder.JSONArray)  # type: ignore[attr-defined]  # what the scanner is made of
    decoder.parse_object = counted(json.decoder.JSONObject)  # type: ignore[attr-defined]
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
