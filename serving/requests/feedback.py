"""What turned out to be true: POST /feedback, for a request that was answered before."""

import re
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serving.model.contract import Contract
from serving.model.features import LARGEST, is_number, listed, shown
from serving.problems import Problem
from serving.requests.body import LARGEST_BATCH, parse_json
from serving.requests.request_ids import REQUEST_ID, RequestId

FIELDS = {"request_id", "outcome", "value", "row"}


class Feedback(NamedTuple):
    """What is told of one row: its outcome, a value that it had, or both; None for what is not told."""

    request_id: str
    row: int
    outcome: Any
    value: float | None

    def kept(self) -> dict[str, Any]:
        """The answer to the caller: what was told."""
        return {name: given for name, given in self._asdict().items() if given is not None}


def feedback_type(contract: Contract, name: str, row: Any = msgspec.NODEFAULT) -> type[msgspec.Struct]:
    """The type of what is told, called so, for the document; `row` is what stands for it when it is left out.

    That the outcome or the value must be there, the document adds.
    """
    limit, target = LARGEST["float64"], f"What {contract.target} turned out to be."
    number = Annotated[float, Meta(ge=-limit, le=limit, description=target)]
    label = Annotated[str, Meta(description=target, extra_json_schema={"enum": contract.classes})]
    worth = "What came of the answer, as a number: revenue, minutes, 1 for a click. An experiment may compare it."
    value = Annotated[float, Meta(ge=-limit, le=limit, description=worth)]
    place = Meta(ge=0, le=LARGEST_BATCH - 1, description="Which row of a batch, counting from 0.")
    about = Meta(description="The request_id of the answer that this is about.")
    fields: list[tuple[str, Any, Any]] = [
        ("request_id", Annotated[RequestId, about], msgspec.NODEFAULT),
        ("outcome", (number if contract.task == "regression" else label) | UnsetType, UNSET),
        ("value", value | UnsetType, UNSET),
        ("row", Annotated[int, place], row),
    ]
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def read_feedback(contract: Contract, raw: bytes) -> Feedback:
    """What a body tells, of row 0 where it names none; raises Problem 400 or 422."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise Problem(422, f'the body must be an object like {{"request_id": …, "outcome": …}}, not {shown(body)}')
    if unknown := body.keys() - FIELDS:
        raise Problem(
            422, f"the body has an unknown field {shown(min(unknown))}; it takes request_id, outcome, value and row"
        )
    if not body.keys() & {"outcome", "value"}:
        raise Problem(422, "the body has no 'outcome' and no 'value'; one of them is needed")
    if "request_id" not in body:
        raise Problem(422, "the body has no 'request_id'")
    request_id, row = body["request_id"], body.get("row", 0)
    if not isinstance(request_id, str) or not re.fullmatch(REQUEST_ID, request_id):
        raise Problem(422, f"request_id is {shown(request_id)}, allowed are 1 to 128 visible ASCII characters")
    if not is_number(row) or row != row // 1 or not 0 <= row < LARGEST_BATCH:
        raise Problem(422, f"row is {shown(row)}, allowed is a whole number from 0 to {LARGEST_BATCH - 1}")
    outcome = _outcome(contract, body["outcome"]) if "outcome" in body else None
    value = float(_number("value", body["value"])) if "value" in body else None
    return Feedback(request_id, int(row), outcome, value)


def _outcome(contract: Contract, given: Any) -> Any:
    if contract.task == "regression":
        return _number("outcome", given)
    if given not in contract.classes:
        raise Problem(422, f"outcome is {shown(given)}, allowed is one of {listed(contract.classes)}")
    return given


def _number(name: str, given: Any) -> float:
    if not is_number(given) or not abs(given) <= LARGEST["float64"]:
        raise Problem(422, f"{name} is {shown(given)}, allowed is a finite number")
    return given
