"""The OpenAPI document of this very service: its model's features and classes, its keys, and every answer it can give.

Its schemas are those of the types that read requests and write answers. What fits the document is accepted, and what does not is
refused; the tests hold the service to it with random requests.
"""

import csv
import io
from collections.abc import Sequence
from typing import Any

from serving.config import Config
from serving.experiment.experiment import Experiment
from serving.http import answers, schemas
from serving.http.endpoints import GETS, GROUPS, POSTS, Endpoint
from serving.http.schemas import Schema, ref
from serving.model.bundle import BundleRelease
from serving.model.contract import Contract
from serving.model.predictor import Answer
from serving.problems import MEDIA_TYPE
from serving.requests.body import EXPLAIN, LARGEST_BODY

JSON, CSV, TEXT = "application/json", "text/csv", "text/plain"
TEXTS = {
    "/ping": ("\n", "An empty line."),
    "/version": ("3.17.0", "The version."),
    "/metrics": ('slipway_requests_total{path="/predict",status="200"} 1.0\n', "The metrics."),
}
READY = ("/readyz", "/ping")  # they ask the model

PROBLEMS = {
    "400": "The body is not JSON (or CSV).",
    "401": "A key is needed, or the key is not known.",
    "403": "The key lacks the scope that is needed.",
    "405": "The path takes another method, which Allow names.",
    "413": f"The body is larger than the path takes: {LARGEST_BODY:,} bytes for a batch, less for one row or one outcome.",
    "415": "The body is compressed, or neither JSON nor CSV.",
    "422": "A field or feature is missing, unknown, of the wrong type or out of range, which the answer names; or the "
    "model has no finite answer for these values, which can happen with numbers near the largest that there are.",
    "429": "This caller asks too often, or too many explanations are asked for at once.",
    "500": "The service failed; the request is not at fault.",
    "503": "The model does not answer.",
}
HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Request-ID": ("The caller's, when it is 1 to 128 visible ASCII characters, else a new one.", schemas.REQUEST_ID),
    "WWW-Authenticate": ("How to show a key.", {"const": "Bearer"}),
    "Allow": ("What the path takes.", {"enum": ["GET, HEAD", "POST"]}),
    "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 1}),
    "X-Experiment": (
        "For a request with a subject: the experiment that it belongs to, and the variant that answered, A or B.",
        {"type": "string", "pattern": "^[a-z0-9-]+=[AB]$"},
    ),
}
SENT_WITH = {"401": "WWW-Authenticate", "405": "Allow", "429": "Retry-After"}


