"""The documentation of the service is about this model, and true."""


def _operations(client):
    document = client("GET", "/openapi.json").json()
    return {path: document["paths"][path]["post"] for path in ("/predict", "/predict/batch")}


def test_every_documented_example_answers(client):
    """Each example request of /openapi.json answers 200."""
    for path, operation in _operations(client).items():
        examples = operation["requestBody"]["content"]["application/json"]["examples"]
        assert examples
        for example in examples.values():
            response = client("POST", path, json=example["value"])
            assert response.status_code == 200, response.text


def test_the_features_are_documented_by_name(client, contract):
    """The schema of a row has each feature of the contract, and no other."""
    features = client("GET", "/openapi.json").json()["components"]["schemas"]["Features"]
    assert list(features["properties"]) == [column["name"] for column in contract["inputs"]]
    assert features["additionalProperties"] is False


def test_the_documentation_can_be_read(client):
    """/docs is a page."""
    response = client("GET", "/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
