"""CORS: web pages of other origins may call a service only if a setting lists them."""

import socket

import pytest

from serving.config import ConfigError, read_config
from serving.http.endpoints import PAGES, PATHS
from tests.serving.bundles import make_bundle
from tests.serving.service import HEADERS, serving, with_keys

PAGE = "https://app.example.com"
BODY = {"features": [12.5, -0.5, 4, True]}
GETS = ("/", "/healthz", "/readyz", "/health", "/metrics", "/model/info", "/openapi.json")
EXPOSED = "x-request-id, retry-after, x-experiment"  # headers of an answer that a page may read


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service with keys that allows one origin."""
    folder = tmp_path_factory.mktemp("shared")
    settings = {**with_keys(folder), "SLIPWAY_CORS_ORIGINS": f"{PAGE}, http://localhost:3000"}
    with serving(make_bundle("binary", folder / "bundle"), **settings) as service:
        yield service


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A service without keys, for loopback only, that allows one origin."""
    folder = tmp_path_factory.mktemp("local")
    with serving(make_bundle("binary", folder / "bundle"), SLIPWAY_CORS_ORIGINS=PAGE) as service:
        yield service


def _refused(answer, *words):
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json"), answer.text
    assert all(word in answer.json()["detail"] for word in words), answer.json()


def _in_chunks(body=b'{"features": [12.5, -0.5, 4, true]}'):
    yield body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "localhost.x", ""]
)
def test_local_service_refuses_other_host_names(binary, host):
    """Whatever name a page resolves to this machine (DNS rebinding), it can read nothing on any path."""
    for path in GETS:
        _refused(binary.get(path, headers={"Host": host}), "answers only as localhost", "--open")
    _refused(binary.post("/predict", BODY, headers={"Host": host}), "answers only as localhost")
    _refused(binary.post("/predict", data=_in_chunks(), headers={"Host": host}), "answers only as localhost")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.9.9.9", "[::1]:8000", "app.localhost:1", "localhost."]
)
def test_local_service_accepts_every_name_of_this_machine(binary, host):
    """With any port, because a forwarded port has another number."""
    assert binary.get("/health", headers={"Host": host}).status_code == 200
    assert binary.post("/predict", BODY, headers={"Host": host}).status_code == 200


def test_memory_of_host_names_is_bounded(binary):
    """However many names are tried, all get the same result."""
    for number in range(300):
        assert binary.get("/healthz", headers={"Host": f"localhost:{number}"}).status_code == 200
    _refused(binary.get("/healthz", headers={"Host": "evil.example"}), "localhost")


CROSS = {
    "a page": {"Origin": "https://evil.example"},
    "a page of this machine": {"Origin": "http://localhost:3000"},
    "a page in a sandbox": {"Origin": "null"},
    "a form": {"Origin": "https://evil.example", "Content-Type": "text/plain", "Sec-Fetch-Site": "cross-site"},
    "a form that hides its origin": {
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "application/x-www-form-urlencoded",
    },
    "a neighbour that hides its origin": {"Sec-Fetch-Site": "same-site"},
}


@pytest.mark.parametrize("case", CROSS)
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/invocations", "/feedback"])
def test_cross_site_page_cannot_post_to_a_local_service(binary, path, case):
    """Browsers send such requests without a preflight; they are refused before the body is read, with the remedy."""
    for body in (b'{"features": [12.5, -0.5, 4, true]}', _in_chunks()):
        _refused(binary.post(path, data=body, headers=CROSS[case]), "may not post", "SLIPWAY_CORS_ORIGINS")


