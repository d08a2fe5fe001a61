"""A request that offers a protocol upgrade is answered over HTTP/1.1, with its body intact (RFC 9110, 7.8)."""

import json
import subprocess

import pytest

from tests.serving.runtime.test_service_proxy import proxy
from tests.serving.talk import BODY, chunked, connect, exchange, head, is_closed, post, talk

H2C = {
    "connection": "Upgrade, HTTP2-Settings",
    "upgrade": "h2c",
    "http2_settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}
WEBSOCKET = {
    "connection": "keep-alive, Upgrade",
    "upgrade": "websocket",
    "sec_websocket_version": 13,
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}
OFFERS = {"h2c": H2C, "websocket": WEBSOCKET, "several": {"connection": "upgrade", "upgrade": "TLS/1.0, h2c, x/1"}}
BATCH = b'{"features": [[12.5, -0.5, 4, true], [1, 2, 3, false]], "request_id": "x"}'
HEALTH = head("GET /healthz")


@pytest.fixture(scope="module", params=["direct", "proxy"])
def url(request, binary):
    """The URL of a service, and that of a proxy in front of it."""
    if request.param == "direct":
        yield binary.url
        return
    with proxy("--to", binary.url.removeprefix("http://")) as (address, _):
        yield address


def _right(reply, wanted):
    return (reply.status, reply.json | {"latency_ms": 0}) == (200, wanted | {"latency_ms": 0})


@pytest.mark.parametrize("cut", [0, 30, -54, -20], ids=["whole", "in the head", "after the head", "in the body"])
@pytest.mark.parametrize("offer", OFFERS)
def test_upgrade_offer_keeps_a_body_of_declared_length(url, offer, cut):
    """The response is that of the same request without the offer, however the bytes are split into segments."""
    wanted = talk(url, post("/predict"))[0].json
    sent = post("/predict", **OFFERS[offer])
    segments = [sent[:cut], sent[cut:]] if cut else [sent]
    assert _right(talk(url, *segments)[0], wanted)


@pytest.mark.parametrize("together", [True, False], ids=["one segment", "two segments"])
def test_upgrade_offer_keeps_a_chunked_body(url, together):
    """Chunks are read as without the offer, also when they come after the head."""
    wanted = talk(url, post("/predict"))[0].json
    start = head("POST /predict", transfer_encoding="chunked", **H2C)
    segments = [start + chunked()] if together else [start, chunked()]
    assert _right(talk(url, *segments)[0], wanted)


def test_upgrade_offer_keeps_a_batch(url):
    """Every path that takes a body answers, with large bodies, too."""
    wanted = talk(url, post("/predict/batch", BATCH))[0].json
    assert _right(talk(url, post("/predict/batch", BATCH, **H2C))[0], wanted)
    large = BATCH + b" " * 200_000
    assert _right(talk(url, post("/predict/batch", large, **H2C))[0], wanted)


@pytest.mark.parametrize("offer", OFFERS)
def test_upgrade_offer_of_a_get_is_answered(url, offer):
    """A request without a body is answered over HTTP/1.1, too."""
    for path in ("/healthz", "/model/info", "/"):
        reply = talk(url, head(f"GET {path}", **OFFERS[offer]))[0]
        assert reply.status == 200 and "upgrade" not in reply.headers


@pytest.mark.parametrize("apart", [False, True], ids=["pipelined", "one after the other"])
def test_connection_continues_after_an_upgrade_offer(url, apart):
    """Later requests on the connection are answered in order: with an offer, without one, on the fast path and in a task."""
    asked = [
        post("/predict", **H2C),
        HEALTH,
        post("/predict"),
        head("GET /healthz", **H2C),
        post("/predict", **WEBSOCKET),
    ]
    with connect(url) as connection:
        if apart:
            replies = [exchange(connection, one)[0] for one in asked]
        else:
            replies = exchange(connection, b"".join(asked), replies=5)
    assert [reply.status for reply in replies] == [200] * 5
    assert ["label" in reply.json for reply in replies] == [True, False, True, False, True]


def test_thousands_of_upgrade_offers_in_one_segment_are_answered(binary):
    """Each offer in a segment is answered, without recursion."""
    assert len(talk(binary.url, head("GET /healthz", **H2C) * 2000, replies=2000)) == 2000


def test_upgrade_offer_over_http_1_0_is_ignored(binary):
    """HTTP/1.0 has no upgrade: the request is answered and the connection closed."""
    with connect(binary.url) as connection:
        reply = exchange(connection, post("/predict", **H2C).replace(b"HTTP/1.1", b"HTTP/1.0"))[0]
        assert reply.status == 200 and is_closed(connection)


def test_expect_continue_works_with_an_upgrade_offer(binary):
    """`Expect: 100-continue` beside an offer gets 100, and the body is answered."""
    start = head("POST /predict", content_length=len(BODY), expect="100-continue", **H2C)
    with connect(binary.url) as connection:
        connection.sendall(start)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert exchange(connection, BODY)[0].status == 200


def test_upgrade_without_connection_header_is_ignored(binary):
    """`Upgrade` alone is not an offer."""
    assert talk(binary.url, post("/predict", upgrade="h2c"))[0].status == 200


def test_errors_are_the_same_with_an_upgrade_offer(binary):
    """An invalid body is refused with the same message, and so is one that is too large."""
    plain, offered = (talk(binary.url, post("/predict", b"{}", **more))[0] for more in ({}, H2C))
    assert (offered.status, offered.json["detail"]) == (422, plain.json["detail"])


def test_upgrade_offer_is_not_logged(binary):
    """A client cannot fill the log with offers."""
    talk(binary.url, post("/predict", **WEBSOCKET))
    assert "pgrade" not in binary.logged and "WebSocket" not in binary.logged


JAVA = """
import java.net.URI;
import java.net.http.*;

public class Ask {
    public static void main(String[] given) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int turn = 0; turn < 3; turn++) {
            HttpRequest.BodyPublisher body = HttpRequest.BodyPublishers.ofString(given[1]);
            if (turn == 1) body = HttpRequest.BodyPublishers.fromPublisher(body);
            HttpRequest asked = HttpRequest.newBuilder(URI.create(given[0])).POST(body).build();
            HttpResponse<String> answer = client.send(asked, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
"""


@pytest.mark.needs("java")
def test_java_client_is_answered(binary, tmp_path):
    """Java's HttpClient with default settings: its first request offers h2c, one of the others is chunked."""
    source = tmp_path / "Ask.java"
    source.write_text(JAVA, encoding="utf-8")
    command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(source), f"{binary.url}/predict", BODY.decode()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.fail("java was not answered")
    if "compiler" in done.stderr and not done.stdout:
        pytest.skip("this java has no compiler")
    answers = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [status for status, _ in answers] == ["200"] * 3, done.stderr + done.stdout
    assert {json.loads(answer)["label"] for _, answer in answers} == {"yes"}


@pytest.mark.needs("curl")
def test_curl_with_http2_is_answered(binary, tmp_path):
    """`curl --http2` offers h2c; two requests go over its one connection."""
    one = ["--http2", "-sS", "-w", " %{http_code}\n", "-d", BODY.decode(), f"{binary.url}/predict"]
    done = subprocess.run(["curl", "-q", *one, "--next", *one], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert [line[-3:] for line in lines] == ["200", "200"], done
    assert json.loads(lines[0][:-4])["label"] == "yes"
