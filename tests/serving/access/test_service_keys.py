"""API keys: scopes, changes, rate limits, and what is logged."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.service import ROOT, caller, serving

ROW = {"mass": 12.5, "tilt": -0.5, "doors": 4, "sold": True}
ALL = {"reader": "predict", "monitor": "metrics", "chief": "admin", "both": "predict,metrics"}
PATIENCE = 30  # seconds; the keys file is checked every second


def _key(name):
    return f"slipway_{name}_{'k' * 30}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A bundle for all services of this module."""
    return make_bundle("binary", tmp_path_factory.mktemp("keys") / "bundle")


@pytest.fixture(scope="module")
def guarded(folder):
    """A service with four clients and a request log."""
    lines = "".join(caller(name, _key(name), scopes) for name, scopes in ALL.items())
    with serving(folder, SLIPWAY_API_KEYS=f"# our callers\n\n{lines}", SLIPWAY_REQUEST_LOG="on") as service:
        yield service


def _ask(service, path, headers):
    if path in ("/metrics", "/admin/status"):
        return service.get(path, headers=headers)
    body = {"instances": [ROW]} if path == "/invocations" else {"features": [ROW] if "batch" in path else ROW}
    return service.post(path, body, headers=headers)


SCOPED = {"/predict": "predict", "/predict/batch": "predict", "/invocations": "predict", "/metrics": "metrics"}
SCOPED["/admin/status"] = "admin"


@pytest.mark.parametrize("path", SCOPED)
def test_key_grants_its_scopes(guarded, path):
    """A key with the scope is accepted in either header; without the scope, the response is a 403 that names it."""
    for name, scopes in ALL.items():
        for headers in ({"X-API-Key": _key(name)}, {"Authorization": f"Bearer {_key(name)}"}):
            answer = _ask(guarded, path, headers)
            if SCOPED[path] in scopes.split(","):
                assert answer.status_code == 200, answer.text
            else:
                assert answer.status_code == 403
                words = f"the key of {name!r} may not do this; it needs the scope {SCOPED[path]!r}"
                assert answer.json()["detail"] == words


