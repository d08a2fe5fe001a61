"""JSON schemas of what the service takes and gives, made from the contract: what fits is accepted, the rest is refused."""

from collections.abc import Sequence
from typing import Any

import msgspec

from serving.access.keys import NAME, SCOPES
from serving.model.bundle import Release
from serving.model.contract import LARGEST, Contract, Input, Observed, listed
from serving.model.rows import MANY
from serving.model.unseen import Unseen
from serving.requests.body import LARGEST_BATCH, LONGEST_SUBJECT

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
POSITIVE: Schema = {"type": "number", "minimum": 0}
REQUEST_ID: Schema = {
    "type": "string",
    "pattern": "^[!-~]+$",
    "minLength": 1,
    "maxLength": 128,
    "examples": ["b2a7c0"],
}


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed(properties: Schema, required: Sequence[str] | None = None) -> Schema:
    """An object of these properties and no other; all are required, unless `required` names some."""
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "required": needed, "additionalProperties": False, "properties": properties}


def many(items: Schema, description: str = "") -> Schema:
    """As many as a batch may have."""
    words = {"description": description} if description else {}
    return {"type": "array", "items": items, "minItems": 1, "maxItems": LARGEST_BATCH, **words}


def components(contract: Contract) -> Schema:
    """The schemas that the paths refer to, by name."""
    _, made = msgspec.json.schema_components([Input, Observed], ref_template="#/components/schemas/{name}")
    tail = {
        "model_version": {**TEXT, "description": "The version of the model that answered."},
        "request_id": {**REQUEST_ID, "description": "That of the body, else of X-Request-ID, else a new one."},
        "latency_ms": {**POSITIVE, "description": "Milliseconds that the answer took."},
    }
    warned = {} if not Unseen(contract).columns else {"warnings": _warnings()}
    answer = _answer(contract)
    return {
        "Features": closed({column.name: feature(column, contract.largest) for column in contract.inputs}),
        "Row": {"anyOf": [ref("Features"), _list(contract)]},
        "Answer": closed(answer),
        "Prediction": closed({**answer, **tail, **warned}, [*answer, *tail]),
        "Predictions": closed(
            {"predictions": many(ref("Answer"), "One for each row, in order."), **tail, **warned},
            ["predictions", *tail],
        ),
        "Problem": _problem(),
        **{name: {**schema, "required": list(schema["properties"])} for name, schema in made.items()},
    }


def feature(column: Input, largest: float) -> Schema:
    """One feature of a row: what `Input.read` takes, for a model whose largest number is `largest`."""
    schema: Schema = {"description": f"Allowed is {column.allowed}.", "examples": [column.example]}
    json_type = {"text": "string"}.get(column.type, column.type)
    types, values = [json_type], column.values
    if column.type == "boolean":
        types = ["boolean", "integer"]
        values = [value for value in (False, True, 0, 1) if column.values is None or value in column.values]
        schema["description"] += " 0 and 1 are read as false and true."
    elif column.type in ("number", "integer"):
        schema |= column.bounds(largest)
    if column.nullable:
        types.append("null")
        values = values and [*values, None, *([""] if column.type == "text" else [])]
        schema["description"] += ' "" is null, too.' if column.type == "text" else ""
    schema["type"] = types if len(types) > 1 else json_type
    if values is not None:
        schema["enum"] = values
    seen = column.observed
    if seen and seen.minimum is not None and seen.maximum is not None:
        schema["description"] += f" In training it went from {seen.minimum:.12g} to {seen.maximum:.12g}."
    if seen and seen.values:
        schema["description"] += f" In training it was one of {listed(seen.values)}."
    return schema


def request(features: Schema) -> Schema:
    """The body of /predict or /predict/batch."""
    fields = {
        "features": features,
        "request_id": {
            **REQUEST_ID,
            "type": ["string", "null"],
            "description": "Comes back in the answer and its header; feedback names the request by it.",
        },
        "subject": {
            "type": ["string", "null"],
            "minLength": 1,
            "maxLength": LONGEST_SUBJECT,
            "description": "Whom the rows are about. Only a hash of it is kept, so that the records can be deleted.",
            "examples": ["customer-4711"],
        },
    }
    return closed(fields, ["features"])


def invocation(contract: Contract) -> Schema:
    """The JSON body of /invocations: one of MLflow's four forms."""
    rows = {"anyOf": [_rows(contract), _columns(contract)]}
    forms = {
        "dataframe_split": _split(contract),
        "dataframe_records": _rows(contract),
        "instances": rows,
        "inputs": rows,
    }
    params = {"description": "Taken and not used."}
    return {"oneOf": [closed({form: schema, "params": params}, [form]) for form, schema in forms.items()]}


def invocation_answer(contract: Contract) -> Schema:
    """The answer of /invocations."""
    answer = _answer(contract)
    return closed({"predictions": many(answer["value"] if "value" in answer else answer["class_id"])})


def feedback(contract: Contract) -> Schema:
    """The body of /feedback."""
    fields = _feedback(contract)
    return closed(fields, ["request_id", "outcome"])


def feedback_answer(contract: Contract) -> Schema:
    """The answer of /feedback."""
    return closed(_feedback(contract))


