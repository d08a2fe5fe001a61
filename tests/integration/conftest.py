"""A service that runs somewhere: SLIPWAY_URL says where, SLIPWAY_BUNDLE which bundle it should serve.

Where it asks for keys, SLIPWAY_KEY is one with the scopes predict and metrics.

All inputs are made from the bundle's contract, so these tests fit any model.
"""

import json
import os
from pathlib import Path

import pytest
import requests


@pytest.fixture(scope="session")
def url():
    """The address of the service; without one there is nothing to test."""
    address = os.environ.get("SLIPWAY_URL")
    if not address:
        pytest.skip("SLIPWAY_URL is not set; `make integration ENVIRONMENT=staging` sets it")
    return address.rstrip("/")


@pytest.fixture(scope="session")
def bundle(url):
    """A function that reads a JSON file of the bundle that should be served."""
    folder = os.environ.get("SLIPWAY_BUNDLE")
    assert folder, f"SLIPWAY_URL is {url}, so SLIPWAY_BUNDLE must name the bundle folder that it serves"
    return lambda name: json.loads((Path(folder) / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def contract(bundle):
    """What the model takes and gives."""
    return bundle("contract.json")


@pytest.fixture(scope="session")
def golden(bundle):
    """Rows with the answers that the service must give."""
    return bundle("golden.json")


@pytest.fixture(scope="session")
def named(contract):
    """Turn a row in contract order into {name: value}."""
    names = [column["name"] for column in contract["inputs"]]
    return lambda row: dict(zip(names, row, strict=True))


@pytest.fixture
def example(contract):
    """The contract's example row, by name."""
    return {column["name"]: column["example"] for column in contract["inputs"]}


@pytest.fixture(scope="session")
def key():
    """The headers of our requests: they mark them as tests, and show our key when there is one."""
    shown = {"X-API-Key": os.environ["SLIPWAY_KEY"]} if os.environ.get("SLIPWAY_KEY") else {}
    return {"Slipway-Role": "test", **shown}


@pytest.fixture(scope="session")
def client(url, key):
    """A function that makes one request: client(method, path, json=…) or data=… for raw bytes."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(key)
        yield lambda method, path, **body: session.request(method, url + path, timeout=10, **body)


@pytest.fixture(scope="session")
def refused(client):
    """A function that posts a body to /predict, asserts a problem of that status, and returns it."""

    def post(status, **body):
        response = client("POST", "/predict", **body)
        assert response.status_code == status, f"{body} answered {response.status_code}: {response.text[:300]}"
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status and problem["title"] and problem["detail"]
        return problem

    return post
