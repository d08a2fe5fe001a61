"""Which web pages may call a service: none of another origin, unless a setting lists it."""

import socket

import pytest

from serving.app import PATHS
from serving.config import ConfigError, read_config
from tests.serving.bundles import make_bundle
from tests.serving.service import HEADERS, serving, with_keys

PAGE = "https://app.example.com"
BODY = {"features": [12.5, -0.5, 4, True]}
GETS = ("/", "/healthz", "/readyz", "/health", "/metrics", "/model/info", "/openapi.json")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service with keys that lets the pages of one origin ask."""
    folder = tmp_path_factory.mktemp("shared")
    settings = {**with_keys(folder), "SLIPWAY_CORS_ORIGINS": f"{PAGE}, http://localhost:3000"}
    with serving(make_bundle("binary", folder / "bundle"), **settings) as service:
        yield service


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A service without keys, for this machine alone, that lets the pages of one origin ask."""
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
def test_a_service_for_this_machine_has_no_other_name(binary, host):
    """Whatever name a page gives to this machine, it reads nothing by it, on any path."""
    for path in GETS:
        _refused(binary.get(path, headers={"Host": host}), "answers only as localhost", "--open")
    _refused(binary.post("/predict", BODY, headers={"Host": host}), "answers only as localhost")
    _refused(binary.post("/predict", data=_in_chunks(), headers={"Host": host}), "answers only as localhost")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.9.9.9", "[::1]:8000", "app.localhost:1", "localhost."]
)
def test_a_service_for_this_machine_has_every_name_of_it(binary, host):
    """A port that is forwarded here has another number, and that is fine."""
    assert binary.get("/health", headers={"Host": host}).status_code == 200
    assert binary.post("/predict", BODY, headers={"Host": host}).status_code == 200


def test_names_of_this_machine_are_remembered_up_to_a_number(binary):
    """However many names are tried, all are judged alike."""
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
def test_a_page_of_another_site_cannot_post_to_this_machine(binary, path, case):
    """Its browser sends such a request without asking first; it is refused before its body is read, and told the remedy."""
    for body in (b'{"features": [12.5, -0.5, 4, true]}', _in_chunks()):
        _refused(binary.post(path, data=body, headers=CROSS[case]), "may not post", "SLIPWAY_CORS_ORIGINS")


def test_the_service_s_own_page_and_programs_can_post(binary):
    """The page at / has the origin of the service; curl, with its content type of a form, has none."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for headers in ({"Origin": binary.url, "Sec-Fetch-Site": "same-origin"}, form, {"Sec-Fetch-Site": "none"}, {}):
        assert binary.post("/predict", data=b'{"features": [12.5, -0.5, 4, true]}', headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["keys", "open"])
def test_a_service_for_others_takes_any_name(tmp_path, kind):
    """With keys, or by --open, a service stands behind names that it does not know."""
    options, settings = (["--open"], {}) if kind == "open" else ([], with_keys(tmp_path))
    with serving(make_bundle("binary", tmp_path / "bundle"), *options, **settings) as service:
        headers = {**HEADERS, "Host": "model.example.com", "Origin": "https://evil.example"}
        assert service.post("/predict", BODY, headers=headers).status_code == 200
        answer = service.get("/metrics", headers=headers)
        assert answer.status_code == 200 and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/predict", *GETS, "/nothing"])
def test_without_the_setting_no_answer_speaks_of_origins(binary, path):
    """Off by default: no header, and a browser that asks first gets 405, or 404."""
    asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answers = [
        binary.session.options(binary.url + path, headers=asks, timeout=10),
        binary.get(path, headers={"Origin": PAGE}),
    ]
    assert not any(
        name.startswith(("access-control", "vary")) for answer in answers for name in map(str.lower, answer.headers)
    )
    assert answers[0].status_code == (404 if path == "/nothing" else 405)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/invocations", "/feedback", *PATHS])
@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
def test_a_browser_that_asks_first_is_told_what_is_allowed(shared, path, origin):
    """Before a key is shown, on the quick path and in the framework alike."""
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
def test_an_allowed_page_may_read_every_answer(service, way):
    """Every answer names the origin and lets the page see its id; another page's answer does not."""
    for origin, named in ((PAGE, PAGE), ("https://evil.example", None), (None, None)):
        answer = WAYS[way](service, {**HEADERS, "Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == named
        assert answer.headers["vary"] == "origin"
        assert answer.headers.get("access-control-expose-headers") == ("x-request-id, retry-after" if named else None)


def test_a_page_that_is_not_listed_is_told_nothing_when_it_asks_first(shared):
    """405, as without the setting."""
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = shared.session.options(shared.url + "/predict", headers=asks, timeout=10)
    assert answer.status_code == 405 and "access-control-allow-origin" not in answer.headers


def test_a_listed_page_may_post_to_a_service_without_keys(local):
    """The same setting lets a page through that would be refused; its neighbours are refused still."""
    answer = local.post("/predict", BODY, headers={"Origin": PAGE, "Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, PAGE)
    _refused(local.post("/predict", BODY, headers={"Origin": "https://evil.example"}), "may not post")


def test_a_star_allows_every_page(tmp_path):
    """`*` is any origin, named in each answer."""
    with serving(make_bundle("binary", tmp_path / "bundle"), SLIPWAY_CORS_ORIGINS="*") as service:
        answer = service.post("/predict", BODY, headers={"Origin": "https://a.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")


@pytest.mark.parametrize(
    "given", ["app.example.com", "https://a/b", "https://a, ftp://b", "https://a/", "http://a:123456", "https://*.a"]
)
def test_what_is_no_origin_is_named_at_the_start(given):
    """An origin has a scheme and a host, and no path."""
    with pytest.raises(ConfigError, match=r"SLIPWAY_CORS_ORIGINS names .*no path"):
        read_config({"SLIPWAY_CORS_ORIGINS": given})


def test_origins_stand_apart_by_commas_or_spaces():
    """In any case, as browsers send them in lower case."""
    given = "https://A.example,http://[::1]:3000  http://localhost:3000"
    wanted = ("https://a.example", "http://[::1]:3000", "http://localhost:3000")
    assert read_config({"SLIPWAY_CORS_ORIGINS": given}).cors_origins == wanted


def test_a_request_without_a_host_is_no_page_s(binary):
    """HTTP/1.0 has none, and no browser leaves it out."""
    host, port = binary.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
