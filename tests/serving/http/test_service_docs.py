"""The OpenAPI document describes the served model and the service's settings, and its examples work."""

import math
import re
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

import jsonschema
import pytest

from serving.http.endpoints import GETS
from tests.serving.bundles import KINDS, change, make_bundle, read, with_rules
from tests.serving.service import HEADERS, serving, with_keys

POSTS = {"/predict", "/predict/batch", "/invocations"}
PATHS = {endpoint.path for endpoint in GETS}


@dataclass(frozen=True)
class Documented:
    """A service, its document, and the headers that its clients must send."""

    service: object
    document: dict
    headers: dict

    def operations(self):
        """Every path, method and operation."""
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield path, method, operation

    def is_valid(self, schema, value):
        """Whether a value matches a schema of the document."""
        whole = {**schema, "components": self.document["components"]}
        return jsonschema.Draft202012Validator(whole).is_valid(value)

    def ask(self, path, method, content_type=None, body=None):
        """Send a documented request."""
        headers = {**self.headers, **({"Content-Type": content_type} if content_type else {})}
        how = {"json": body} if content_type == "application/json" else {"data": body and body.encode()}
        return self.service.session.request(method, self.service.url + path, headers=headers, timeout=20, **how)


@pytest.fixture(scope="module")
def with_all(tmp_path_factory):
    """A service with keys and a prediction log, for a kind of model."""
    with ExitStack() as running:

        @cache
        def start(kind):
            folder = tmp_path_factory.mktemp("keyed")
            service = running.enter_context(serving(make_bundle(kind, folder / "bundle"), **with_keys(folder)))
            return Documented(service, service.get("/openapi.json").json(), HEADERS)

        yield start


@pytest.fixture(params=KINDS)
def keyed(request, with_all):
    """Each kind of model in a service with keys and a prediction log."""
    return with_all(request.param)


@pytest.fixture(params=KINDS)
def bare(request):
    """Each kind of model in a service with default settings."""
    service = request.getfixturevalue(request.param)
    return Documented(service, service.get("/openapi.json").json(), {})


@pytest.fixture(params=[(kind, keys) for kind in KINDS for keys in ("open", "keys")], ids="-".join)
def documented(request, with_all):
    """Each kind of model, with and without keys."""
    kind, keys = request.param
    if keys == "keys":
        return with_all(kind)
    service = request.getfixturevalue(kind)
    return Documented(service, service.get("/openapi.json").json(), {})


def _examples(operation):
    for content_type, content in operation.get("requestBody", {"content": {}})["content"].items():
        for example in content["examples"].values():
            yield content_type, content["schema"], example["value"]
    if "requestBody" not in operation:
        yield None, {}, None


def test_every_example_gets_the_documented_response(documented):
    """Each documented request matches its schema and gets 200, with a body and headers that match theirs."""
    for path, method, operation in documented.operations():
        good = operation["responses"]["200"]
        (content_type, content), *_ = good["content"].items()
        for given, schema, body in _examples(operation):
            assert documented.is_valid(schema, body), (path, body)
            answer = documented.ask(path, method, given, body)
            assert answer.status_code == 200, (path, body, answer.text)
            assert answer.headers["content-type"].split(";")[0] == content_type
            assert {name.lower() for name in good["headers"]} <= {name.lower() for name in answer.headers}
            said = answer.json() if content_type == "application/json" else answer.text
            assert documented.is_valid(content["schema"], said), (path, said)


def test_example_response_is_the_real_one(documented):
    """A documented response matches its schema, and is the model's answer to the documented request."""
    changing = {"request_id": None, "latency_ms": None}
    for path, method, operation in documented.operations():
        if method == "post":
            content = operation["responses"]["200"]["content"]["application/json"]
            assert documented.is_valid(content["schema"], content["example"]), path
            given, _, body = next(iter(_examples(operation)))
            answer = documented.ask(path, method, given, body).json()
            if path == "/predict/batch":
                assert answer["predictions"] == content["example"]["predictions"]
            else:
                assert answer | changing == content["example"] | changing


def test_threshold_and_rules_are_documented_as_they_decide(tmp_path):
    """The document states the threshold and lists the rules; its example is the real answer, and every answer fits its schema."""
    folder = make_bundle("binary", tmp_path / "bundle")
    negative, positive = read(folder, "contract.json")["classes"]
    cut = 0.3
    golden = read(folder, "golden.json")
    for one in golden["expected"]:
        one["label"] = positive if one["probabilities"][1] >= cut else negative
    change(folder, "contract.json", labels="threshold", threshold=cut, positive=positive)
    change(folder, "golden.json", **golden)
    text = f"def heavy(row): return {positive!r} if row['mass'] > 99 else None\nBEFORE = [heavy]"
    with serving(with_rules(folder, text, ["heavy"]), **with_keys(tmp_path)) as service:
        documented = Documented(service, service.get("/openapi.json").json(), HEADERS)
        assert (
            f"A row is {positive} when its probability is at least 0.3." in documented.document["info"]["description"]
        )
        schema = documented.document["components"]["schemas"]["Prediction"]
        assert schema["properties"]["rule"]["enum"] == ["heavy"]
        test_every_example_gets_the_documented_response(documented)
        test_example_response_is_the_real_one(documented)
        by_model = documented.ask("/predict", "post", "application/json", {"features": service.example}).json()
        by_rule = documented.ask(
            "/predict", "post", "application/json", {"features": {**service.example, "mass": 99.5}}
        ).json()
        assert documented.is_valid(schema, by_model) and "rule" not in by_model
        assert documented.is_valid(schema, by_rule) and by_rule["rule"] == "heavy"