def test_own_page_and_programs_can_post(binary):
    """The page at / has the service's origin; curl, with its form content type, has none."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in ({"Origin": binary.url, "Sec-Fetch-Site": "same-origin"}, form, {"Sec-Fetch-Site": "none"}, {}):
        assert binary.post("/predict", data=b'{"features": [12.5, -0.5, 4, true]}', headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["keys", "open"])
def test_public_service_accepts_any_host_name(tmp_path, kind):
    """With keys or --open, a service may run behind names that it does not know."""
    options, settings = (["--open"], {}) if kind == "open" else ([], with_keys(tmp_path))
    with serving(make_bundle("binary", tmp_path / "bundle"), *options, **settings) as service:
        headers = {**HEADERS, "Host": "model.example.com", "Origin": "https://evil.example"}
        assert service.post("/predict", BODY, headers=headers).status_code == 200
        answer = service.get("/metrics", headers=headers)
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/predict", *GETS, "/nothing"])
def test_cors_is_off_by_default(binary, path):
    """No CORS header, and a preflight gets 405, or 404."""
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answers = [
        binary.session.options(binary.url + path, headers=asks, timeout=10),
        binary.get(path, headers={"Origin": PAGE}),
    ]
    assert not any(
        name.startswith(("access-control", "vary")) for answer in answers for name in map(str.lower, answer.headers)
    )
    assert answers[0].status_code == (404 if path == "/nothing" else 405)


@pytest.mark.parametrize("path", [path for path in PATHS if path not in PAGES])
@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_preflight_is_told_what_is_allowed(shared, path, origin):
    """Without a key, on the fast path and in the framework alike."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key",
    }
    answer = shared.session.options(shared.url + path, headers=headers, timeout=10)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
    assert answer.headers["vary"] == "origin" and answer.headers["access-control-max-age"] == "600"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"content-type", "x-api-key", "authorization", "x-request-id"} == set(allowed)
    assert "POST" in answer.headers["access-control-allow-methods"] and answer.headers["x-request-id"]


MANY = {"features": [BODY["features"]] * 5000}
WAYS = {
    "direct": lambda service, headers: service.post("/predict", BODY, headers=headers),
    "in chunks": lambda service, headers: service.post("/predict", data=_in_chunks(), headers=headers),
    "large": lambda service, headers: service.post("/predict/batch", MANY, headers=headers),
    "refused": lambda service, headers: service.post("/predict", {}, headers=headers),
    "no key": lambda service, headers: service.post("/predict", BODY, headers={**headers, "X-API-Key": None}),
    "framework": lambda service, headers: service.get("/model/info", headers=headers),
    "check": lambda service, headers: service.get("/readyz", headers=headers),
    "unknown": lambda service, headers: service.get("/nothing", headers=headers),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("service", ["shared"], indirect=True)
def test_allowed_origin_may_read_every_response(service, way):
    """Every response names the origin and exposes the request id; responses to other origins do not."""
    for origin, named in ((PAGE, PAGE), ("https://evil.example", None), (None, None)):
        answer = WAYS[way](service, {**HEADERS, "Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == named
        assert answer.headers["vary"] == "origin"
        assert answer.headers.get("access-control-expose-headers") == (EXPOSED if named else None)


def test_preflight_of_an_unlisted_origin_gets_405(shared):
    """As without the setting."""
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = shared.session.options(shared.url + "/predict", headers=asks, timeout=10)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers


def test_listed_origin_may_post_to_a_service_without_keys(local):
    """The setting admits a page that would be refused; other origins are still refused."""
    answer = local.post("/predict", BODY, headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    _refused(local.post("/predict", BODY, headers={"Origin": "https://evil.example"}), "may not post")


def test_star_allows_every_origin(tmp_path):
    """`*` allows any origin, and each response names it."""
    with serving(make_bundle("binary", tmp_path / "bundle"), SLIPWAY_CORS_ORIGINS="*") as service:
        answer = service.post("/predict", BODY, headers={"Origin": "https://a.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")


@pytest.mark.parametrize(
    "given", ["app.example.com", "https://a/b", "https://a, ftp://b", "https://a/", "http://a:123456", "https://*.a"]
)
def test_invalid_origin_stops_the_start(given):
    """An origin has a scheme and a host, and no path."""
    with pytest.raises(ConfigError, match=r"SLIPWAY_CORS_ORIGINS names .*no path"):
        read_config({"SLIPWAY_CORS_ORIGINS": given})


def test_origins_are_separated_by_commas_or_spaces():
    """They are lower-cased, as browsers send them."""
    given = "https://A.example,http://[::1]:3000  http://localhost:3000"
    wanted = ("https://a.example", "http://[::1]:3000", "http://localhost:3000")
    assert read_config({"SLIPWAY_CORS_ORIGINS": given}).cors_origins == wanted


def test_request_without_a_host_is_accepted(binary):
    """HTTP/1.0 allows it, and no browser omits it."""
    host, port = binary.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
