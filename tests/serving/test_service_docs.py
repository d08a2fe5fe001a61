"""The OpenAPI document is about the served model, and its examples are true."""

import jsonschema
import pytest

from serving.app import PATHS


@pytest.fixture
def document(service):
    """The document of each kind of model."""
    return service.get("/openapi.json").json()


def _requests(document):
    for path in ("/predict", "/predict/batch"):
        yield path, document["paths"][path]["post"]


def test_every_example_answers_200(service, document):
    """Each documented request is answered, with the documented fields."""
    for path, operation in _requests(document):
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        documented = operation["responses"]["200"]["content"]["application/json"]["example"]
        for example in examples.values():
            response = service.post(path, example["value"])
            assert response.status_code == 200, response.text
            assert set(response.json()) == set(documented)


def test_the_example_answer_is_the_real_one(service, document):
    """The documented answer is what the model says to the documented request."""
    operation = document["paths"]["/predict"]["post"]
    documented = operation["responses"]["200"]["content"]["application/json"]["example"]
    answer = service.predict(service.example).json()
    changing = {"request_id": None, "latency_ms": None}
    assert answer | changing == documented | changing


def _is_valid(document, operation, body):
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    return validator.is_valid(body)


def test_schema_and_service_agree(service, document):
    """What the schema allows is answered, what it forbids is refused."""
    example = service.example
    first = service.contract["inputs"][0]["name"]
    bodies = [
        {"features": example},
        {"features": list(example.values()), "request_id": "a"},
        *({"features": row} for row in service.golden["inputs"]),
        {"features": {**example, first: "text"}},
        {"features": {**example, first: [1]}},
        {"features": {**example, "unknown": 1}},
        {"features": {name: value for name, value in example.items() if name != first}},
        {"features": list(example.values())[1:]},
        {"features": [*example.values(), 1]},
        {"features": example, "unknown": 1},
        {"features": None},
        {},
    ]
    for column in service.contract["inputs"]:
        for key, step in (("minimum", -1), ("maximum", 1)):
            if column[key] is not None:
                bodies.append({"features": {**example, column["name"]: column[key] + step}})
        bodies.append({"features": {**example, column["name"]: None}})
    operation = document["paths"]["/predict"]["post"]
    for body in bodies:
        status = service.post("/predict", body).status_code
        assert status == (200 if _is_valid(document, operation, body) else 422), body


def test_the_features_are_described(columns):
    """Names, types, ranges, values and examples are those of the contract."""
    features = columns.get("/openapi.json").json()["components"]["schemas"]["Features"]["properties"]
    assert features["age"] == {
        "type": ["number", "null"],
        "description": "Allowed is a number from 0 to 120 or null.",
        "examples": [30.5],
        "minimum": 0.0,
        "maximum": 120.0,
    }
    assert features["colour"]["enum"] == ["red", "green", "blue"]
    assert features["note"]["type"] == ["string", "null"]


def test_what_training_saw_is_told(binary):
    """The observed range is documentation, a limit is a limit."""
    features = binary.get("/openapi.json").json()["components"]["schemas"]["Features"]["properties"]
    assert features["mass"]["description"].endswith("In training it went from 0.5 to 80.")
    assert (features["mass"]["minimum"], features["mass"]["maximum"]) == (0, 100)
    assert "minimum" not in features["tilt"]
    assert features["sold"]["type"] == "boolean"


def test_every_endpoint_is_documented(service, document):
    """All paths stand in the document with a sentence, and the page shows it."""
    paths = {"/predict", "/predict/batch", "/invocations", *PATHS}
    assert set(document["paths"]) == paths
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["description"]
    assert (document["info"]["title"], document["info"]["version"]) == (service.contract["name"], "3")
    page = service.get("/docs")
    assert page.status_code == 200 and "/openapi.json" in page.text