def test_references_resolve(documented):
    """Each $ref of the document names one of its components, and every component is used."""
    named = set(re.findall(r"'\$ref': '#/components/([^']+)'", str(documented.document)))
    components = documented.document["components"]
    schemes = {"securitySchemes"} & components.keys()
    there = {f"{kind}/{name}" for kind in components.keys() - schemes for name in components[kind]}
    assert named == there


def test_only_enforced_rules_are_documented(bare, keyed):
    """Keys and their errors are in the document only if the service has keys, feedback only if it has a log."""
    assert "securitySchemes" not in bare.document["components"]
    assert set(bare.document["paths"]) == {*POSTS, *PATHS}
    assert set(keyed.document["paths"]) == {*POSTS, *PATHS, "/feedback"}
    assert bare.ask("/feedback", "post", "application/json", {"request_id": "a", "outcome": 1}).status_code == 404
    for path, _, operation in bare.operations():
        assert "security" not in operation and not {"401", "403"} & operation["responses"].keys(), path
    limited = {path for path, _, operation in bare.operations() if "429" in operation["responses"]}
    assert limited == POSTS  # 1,000 requests a second, unless SLIPWAY_RATE_LIMIT says 0
    limited = {path for path, _, operation in keyed.operations() if "429" in operation["responses"]}
    assert limited == {"/predict"}  # without a limit of requests, explanations still have one


def test_enforced_keys_are_documented(keyed):
    """Exactly the operations with `security` refuse a request without a key."""
    for path, method, operation in keyed.operations():
        given, _, body = next(iter(_examples(operation)))
        bare = Documented(keyed.service, keyed.document, {})
        refused = bare.ask(path, method, given, body).status_code == 401
        assert refused == ("security" in operation) == ("401" in operation["responses"]), path


def test_schema_and_service_agree(bare):
    """What the schema allows is answered, what it forbids is refused."""
    service, example = bare.service, bare.service.example
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
        *({"features": example, "request_id": name} for name in (None, "", "a" * 128, "a" * 129, "a b", 1)),
        *({"features": example, "subject": name} for name in (None, "", "ä" * 256, "ä" * 257, 1)),
    ]
    for column in service.contract["inputs"]:
        for key, step in (("minimum", -1), ("maximum", 1)):
            if column[key] is not None:
                bodies.append({"features": {**example, column["name"]: column[key]}})
                bodies.append({"features": {**example, column["name"]: column[key] + step}})
        for value in (None, "", True, 0, 1, 1.0, 2, "red", "unseen"):
            bodies.append({"features": {**example, column["name"]: value}})
    schema = bare.document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for body in bodies:
        status = service.post("/predict", body).status_code
        assert status == (200 if bare.is_valid(schema, body) else 422), body


def test_largest_number_is_documented(binary):
    """A number without limits has those of the model's type: the largest is accepted, the next one refused."""
    tilt = binary.get("/openapi.json").json()["components"]["schemas"]["Features"]["properties"]["tilt"]
    assert tilt["minimum"] == -tilt["maximum"]
    for value in (tilt["minimum"], tilt["maximum"]):
        assert binary.predict({**binary.example, "tilt": value}).status_code == 200
        beyond = math.nextafter(value, math.copysign(math.inf, value))
        assert binary.predict({**binary.example, "tilt": beyond}).status_code == 422


def test_features_are_described(columns):
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


def test_classes_are_described(multiclass):
    """Labels and probabilities are documented with the names of the classes."""
    prediction = multiclass.get("/openapi.json").json()["components"]["schemas"]["Prediction"]["properties"]
    assert prediction["label"]["enum"] == multiclass.contract["classes"]
    assert prediction["class_id"]["maximum"] == 2
    assert prediction["probabilities"]["required"] == multiclass.contract["classes"]


def test_observed_range_is_documented_but_not_a_limit(binary):
    """The observed range is a description, only a limit is a limit."""
    features = binary.get("/openapi.json").json()["components"]["schemas"]["Features"]["properties"]
    assert features["mass"]["description"].endswith("In training it went from 0.5 to 80.")
    assert (features["mass"]["minimum"], features["mass"]["maximum"]) == (0, 100)
    assert features["sold"]["enum"] == [False, True, 0, 1]


def test_operations_are_grouped_with_predictions_first(bare):
    """Each operation has one group; groups and paths have this order, the model before monitoring."""
    document = bare.document
    groups = [next(iter(operations.values()))["tags"] for operations in document["paths"].values()]
    assert all(len(tags) == 1 for tags in groups) and next(iter(document["paths"])) == "/predict"
    assert list(dict.fromkeys(tags[0] for tags in groups)) == [tag["name"] for tag in document["tags"]]
    assert all(tag["description"] for tag in document["tags"])


def test_every_endpoint_is_documented(bare):
    """Each operation has its own sentence and name, and the page shows them."""
    names = []
    for _, _, operation in bare.operations():
        assert operation["description"]
        names.append(operation["operationId"])
    assert len(set(names)) == len(names)
    info = bare.document["info"]
    assert (info["title"], info["version"]) == (bare.service.contract["name"], "3")
    page = bare.service.get("/docs")
    assert page.status_code == 200 and "/openapi.json" in page.text