@pytest.mark.parametrize("path", SCOPED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "wrong"},
        {"X-API-Key": ""},
        {"X-API-Key": _key("reader")[:-1]},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic " + _key("reader")},
        {"X-API-Key": b"\xff\xfe"},
        {"X-API-Key": "wrong", "Authorization": f"Bearer {_key('both')}"},
    ],
    ids=str,
)
def test_unknown_keys_get_401(guarded, path, headers):
    """The 401 says how to send a key, and reveals nothing else."""
    answer = _ask(guarded, path, headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(("a key is needed; send it in", "the key is not known here"))


def test_body_is_not_read_without_a_key(guarded):
    """Without a key even a body that is not JSON gets 401."""
    assert guarded.post("/predict", data=b"{").status_code == 401


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_bearer_is_case_insensitive(guarded, word):
    """As HTTP requires of every authentication scheme."""
    assert _ask(guarded, "/predict", {"Authorization": f"{word} {_key('reader')}"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/health", "/healthz", "/readyz", "/ping", "/version", "/model/info", "/openapi.json"]
)
def test_some_paths_need_no_key(guarded, path):
    """Health checks and the model's description need no key."""
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SLIPWAY_API_KEYS": caller("a", "change-me")}, "this is the hash of a placeholder"),
        ({"SLIPWAY_API_KEYS": caller("a", "secret")}, "this is the hash of a placeholder"),
        ({"SLIPWAY_API_KEYS": caller("a", "")}, "this is the hash of a placeholder"),
        ({"SLIPWAY_API_KEYS": "a predict slipway_the_key_itself"}, "the key itself does not belong here"),
        ({"SLIPWAY_API_KEYS": caller("a", "x" * 40, "predict,all")}, "'all' is no scope"),
        ({"SLIPWAY_API_KEYS": "a predict"}, "line 1: a line is NAME SCOPES SHA256"),
        ({"SLIPWAY_API_KEYS": "# nobody"}, "names no caller"),
        ({"SLIPWAY_API_KEYS_FILE": "/there/is/none"}, "/there/is/none cannot be read"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_invalid_keys_stop_the_start(folder, settings, words):
    """The service does not start; it gives the reason in one line, without showing a key."""
    command = [sys.executable, "-m", "serving", "--bundle", str(folder), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr
    assert "the_key_itself" not in done.stderr


def _put(file, text):
    """Replace a file atomically, as a mounted secret is."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


def _until(true, what):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_keys_change_without_a_restart(folder, tmp_path):
    """A new file first adds the new key, then removes the old one; a broken file changes nothing and is logged."""
    file = tmp_path / "keys"
    old, new = {"X-API-Key": _key("old")}, {"X-API-Key": _key("new")}
    _put(file, caller("us", _key("old")))
    with serving(folder, SLIPWAY_API_KEYS_FILE=str(file)) as service:

        def status(headers):
            return _ask(service, "/predict", headers).status_code

        assert (status(old), status(new)) == (200, 401)
        _put(file, caller("us", _key("old")) + caller("us", _key("new")))
        _until(lambda: status(new) == 200, "the new key is not let in")
        assert status(old) == 200
        _put(file, caller("us", _key("new")))
        _until(lambda: status(old) == 401, "the old key is still let in")
        for broken in ("us predict\n", "", "us predict " + "0" * 63):
            told = service.logged.count("the keys stay as they were")
            _put(file, broken)
            _until(
                lambda t=told: status(new) and service.logged.count("the keys stay as they were") > t, "nothing told"
            )
            assert (status(old), status(new)) == (401, 200)
        _put(file, "# nobody\n")
        _until(lambda: status(new) == 401, "the last key is still let in")
        _put(file, caller("us", _key("new")))
        _until(lambda: status(new) == 200, "the key is not let in again")
        file.unlink()
        _until(lambda: status(new) and "cannot be read" in service.logged, "a file that has gone is not told")
        assert status(new) == 200
        _put(file, caller("us", _key("old")))
        _until(lambda: status(old) == 200, "a good file after a broken one is not read")
        assert service.process.poll() is None


def test_rate_limit_answers_429_with_retry_after(folder):
    """429 says how long to wait and concerns this client alone; after the wait, the client is served again."""
    callers = caller("one", _key("one")) + caller("two", _key("two"))
    with serving(folder, SLIPWAY_API_KEYS=callers, SLIPWAY_RATE_LIMIT="0.5") as service:
        answers = [_ask(service, "/predict", {"X-API-Key": _key("one")}) for _ in range(10)]
        assert answers[0].status_code == 200
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["detail"] == "too many requests from this caller; send fewer a second"
        assert _ask(service, "/predict", {"X-API-Key": _key("two")}).status_code == 200
        assert service.get("/healthz").status_code == 200
        time.sleep(int(refused.headers["retry-after"]))
        assert _ask(service, "/predict", {"X-API-Key": _key("one")}).status_code == 200


def test_rate_limit_0_is_no_limit(folder):
    """With 0 a client never gets 429."""
    with serving(folder, SLIPWAY_RATE_LIMIT="0") as service:
        assert {_ask(service, "/predict", {}).status_code for _ in range(50)} == {200}


def test_request_log_holds_no_keys_or_features(guarded):
    """Its lines give client, request and result; no key, query, body or subject is in the log or a response."""
    secret = _key("reader")
    marked = {**ROW, "mass": 12.345678}
    answers = [
        guarded.post(
            "/predict?token=in-the-query",
            {"features": marked, "subject": "Jane", "request_id": "by-name"},
            headers={"X-API-Key": secret, "Cookie": "in-the-cookie"},
        ),
        guarded.post("/predict", {"features": {**marked, "mass": "Jane"}}, headers={"X-API-Key": secret}),
        guarded.post("/predict", {"features": marked}, headers={"Authorization": "Bearer wrong-key-of-a-stranger"}),
        guarded.get("/metrics", headers={"X-API-Key": secret}),
        guarded.get("/health?token=in-the-query", headers={"X-API-Key": secret}),
    ]
    assert [answer.status_code for answer in answers] == [200, 422, 401, 403, 200]
    lines = {}
    _until(lambda: answers[-1].headers["x-request-id"] in guarded.logged, "no line for the last request")
    for line in map(json.loads, guarded.logged.splitlines()):
        lines[line.get("request_id")] = line
    for answer in answers:
        line = lines[answer.headers["x-request-id"]]
        assert set(line) == {"time", "level", "logger", "method", "path", "status", "ms", "request_id", "caller"}
        assert line["status"] == answer.status_code
    assert [lines[a.headers["x-request-id"]]["caller"] for a in answers[:2]] == ["reader", "reader"]
    assert lines["by-name"]["path"] == "/predict"
    for hidden in (secret, "wrong-key-of-a-stranger", "12.345678", "Jane", "in-the-query", "in-the-cookie"):
        assert hidden not in guarded.logged
    for answer in answers:
        assert secret not in answer.text and "stranger" not in answer.text