def about(contract: Contract) -> Schema:
    """The answer of each path that is no prediction, by path."""
    release = dict.fromkeys(Release.__struct_fields__, TEXT)
    model = {
        "task": {"enum": ["binary", "multiclass", "regression"]},
        "target": TEXT,
        "positive": {"type": ["string", "null"], "description": "The class whose probability counts; binary only."},
        "classes": {"type": "array", "items": TEXT},
        "inputs": {"type": "array", "items": ref("Input")},
    }
    uptime = {"uptime_seconds": POSITIVE}
    return {
        "/health": closed({"status": {"const": "ok"}, "model": TEXT, "version": TEXT, **uptime}),
        "/healthz": closed({"status": {"const": "alive"}}),
        "/readyz": closed({"status": {"const": "ready"}, "model_version": TEXT}),
        "/model/info": closed({**release, **model}),
        "/admin/status": closed({**release, **uptime, **_status()}),
    }


def _status() -> Schema:
    caller = closed(
        {
            "name": {**TEXT, "pattern": f"^{NAME}$"},
            "scopes": {"type": "array", "items": {"enum": list(SCOPES)}, "uniqueItems": True},
        }
    )
    nobody = "null where no keys are asked for."
    return {
        "workers": {"type": "integer", "minimum": 0},
        "callers": {"type": ["array", "null"], "items": caller, "description": f"Who has a key; {nobody}"},
        "rate_limit": {**POSITIVE, "description": "Requests a second that one caller may make; 0 is no limit."},
        "rate_limit_bytes": {**POSITIVE, "description": "Bytes a second that one caller may send; 0 is no limit."},
        "prediction_log": {"enum": ["sqlite", "postgres", "postgresql", None], "description": "Where it is kept."},
        "retention_days": {"type": ["number", "null"], "minimum": 0, "description": "For how long; 0 is for ever."},
    }


def _answer(contract: Contract) -> Schema:
    if contract.task == "regression":
        return {"value": {"type": "number", "description": f"The predicted {contract.target}."}}
    classes, last = contract.classes, len(contract.classes) - 1
    share = {"type": "number", "description": "From 0 to 1, but for rounding, as all of them add up to 1."}
    return {
        "label": {"enum": classes, "description": f"The predicted {contract.target}."},
        "class_id": {"type": "integer", "minimum": 0, "maximum": last, "description": "The label's place in classes."},
        "probabilities": closed(dict.fromkeys(classes, share)),
    }


def _feedback(contract: Contract) -> Schema:
    limit = LARGEST["float64"]
    number = {"type": "number", "minimum": -limit, "maximum": limit}
    outcome = number if contract.task == "regression" else {"enum": contract.classes}
    return {
        "request_id": {**REQUEST_ID, "description": "The request_id of the answer that this is about."},
        "outcome": {**outcome, "description": f"What {contract.target} turned out to be."},
        "row": {
            "type": "integer",
            "minimum": 0,
            "maximum": LARGEST_BATCH - 1,
            "default": 0,
            "description": "Which row of a batch, counting from 0.",
        },
    }


def _list(contract: Contract) -> Schema:
    """A row as a list."""
    return {
        "type": "array",
        "description": "The features in the order of the contract.",
        "prefixItems": [feature(column, contract.largest) for column in contract.inputs],
        "items": False,
        "minItems": len(contract.inputs),
    }


def _rows(contract: Contract) -> Schema:
    """Rows of /invocations, by name or as lists."""
    forms = [_record(contract), _list(contract)]
    if len(contract.inputs) == 1:
        forms.append(feature(contract.inputs[0], contract.largest))
    return many({"anyOf": forms})


def _columns(contract: Contract) -> Schema:
    """Rows as a list for each name; a value alone is a list of one."""
    record = _record(contract)
    return {
        **record,
        "description": "Each name has the same number of values, unknown ones, too.",
        "properties": {name: {"anyOf": [one, many(one)]} for name, one in record["properties"].items()},
        "additionalProperties": {"minItems": 1, "maxItems": LARGEST_BATCH},
        "minProperties": 1,
    }


def _record(contract: Contract) -> Schema:
    """A row by name: unknown names are left out, as is what may be null."""
    one = {column.name: feature(column, contract.largest) for column in contract.inputs}
    needed = [column.name for column in contract.inputs if not column.nullable]
    return {"type": "object", "properties": one, **({"required": needed} if needed else {})}


def _split(contract: Contract) -> Schema:
    names = {
        "const": list(contract.names),
        "description": "They may come in another order, and unknown ones among them.",
    }
    bare = {
        "type": "object",
        "required": ["data"],
        "properties": {"columns": {"type": "null"}, "data": many(ref("Row"))},
    }
    full = {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {"columns": names, "data": many(_list(contract), "Rows in the order of columns.")},
    }
    return {"anyOf": [full, bare]}


def _warnings() -> Schema:
    warning = closed(
        {
            "feature": {**TEXT, "description": "The feature whose text the training never saw."},
            "row": {"type": "integer", "minimum": 0, "description": "The row of a batch, counting from 0."},
            "detail": TEXT,
        },
        ["feature", "detail"],
    )
    words = "What the model has answered without knowing it; only where there is any, and the first ten."
    return {"type": "array", "items": warning, "minItems": 1, "maxItems": MANY, "description": words}


def _problem() -> Schema:
    error = closed(
        {
            "feature": {**TEXT, "description": "The feature that is wrong."},
            "row": {"type": "integer", "minimum": 0, "description": "The row of a batch, counting from 0."},
            "detail": TEXT,
        },
        ["detail"],
    )
    fields = {
        "type": {"const": "about:blank"},
        "title": {**TEXT, "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**TEXT, "description": "What is wrong, and what is allowed."},
        "request_id": REQUEST_ID,
        "errors": {"type": "array", "items": error, "minItems": 1, "description": "Each fault of the row."},
    }
    return closed(fields, [name for name in fields if name != "errors"])
