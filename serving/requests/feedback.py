"""What turned out to be true: POST /feedback, for a request that was answered before."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from serving.model.contract import Contract
from serving.model.features import LARGEST, is_number, listed, shown
from serving.problems import Problem
from serving.requests.body import LARGEST_BATCH, parse_json
from serving.requests.request_ids import REQUEST_ID, RequestId

FIELDS = {"request_id", "outcome", "row"}


def feedback_type(contract: Contract, name: str, row: Any = msgspec.NODEFAULT) -> type[msgspec.Struct]:
    """The type of what is told, called so, for the document; `row` is what stands for it when it is left out."""
    limit, target = LARGEST["float64"], f"What {contract.target} turned out to be."
    number = Annotated[float, Meta(ge=-limit, le=limit, description=target)]
    label = Annotated[str, Meta(description=target, extra_json_schema={"enum": contract.classes})]
    place = Meta(ge=0, le=LARGEST_BATCH - 1, description="Which row of a batch, counting from 0.")
    about = Meta(description="The request_id of the answer that this is about.")
    fields: list[tuple[str, Any, Any]] = [
        ("request_id", Annotated[RequestId, about], msgspec.NODEFAULT),
        ("outcome", number if contract.task == "regression" else label, msgspec.NODEFAULT),
        ("row", Annotated[int, place], row),
    ]
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def read_feedback(contract: Contract, raw: bytes) -> tuple[str, int, Any]:
    """Request id, row (0 for a request of one row) and outcome of a body; raises Problem 400 or 422."""
    body = parse_json(raw)
    if not isinstance(body, dict):
        raise Problem(422, f'the body must be an object like {{"request_id": …, "outcome": …}}, not {shown(body)}')
    if unknown := body.keys() - FIELDS:
        raise Problem(422, f"the body has an unknown field {shown(min(unknown))}; it takes request_id, outcome and row")
    if missing := {"request_id", "outcome"} - body.keys():
        raise Problem(422, f"the body has no {min(missing)!r}")
    request_id, row, outcome = body["request_id"], body.get("row", 0), body["outcome"]
    if not isinstance(request_id, str) or not re.fullmatch(REQUEST_ID, request_id):
        raise Problem(422, f"request_id is {shown(request_id)}, allowed are 1 to 128 visible ASCII characters")
    if not is_number(row) or row != row // 1 or not 0 <= row < LARGEST_BATCH:
        raise Problem(422, f"row is {shown(row)}, allowed is a whole number from 0 to {LARGEST_BATCH - 1}")
    if contract.task == "regression":
        if not is_number(outcome) or not abs(outcome) <= LARGEST["float64"]:
            raise Problem(422, f"outcome is {shown(outcome)}, allowed is a finite number")
    elif outcome not in contract.classes:
        raise Problem(422, f"outcome is {shown(outcome)}, allowed is one of {listed(contract.classes)}")
    return request_id, int(row), outcome
