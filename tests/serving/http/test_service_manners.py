"""Details of HTTP that clients rely on: HEAD, trailing slashes, repeated headers, common content types."""

import gzip
import json
import time

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.service import HEADERS, KEY, caller, serving
from tests.serving.talk import BODY, post, talk

OTHER = "slipway_" + "o" * 43
ROW = {"mass": 12.5, "tilt": -0.5, "doors": 4, "sold": True}
ASKED = ("/", "/docs", "/redoc", "/openapi.json", "/health", "/healthz", "/readyz", "/ping", "/version", "/model/info")
PREDICTIONS = {
    "/predict": {"features": ROW},
    "/predict/batch": {"features": [ROW]},
    "/invocations": {"instances": [ROW]},
    "/feedback": {"request_id": "a", "outcome": "yes"},
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """A service with two keys, a prediction log and a request log."""
    folder = tmp_path_factory.mktemp("keyed")
    lines = caller("tester", KEY) + caller("other", OTHER)
    log = f"sqlite:///{folder}/log.db"
    bundle = make_bundle("binary", folder / "bundle")
    with serving(bundle, SLIPWAY_API_KEYS=lines, SLIPWAY_REQUEST_LOG="on", SLIPWAY_DATABASE_URL=log) as service:
        yield service


def _written(service, name, value, lines=1):
    """The request log's lines with this value; a line is written while its response is already on its way."""
    end = time.monotonic() + 30
    while (
        len(found := [line for line in map(json.loads, service.logged.splitlines()) if line.get(name) == value]) < lines
    ):
        assert time.monotonic() < end, f"{value} is not in the request log"
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("path", [*ASKED, "/metrics", "/admin/status"])
def test_head_works_wherever_get_does(keyed, path):
    """The same status and headers without a body; the connection stays open."""
    session = keyed.session
    got, headed = (session.request(method, keyed.url + path, headers=HEADERS, timeout=30) for method in ("GET", "HEAD"))
    assert (headed.status_code, headed.content) == (200, b"") == (got.status_code, b"")
    same = {"content-type", "cache-control", "etag", "content-security-policy", "x-content-type-options"}
    assert {name: headed.headers.get(name) for name in same} == {name: got.headers.get(name) for name in same}
    assert (
        abs(int(headed.headers["content-length"]) - int(got.headers["content-length"]))
        < 2000 * (path == "/metrics") + 9
    )
    assert any(line["method"] == "HEAD" for line in _written(keyed, "path", path, 2))


@pytest.mark.parametrize("path", PREDICTIONS)
def test_trailing_slash_of_a_post_is_ignored(keyed, path):
    """There is no redirect, because clients that do not follow one would lose the body."""
    answer = keyed.post(path + "/", PREDICTIONS[path], headers=HEADERS, allow_redirects=False)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == keyed.post(path, PREDICTIONS[path], headers=HEADERS).json().keys()


@pytest.mark.parametrize("path", ASKED[1:])
def test_trailing_slash_of_a_get_is_ignored(keyed, path):
    """Only pages whose relative links would break are redirected to the path without it."""
    answer = keyed.get(path + "/", allow_redirects=False)
    if path in ("/docs", "/redoc"):
        assert (answer.status_code, answer.headers["location"]) == (308, f"..{path}")
        answer = keyed.get(path + "/")
        assert answer.url == keyed.url + path
    assert answer.status_code == 200
    assert 'status="308"' in keyed.get("/metrics", headers=HEADERS).text or path not in ("/docs", "/redoc")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, gzip", "x" * 100])
@pytest.mark.parametrize("path", PREDICTIONS)
def test_compressed_body_is_refused(keyed, path, encoding):
    """The 415 names the encoding and says how to send the body."""
    headers = {**HEADERS, "Content-Encoding": encoding}
    answer = keyed.post(path, data=gzip.compress(json.dumps(PREDICTIONS[path]).encode()), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert answer.json()["detail"] == (
        f"a body in the encoding {encoding[:60]!r} is not read here; send it as it is, without Content-Encoding"
    )


def test_content_encoding_identity_is_accepted(keyed):
    """`identity` means not compressed."""
    headers = {**HEADERS, "Content-Encoding": "identity"}
    assert keyed.post("/predict", {"features": ROW}, headers=headers).status_code == 200


TWICE = {
    "two keys": (f"X-API-Key: {KEY}\r\nX-API-Key: {OTHER}\r\n", 401),
    "the same key twice": (f"X-API-Key: {KEY}\r\nX-API-Key: {KEY}\r\n", 401),
    "a key and a wrong one": (f"X-API-Key: wrong\r\nX-API-Key: {KEY}\r\n", 401),
    "two bearers": (f"Authorization: Bearer {KEY}\r\nAuthorization: Bearer {OTHER}\r\n", 401),
    "a key beside a bearer": (f"Authorization: Bearer {OTHER}\r\nX-API-Key: {KEY}\r\n", 200),
    "an empty key beside a bearer": (f"X-API-Key:\r\nAuthorization: Bearer {KEY}\r\n", 200),
}


@pytest.mark.parametrize("case", TWICE)
def test_repeated_key_headers_are_handled_alike_everywhere(keyed, case):
    """Two of one header are no key; X-API-Key has priority over Authorization: on the fast path, in a task, and in the framework."""
    lines, status = TWICE[case]
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    ways = {
        "direct": post("/predict"),
        "task": b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
        "framework": b"GET /admin/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "metrics": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }
    for way, sent in ways.items():
        line, rest = sent.split(b"\r\n", 1)
        reply = talk(
            keyed.url,
            line + b"\r\n" + lines.encode() + f"X-Request-ID: {case.replace(' ', '-')}-{way}\r\n".encode() + rest,
        )[0]
        assert reply.status == status, way
        if status == 401:
            several = "" if "beside" in case else "; more than one was sent"
            assert reply.json["detail"] == f"the key is not known here{several}", way
    for way in ("framework", "metrics"):
        line = _written(keyed, "request_id", f"{case.replace(' ', '-')}-{way}")[0]
        assert line["caller"] == ("tester" if status == 200 else "anybody")


def test_request_log_names_the_client_on_both_paths(keyed):
    """Predictions and metrics are logged with the key's name, checks without a key as anybody's."""
    for path, name in (
        ("/predict", "other"),
        ("/metrics", "other"),
        ("/admin/status", "other"),
        ("/healthz", "anybody"),
    ):
        about = f"log-{path.replace('/', '-')}"
        headers = {"X-API-Key": OTHER, "X-Request-ID": about}
        keyed.post(path, {"features": ROW}, headers=headers) if path == "/predict" else keyed.get(path, headers=headers)
        line = _written(keyed, "request_id", about)[0]
        assert (line["caller"], line["path"]) == (name, path)
    keyed.get("/health", headers={"X-Request-ID": "log-health"})
    assert _written(keyed, "request_id", "log-health")[0]["caller"] == "anybody"


MLFLOW = "is MLflow's form, which /invocations takes"
FORMS = {
    "rows alone": ("/predict", [[1, 2, 3, True]], '; rows go to /predict/batch as {"features": […]}'),
    "objects alone": ("/predict/batch", [ROW], '; rows go to /predict/batch as {"features": […]}'),
    "a row alone": ("/predict", ROW, '; the features themselves go inside it: {"features": {…}}'),
    "part of a row alone": ("/predict", {"tilt": 1, "x": 2}, '; the features themselves go inside it: {"features": {…}}'),
    "instances": ("/predict", {"instances": [[1, 2, 3, True]]}, f"; 'instances' {MLFLOW}"),
    "inputs": ("/predict/batch", {"inputs": {"mass": [1]}}, f"; 'inputs' {MLFLOW}"),
    "dataframe_split": ("/predict", {"dataframe_split": {}}, f"; 'dataframe_split' {MLFLOW}"),
    "rows": ("/predict", {"features": [[1, 2, 3, True]]}, "/predict takes one row; /predict/batch takes many"),
    "objects": ("/predict", {"features": [ROW, ROW]}, "/predict takes one row; /predict/batch takes many"),
    "columns": ("/predict", {"features": {name: [1] for name in ROW}}, '/invocations takes lists as {"inputs": {…}}'),
    "columns as a batch": ("/predict/batch", {"features": {n: [1] for n in ROW}}, '/invocations takes lists as {"inputs": {…}}'),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_wrong_content_type_is_told_the_right_one(binary, form):
    """The 422 says in one sentence what to send, and where."""
    path, body, words = FORMS[form]
    answer = binary.post(path, body)
    assert answer.status_code == 422 and answer.json()["detail"].endswith(words), answer.json()