def document(
    contract: Contract,
    answer: Answer,
    release: BundleRelease,
    config: Config,
    experiment: Experiment | None = None,
    explains: bool = False,
    rules: Sequence[str] = (),
) -> Schema:
    """The document of a service as it is configured; `answer` is what the model says to the contract's example row.

    `rules` are the names of the rules that may decide.
    """
    about = f"Predicts {contract.target} ({contract.task})."
    if contract.threshold is not None:
        about += f" A row is {contract.positive} when its probability is at least {contract.threshold:g}."
    posts = _posts(contract, answer, release.version, config, explains)
    if split := experiment is not None and experiment.mode == "ab":
        for path in ("/predict", "/predict/batch"):
            posts[path]["responses"]["200"]["headers"]["X-Experiment"] = _header("X-Experiment")
    endpoints = [endpoint for endpoint in (*POSTS, *GETS) if endpoint.method == "get" or endpoint.path in posts]
    paths = {
        one.path: {one.method: _operation(one, posts.get(one.path) or _get(one.path), config)} for one in endpoints
    }
    given = {status for methods in paths.values() for one in methods.values() for status in one["responses"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": release.name, "description": about, "version": release.version},
        "paths": paths,
        "components": _components(contract, config, given, split, experiment is not None, explains, rules),
        "tags": [{"name": name, "description": words} for name, words in GROUPS.items()],
    }


def _operation(endpoint: Endpoint, own: Schema, config: Config) -> Schema:
    """An operation: what is its own, and what all have, as names, keys, the header that names a request, and problems."""
    statuses = ["405", "500"]
    if guarded := bool(endpoint.scope) and not config.open:
        statuses += ["401", "403"]
    if endpoint.method == "post" and (config.rate_limit or config.rate_limit_bytes):
        statuses.append("429")
    return {
        "tags": [endpoint.group],
        "summary": endpoint.name.replace("_", " ").capitalize(),
        "description": endpoint.does,
        "operationId": endpoint.name,
        "parameters": [{"$ref": "#/components/parameters/RequestId"}],
        **own,
        "responses": dict(sorted({**own["responses"], **_bad(*statuses)}.items())),
        **({"security": [{"Key": [endpoint.scope]}, {"Bearer": [endpoint.scope]}]} if guarded else {}),
    }


def _get(path: str) -> Schema:
    if path in answers.ABOUT:
        good = _good("What is asked for.", {JSON: {"schema": ref(answers.ABOUT[path].__name__)}})
    else:
        example, words = TEXTS[path]
        good = _good(words, {TEXT: {"schema": {"type": "string"}, "example": example}})
    return {"responses": {"200": good, **(_bad("503") if path in READY else {})}}


def _posts(contract: Contract, answer: Answer, version: str, config: Config, explains: bool) -> dict[str, Schema]:
    """What is their own of the operations of the fast path."""
    named = {column.name: column.example for column in contract.inputs}
    tail = {"model_version": version, "request_id": "b2a7c0", "latency_ms": 0.21}
    one = {"by name": {"features": named}, "as a list": {"features": contract.example}}
    if explains:
        one["with an explanation"] = {"features": named, EXPLAIN: True}
    many = {"two rows": {"features": [contract.example, named], "request_id": "b2a7c0"}}
    forms = {
        "dataframe_split": {"columns": list(named), "data": [contract.example]},
        "dataframe_records": [named],
        "instances": [contract.example],
        "inputs": {name: [value] for name, value in named.items()},
    }
    plain = {"predictions": [answer["value"] if "value" in answer else answer["class_id"]]}
    posts = {
        "/predict": _post("Request", one, "Prediction", {**answer, **tail}),
        "/predict/batch": _post("Batch", many, "Predictions", {"predictions": [answer, answer], **tail}),
        "/invocations": _post("Invocation", {form: {form: forms[form]} for form in forms}, "Invoked", plain),
    }
    if explains:
        posts["/predict"]["responses"] |= _bad("429")
    posts["/invocations"]["responses"] |= _bad("415")
    posts["/invocations"]["requestBody"]["content"][CSV] = {
        "schema": {"type": "string", "description": "A line of names in any order, then a line for each row."},
        "examples": {"one row": {"value": _csv(named)}},
    }
    if config.database:
        told = {"request_id": "b2a7c0", "outcome": contract.classes[0] if contract.classes else 12.5}
        value = {"request_id": "b2a7c0", "value": 24.9}
        given = {"one row": told, "a row of a batch": {**told, "row": 1}, "what came of it": value}
        posts["/feedback"] = _post("Feedback", given, "FeedbackKept", {**told, "row": 0})
        body, words = {**told, "request_id": "$response.body#/request_id"}, "Feedback names the request by its id."
        for path in ("/predict", "/predict/batch"):
            link = {"operationId": "feedback", "requestBody": body, "description": words}
            posts[path]["responses"]["200"]["links"] = {"feedback": link}
    return posts


def _post(taken: str, examples: dict[str, Any], given: str, answer: Schema) -> Schema:
    shown = {name: {"value": value} for name, value in examples.items()}
    good = _good("The answer.", {JSON: {"schema": ref(given), "example": answer}})
    return {
        "requestBody": {"required": True, "content": {JSON: {"schema": ref(taken), "examples": shown}}},
        "responses": {"200": good, **_bad("400", "413", "422")},
    }


def _components(
    contract: Contract,
    config: Config,
    given: set[str],
    split: bool,
    experiment: bool,
    explains: bool,
    rules: Sequence[str],
) -> Schema:
    name = {
        "name": "X-Request-ID",
        "in": "header",
        "required": False,
        "description": "The answer carries it again when it is 1 to 128 visible ASCII characters; any other is left out.",
        "schema": {"type": "string"},
        "example": "b2a7c0",
    }
    sent = {"X-Request-ID", *(SENT_WITH[status] for status in given & SENT_WITH.keys())}
    sent |= {"X-Experiment"} if split else set()
    problem = {MEDIA_TYPE: {"schema": ref("Problem")}}
    made: Schema = {
        "schemas": schemas.components(contract, bool(config.database), experiment, explains, rules),
        "parameters": {"RequestId": name},
        "headers": {
            title: {"description": words, "required": title != "X-Experiment", "schema": schema}
            for title, (words, schema) in HEADERS.items()
            if title in sent
        },
        "responses": {
            f"Problem{status}": {"description": words, "headers": _headers(status), "content": problem}
            for status, words in PROBLEMS.items()
            if status in given
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


def _bad(*statuses: str) -> Schema:
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in statuses}


def _headers(status: str) -> Schema:
    names = ["X-Request-ID", *([SENT_WITH[status]] if status in SENT_WITH else [])]
    return {name: _header(name) for name in names}


def _header(name: str) -> Schema:
    return {"$ref": f"#/components/headers/{name}"}


def _csv(row: dict[str, Any]) -> str:
    """A CSV of one row."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([row.keys(), row.values()])
    return lines.getvalue()
