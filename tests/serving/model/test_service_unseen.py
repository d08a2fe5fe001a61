"""Categories unseen in training are answered, reported and counted."""

import json

import jsonschema
import pytest

from tests.serving.bundles import change, make_bundle, read
from tests.serving.service import serving

SEEN = ["blue", "green", "red"]
ROW = {"age": 30.5, "colour": "red", "note": "red"}
WORDS = '"mauve" was not seen in training'


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A service whose contract lists the texts seen in training: for a column with declared values, and for a free one."""
    folder = make_bundle("columns", tmp_path_factory.mktemp("told") / "bundle")
    inputs = read(folder, "contract.json")["inputs"]
    inputs[1]["observed"] = {"values": ["green", "red"]}
    inputs[2]["observed"] = {"values": SEEN}
    with serving(change(folder, "contract.json", inputs=inputs)) as service:
        yield service


def _counted(service):
    lines = [
        line for line in service.get("/metrics").text.splitlines() if line.startswith("slipway_unseen_categories_total")
    ]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def _added(service, ask):
    """The answer to a request, and how much it increased the counters."""
    before = _counted(service)
    answer = ask()
    return {name: count - before[name] for name, count in _counted(service).items()}, answer


@pytest.mark.parametrize("row", [ROW, list(ROW.values())], ids=["by name", "as a list"])
@pytest.mark.parametrize("note", ["red", "", None])
def test_seen_text_gets_no_warning(told, row, note):
    """The response has the same fields as before; an empty text is null, which is not a category."""
    row = {**row, "note": note} if isinstance(row, dict) else [*row[:2], note]
    added, answer = _added(told, lambda: told.predict(row))
    assert answer.status_code == 200 and "warnings" not in answer.json()
    assert added == {"colour": 0, "note": 0}


@pytest.mark.parametrize("chunks", [False, True], ids=["direct", "by a task"])
def test_unseen_text_is_reported_and_counted(told, chunks):
    """The model answers, and `warnings` names the feature and the text."""
    raw = json.dumps({"features": {**ROW, "note": "mauve"}}).encode()
    added, answer = _added(told, lambda: told.post("/predict", data=iter([raw]) if chunks else raw))
    assert answer.status_code == 200 and answer.json()["warnings"] == [{"feature": "note", "detail": WORDS}]
    assert added == {"colour": 0, "note": 1}


def test_allowed_value_may_be_unseen(told):
    """Each feature gets its own warning."""
    answer = told.predict({**ROW, "colour": "blue", "note": "mauve"}).json()
    assert [one["feature"] for one in answer["warnings"]] == ["colour", "note"]


@pytest.mark.parametrize("room", [0, 100_000], ids=["small", "large"])
def test_rows_of_a_batch_are_reported(told, room):
    """By number, the first ten of them; all are counted."""
    rows = [{**ROW, "note": "mauve" if number % 2 else "red"} for number in range(60)]
    rows[4]["colour"] = "blue"
    raw = json.dumps({"features": rows}).encode() + b" " * room
    added, answer = _added(told, lambda: told.post("/predict/batch", data=raw))
    warnings = answer.json()["warnings"]
    assert [(one["row"], one["feature"]) for one in warnings] == [
        (1, "note"), (3, "note"), (4, "colour"), *((row, "note") for row in range(5, 19, 2)),
    ]  # fmt: skip
    assert added == {"colour": 1, "note": 30}


def test_mlflow_response_has_no_warnings_but_counts(told):
    """Clients of MLflow's protocol know only the field `predictions`."""
    added, answer = _added(told, lambda: told.post("/invocations", {"instances": [{**ROW, "note": "mauve"}]}))
    assert answer.json().keys() == {"predictions"} and added == {"colour": 0, "note": 1}


def test_document_describes_seen_texts_and_warnings(told):
    """Responses with and without warnings match it."""
    document = told.get("/openapi.json").json()
    features = document["components"]["schemas"]["Features"]["properties"]
    assert features["note"]["description"].endswith('In training it was one of "blue", "green", "red".')
    for path, features in (
        ("/predict", {**ROW, "note": "mauve"}),
        ("/predict", ROW),
        ("/predict/batch", [{**ROW, "note": "mauve"}]),
    ):
        kind = "Prediction" if path == "/predict" else "Predictions"
        schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
        jsonschema.validate(told.post(path, {"features": features}).json(), schema)
    observed = [column["observed"] for column in told.get("/model/info").json()["inputs"]]
    assert observed[2]["values"] == SEEN


def test_contract_without_seen_texts_is_served(columns):
    """An older contract: there are no warnings, and there is no counter."""
    assert "warnings" not in columns.predict({**ROW, "note": "mauve"}).json()
    assert "slipway_unseen" not in columns.get("/metrics").text
