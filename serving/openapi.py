"""The OpenAPI document with the real features of the served model; its examples really answer 200."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.body import LARGEST_BATCH
from serving.contract import Contract, Input
from serving.predictor import Answer
from serving.problems import MEDIA_TYPE

Schema = dict[str, Any]

STATUS = {
    "400": "The body is not JSON.",
    "413": "The body is larger than 5 MB.",
    "422": "A feature is missing, unknown, of the wrong type or out of range; the answer names it.",
}


def document(app: FastAPI, contract: Contract, answer: Answer, version: str) -> Schema:
    """The document of this app; `answer` is what the model says to the contract's example row."""
    base = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    common = {"model_version": version, "request_id": "b2a7c0", "latency_ms": 0.21}
    named = {column.name: column.example for column in contract.inputs}
    _describe(
        base,
        "/predict",
        "Predict one row, given as a list in contract order or as an object {name: value}.",
        _request(_row(contract)),
        {"by name": {"features": named}, "as a list": {"features": contract.example}},
        {**answer, **common},
    )
    batch = {"type": "array", "items": _row(contract), "minItems": 1, "maxItems": LARGEST_BATCH}
    _describe(
        base,
        "/predict/batch",
        "Predict up to 10,000 rows at once; one wrong row refuses the whole batch and is named.",
        _request(batch),
        {"two rows": {"features": [contract.example, named]}},
        {"predictions": [answer, answer], **common},
    )
    _describe(
        base,
        "/invocations",
        "Predict rows as clients of `mlflow models serve` send them; a class is answered by its number.",
        _invocation(),
        {
            "dataframe_split": {"dataframe_split": {"columns": list(named), "data": [contract.example]}},
            "dataframe_records": {"dataframe_records": [named]},
            "instances": {"instances": [contract.example]},
            "inputs": {"inputs": {name: [value] for name, value in named.items()}},
        },
        {"predictions": [answer["value"] if "value" in answer else answer["class_id"]]},
    )
    base.setdefault("components", {}).setdefault("schemas", {}).update(_components(contract))
    return base


def _describe(base: Schema, path: str, does: str, request: Schema, examples: dict[str, Any], answer: Schema) -> None:
    """Add a path of the hot path, which the framework knows nothing of."""
    operation: Schema = {"summary": path.strip("/").replace("/", " ").capitalize(), "description": does}
    operation["operationId"] = path.strip("/").replace("/", "_")
    shown = {name: {"value": value} for name, value in examples.items()}
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": request, "examples": shown}},
    }
    base["paths"][path] = {"post": operation}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    operation["responses"] = {
        "200": {"description": "The prediction.", "content": {"application/json": {"example": answer}}},
        **{status: {"description": text, "content": problem} for status, text in STATUS.items()},
    }


def _request(features: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["features"],
        "additionalProperties": False,
        "properties": {
            "features": features,
            "request_id": {
                "type": ["string", "null"],
                "maxLength": 128,
                "description": "Comes back in the answer.",
            },
        },
    }


def _invocation() -> Schema:
    table: Schema = {"type": "object", "properties": {"columns": {"type": "array"}, "data": {"type": "array"}}}
    rows: Schema = {"type": "array", "items": {"type": ["object", "array", "number", "string", "boolean", "null"]}}
    forms = {
        "dataframe_split": table,
        "dataframe_records": {"type": "array", "items": {"type": "object"}},
        "instances": {"anyOf": [rows, {"type": "object"}]},
        "inputs": {"anyOf": [rows, {"type": "object"}]},
    }
    return {"type": "object", "properties": forms, "minProperties": 1}


def _row(contract: Contract) -> Schema:
    return {
        "anyOf": [
            {"$ref": "#/components/schemas/Features"},
            {
                "type": "array",
                "description": "The features in the order of the contract.",
                "prefixItems": [_value(column) for column in contract.inputs],
                "items": False,
                "minItems": len(contract.inputs),
            },
        ]
    }


def _components(contract: Contract) -> Schema:
    return {
        "Features": {
            "type": "object",
            "required": [column.name for column in contract.inputs],
            "additionalProperties": False,
            "properties": {column.name: _value(column) for column in contract.inputs},
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                "request_id": {"type": "string"},
                "errors": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "feature": {"type": "string"},
                            "row": {"type": "integer"},
                            "detail": {"type": "string"},
                        },
                    },
                },
            },
        },
    }


def _value(column: Input) -> Schema:
    """The JSON schema of one feature."""
    json_type = {"text": "string"}.get(column.type, column.type)
    schema: Schema = {
        "type": [json_type, "null"] if column.nullable else json_type,
        "description": f"Allowed is {column.allowed}.",
        "examples": [column.example],
    }
    if column.type in ("number", "integer"):
        limits = {"minimum": column.minimum, "maximum": column.maximum}
        schema |= {key: value for key, value in limits.items() if value is not None}
    if column.type == "boolean":
        schema["description"] += " 0 and 1 are read as false and true."
    if column.values is not None:
        schema["enum"] = [*column.values, *([None] if column.nullable else [])]
    if column.observed and column.observed.minimum is not None and column.observed.maximum is not None:
        seen = column.observed
        schema["description"] += f" In training it went from {seen.minimum:.12g} to {seen.maximum:.12g}."
    return schema
