"""The service answers as its bundle promises."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests


def _numbers(answer, contract):
    """Label and numbers of an answer, from the service or from golden.json."""
    if "value" in answer:
        return None, [answer["value"]]
    probabilities = answer["probabilities"]
    if isinstance(probabilities, dict):
        probabilities = [probabilities[name] for name in contract["classes"]]
    return answer["label"], probabilities


@pytest.fixture
def same(contract, golden):
    """A function that asserts that two answers agree within the golden tolerance."""

    def check(given, expected):
        (label, seen), (wanted_label, wanted) = _numbers(given, contract), _numbers(expected, contract)
        assert label == wanted_label
        assert seen == pytest.approx(wanted, rel=golden["tolerance"], abs=golden["tolerance"])

    return check


def test_serves_the_release_of_the_bundle(client, bundle):
    """Name, version, run, commit and digest are those of release.json."""
    info, release = client("GET", "/model/info").json(), bundle("release.json")
    assert {key: info[key] for key in release} == release


def test_serves_the_contract_of_the_bundle(client, contract):
    """Task, classes and each input with its type are those of contract.json."""
    info = client("GET", "/model/info").json()
    kinds = [(column["name"], column["type"]) for column in contract["inputs"]]
    assert info["task"] == contract["task"]
    assert info["classes"] == (contract["classes"] or [])
    assert [(column["name"], column["type"]) for column in info["inputs"]] == kinds


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
def test_is_healthy(client, path):
    """Each health endpoint answers 200."""
    assert client("GET", path).status_code == 200


def test_golden_rows_by_list_and_by_name(client, golden, named, same):
    """A row gives its golden answer whether it comes as a list or by name."""
    for row, expected in zip(golden["inputs"][:50], golden["expected"], strict=False):
        for features in (row, named(row)):
            response = client("POST", "/predict", json={"features": features})
            assert response.status_code == 200, response.text
            same(response.json(), expected)


def test_probabilities_belong_to_the_classes(client, contract, example):
    """A classifier's probabilities are one per class and sum to 1; class_id is the label's position."""
    answer = client("POST", "/predict", json={"features": example}).json()
    if contract["task"] == "regression":
        assert isinstance(answer["value"], float) and "label" not in answer
        return
    assert list(answer["probabilities"]) == contract["classes"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert contract["classes"][answer["class_id"]] == answer["label"]


def test_an_answer_says_what_made_it(client, bundle, example):
    """Version, request id and latency stand in the answer, the id in the header as well."""
    body = {"features": example, "request_id": "live-1"}
    response = client("POST", "/predict", json=body)
    answer = response.json()
    assert answer["model_version"] == bundle("release.json")["version"]
    assert answer["request_id"] == response.headers["x-request-id"] == "live-1"
    assert answer["latency_ms"] > 0


def test_a_batch_answers_as_its_rows_do(client, golden, named, same):
    """Rows in a batch, lists and maps mixed, get the answers that they get alone."""
    rows = [named(row) if i % 2 else row for i, row in enumerate(golden["inputs"][:50])]
    batch = client("POST", "/predict/batch", json={"features": rows})
    assert batch.status_code == 200, batch.text
    assert len(batch.json()["predictions"]) == len(rows)
    for row, answer in zip(rows, batch.json()["predictions"], strict=True):
        same(answer, client("POST", "/predict", json={"features": row}).json())


def test_many_clients_at_once_get_the_answers_of_one(client, url, key, golden):
    """Sixteen threads that ask the same rows get exactly the answers that one client got."""
    rows = golden["inputs"][:5]
    told = ("label", "class_id", "probabilities", "value", "model_version")

    def ask(post, row):
        answer = post(row).json()
        return {name: answer[name] for name in told if name in answer}

    alone = [ask(lambda row: client("POST", "/predict", json={"features": row}), row) for row in rows]

    def one_client(_):
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(key)
            return [
                ask(lambda r: session.post(f"{url}/predict", json={"features": r}, timeout=10), row) for row in rows
            ]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one_client, range(16))) == [alone] * 16


def test_an_explanation_adds_up_to_its_answer(client, example):
    """Where the bundle has background rows, each feature has a contribution, and they explain what was answered."""
    response = client("POST", "/predict", json={"features": example, "explain": True})
    if not client("GET", "/model/info").json()["explains"]:
        assert response.status_code == 422 and "train the model again" in response.json()["detail"]
        return
    assert response.status_code == 200, response.text
    answer = response.json()
    told = answer["explanation"]
    assert list(told["contributions"]) == list(example)
    assert told["base"] + sum(told["contributions"].values()) == pytest.approx(told["answer"], rel=1e-6, abs=1e-9)
    assert told["answer"] == (answer["value"] if "value" in answer else answer["probabilities"][told["of"]])
