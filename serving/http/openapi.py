"""The OpenAPI document of this very service: its model's features and classes, its keys, and every answer it can give.

What fits the document is accepted, and what does not is refused; the tests hold the service to it with random requests.
"""

import csv
import io
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.config import Config
from serving.http import schemas
from serving.http.schemas import Schema, ref
from serving.model.contract import Contract
from serving.model.predictor import Answer
from serving.problems import MEDIA_TYPE
from serving.requests.body import LARGEST_BODY

JSON, CSV, TEXT = "application/json", "text/csv", "text/plain"
SCOPED = {"/metrics": "metrics", "/admin/status": "admin"}
TEXTS = {
    "/ping": ("\n", "An empty line."),
    "/version": ("3.17.0", "The version."),
    "/metrics": ('slipway_requests_total{path="/predict",status="200"} 1.0\n', "The metrics."),
}
READY = ("/readyz", "/ping")  # they ask the model

TAGS = {
    "Predictions": "Ask the model, and tell what turned out to be true.",
    "Model": "Which model this is.",
    "Checks": "Whether the service answers, for people and for what watches it.",
    "Operation": "Metrics and set-up.",
}
GROUPS = {
    "Predictions": ("/predict", "/predict/batch", "/invocations", "/feedback"),
    "Model": ("/model/info", "/version"),
    "Checks": ("/health", "/healthz", "/readyz", "/ping"),
    "Operation": ("/metrics", "/admin/status"),
}

PROBLEMS = {
    "400": "The body is not JSON (or CSV).",
    "401": "A key is needed, or the key is not known.",
    "403": "The key lacks the scope that is needed.",
    "405": "The path takes another method, which Allow names.",
    "413": f"The body is larger than the path takes: {LARGEST_BODY:,} bytes for a batch, less for one row or one outcome.",
    "415": "The body is compressed, or neither JSON nor CSV.",
    "422": "A field or feature is missing, unknown, of the wrong type or out of range, which the answer names; or the "
    "model has no finite answer for these values, which can happen with numbers near the largest that there are.",
    "429": "This caller asks too often.",
    "500": "The service failed; the request is not at fault.",
    "503": "The model does not answer.",
}
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": ("The caller's, when it is 1 to 128 visible ASCII characters, else a new one.", schemas.REQUEST_ID),
    "WWW-Authenticate": ("How to show a key.", {"const": "Bearer"}),
    "Allow": ("What the path takes.", {"enum": ["GET, HEAD", "POST"]}),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
}
SENT_WITH = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After"}


def document(app: FastAPI, contract: Contract, answer: Answer, version: str, config: Config) -> Schema:
    """The document of this app as it is configured; `answer` is what the model says to the contract's example row."""
    base = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    for path, schema in schemas.about(contract).items():
        base["paths"][path]["get"]["responses"] = {"200": _good("What is asked for.", {JSON: {"schema": schema}})}
    for path, (example, words) in TEXTS.items():
        text = {TEXT: {"schema": schemas.TEXT, "example": example}}
        base["paths"][path]["get"]["responses"] = {"200": _good(words, text)}
    for path in READY:
        base["paths"][path]["get"]["responses"]["503"] = _bad("503")
    for path, operation in _predictions(contract, answer, version).items():
        base["paths"][path] = {"post": operation}
    if config.database:
        base["paths"]["/feedback"] = {"post": _feedback(contract)}
        for path in ("/predict", "/predict/batch"):
            base["paths"][path]["post"]["responses"]["200"]["links"] = {"feedback": _link(contract)}
    for path, operations in base["paths"].items():
        for method, operation in operations.items():
            _complete(path, method, operation, config)
    answers = {
        status for operations in base["paths"].values() for one in operations.values() for status in one["responses"]
    }
    base["components"] = _components(contract, config, answers)
    base["tags"] = [{"name": name, "description": words} for name, words in TAGS.items()]
    order = [path for paths in GROUPS.values() for path in paths]
    base["paths"] = {path: base["paths"][path] for path in order if path in base["paths"]}
    return base


def _predictions(contract: Contract, answer: Answer, version: str) -> Schema:
    common = {"model_version": version, "request_id": "b2a7c0", "latency_ms": 0.21}
    named = {column.name: column.example for column in contract.inputs}
    plain = [answer["value"] if "value" in answer else answer["class_id"]]
    forms = {
        "dataframe_split": {"columns": list(named), "data": [contract.example]},
        "dataframe_records": [named],
        "instances": [contract.example],
        "inputs": {name: [value] for name, value in named.items()},
    }
    mlflow = _post(
        "Predict rows as clients of `mlflow models serve` send them; a class is answered by its number.",
        schemas.invocation(contract),
        {form: {form: rows} for form, rows in forms.items()},
        schemas.invocation_answer(contract),
        {"predictions": plain},
    )
    mlflow["requestBody"]["content"][CSV] = {
        "schema": {"type": "string", "description": "A line of names in any order, then a line for each row."},
        "examples": {"one row": {"value": _csv(named)}},
    }
    mlflow["responses"]["415"] = _bad("415")
    return {
        "/predict": _post(
            "Predict one row, given as a list in contract order or as an object {name: value}.",
            schemas.request(ref("Row")),
            {"by name": {"features": named}, "as a list": {"features": contract.example}},
            ref("Prediction"),
            {**answer, **common},
        ),
        "/predict/batch": _post(
            "Predict up to 10,000 rows at once; one wrong row refuses the whole batch and is named.",
            schemas.request(schemas.many(ref("Row"))),
            {"two rows": {"features": [contract.example, named], "request_id": "b2a7c0"}},
            ref("Predictions"),
            {"predictions": [answer, answer], **common},
        ),
        "/invocations": mlflow,
    }


def _feedback(contract: Contract) -> Schema:
    given = {"request_id": "b2a7c0", "outcome": _outcome(contract)}
    return _post(
        "Say what turned out to be true for a request that was answered before.",
        schemas.feedback(contract),
        {"one row": given, "a row of a batch": {**given, "row": 1}},
        schemas.feedback_answer(contract),
        {**given, "row": 0},
    )


def _link(contract: Contract) -> Schema:
    """How feedback names an answer."""
    body = {"request_id": "$response.body#/request_id", "outcome": _outcome(contract)}
    return {"operationId": "feedback", "requestBody": body, "description": "Feedback names the request by its id."}


def _outcome(contract: Contract) -> Any:
    return contract.classes[0] if contract.classes else 12.5


def _post(does: str, taken: Schema, examples: dict[str, Any], given: Schema, answer: Schema) -> Schema:
    """An operation of the fast path, which the framework knows nothing of."""
    shown = {name: {"value": value} for name, value in examples.items()}
    return {
        "description": does,
        "requestBody": {"required": True, "content": {JSON: {"schema": taken, "examples": shown}}},
        "responses": {
            "200": _good("The answer.", {JSON: {"schema": given, "example": answer}}),
            **{status: _bad(status) for status in ("400", "413", "422")},
        },
    }


def _complete(path: str, method: str, operation: Schema, config: Config) -> None:
    """Add what each operation has: names, keys, the header that names a request, and the problems that all share."""
    operation["tags"] = [next(tag for tag, paths in GROUPS.items() if path in paths)]
    operation["operationId"] = path.strip("/").replace("/", "_")
    operation["summary"] = path.strip("/").replace("/", " ").capitalize()
    operation["parameters"] = [{"$ref": "#/components/parameters/RequestId"}]
    scope = "predict" if method == "post" else SCOPED.get(path)
    statuses = ["405", "500"]
    if scope and not config.open:
        operation["security"] = [{"Key": [scope]}, {"Bearer": [scope]}]
        statuses += ["401", "403"]
    if method == "post" and (config.rate_limit or config.rate_limit_bytes):
        statuses.append("429")
    responses = {**operation["responses"], **{status: _bad(status) for status in statuses}}
    operation["responses"] = dict(sorted(responses.items()))


def _components(contract: Contract, config: Config, answers: set[str]) -> Schema:
    name = {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "The answer carries it again when it is 1 to 128 visible ASCII characters; any other is left out.",
        "schema": schemas.TEXT,
        "example": "b2a7c0",
    }
    problem = {MEDIA_TYPE: {"schema": ref("Problem")}}
    made: Schema = {
        "schemas": schemas.components(contract),
        "parameters": {"RequestId": name},
        "headers": {
            title: {"description": words, "required": True, "schema": schema}
            for title, (words, schema) in HEADERS.items()
            if title == "X-Request-ID" or any(SENT_WITH.get(status) == title for status in answers)
        },
        "responses": {
            f"Problem{status}": {"description": words, "headers": _headers(status), "content": problem}
            for status, words in PROBLEMS.items()
            if status in answers
        },
    }
    if not config.open:
        words = "A key of `python -m serving.access.keys`. Its scopes say what it opens: predict, metrics, admin."
        made["securitySchemes"] = {
            "Key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": words},
            "Bearer": {"type": "http", "scheme": "bearer", "description": words},
        }
    return made


def _good(words: str, content: Schema) -> Schema:
    return {"description": words, "headers": _headers("200"), "content": content}


def _bad(status: str) -> Schema:
    return {"$ref": f"#/components/responses/Problem{status}"}


def _headers(status: str) -> Schema:
    names = ["X-Request-ID", *([SENT_WITH[status]] if status in SENT_WITH else [])]
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _csv(row: dict[str, Any]) -> str:
    """A CSV of one row."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([row.keys(), row.values()])
    return lines.getvalue()
