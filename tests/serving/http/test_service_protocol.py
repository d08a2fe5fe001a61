"""Rare but valid HTTP is answered, and invalid HTTP is refused with problem details."""

import socket
import time

import pytest

from tests.serving.talk import chunked, connect, exchange, head, is_closed, post, talk

HEALTH = head("GET /healthz")
START = head("POST /predict", transfer_encoding="chunked")
WHERE = {"host": "127.0.0.1"}
UNREADABLE = {
    "no method": (b"no request at all\r\n\r\n", 400, "this is no request of HTTP/1.1: Invalid method encountered"),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "this is no request of HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400, "this is no request of HTTP/1.1"),
    "a folded header": (b"GET /healthz HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n", 400, "this is no request of HTTP/1.1"),
    "no name": (b"GET /healthz HTTP/1.1\r\n: b\r\n\r\n", 400, "this is no request of HTTP/1.1"),
    "two lengths": (head("POST /predict", content_length=3, **{"Content-Length": 4}), 400, "this is no request"),
    "a length and chunks": (
        head("POST /predict", content_length=3, transfer_encoding="chunked"),
        400,
        "this is no request",
    ),
    "a negative length": (head("POST /predict", content_length=-1), 400, "this is no request of HTTP/1.1"),
    "a length of words": (head("POST /predict", content_length="many"), 400, "this is no request of HTTP/1.1"),
    "a chunk of no size": (START + b"zz\r\n", 400, "this is no request of HTTP/1.1: Invalid character in chunk size"),
    "a chunk too long": (START + b"2\r\nabc\r\n", 400, "this is no request of HTTP/1.1"),
    "letters beyond ASCII": (
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
        "this is no request of HTTP/1.1",
    ),
    "CONNECT": (head("CONNECT a:443"), 400, "CONNECT asks for a proxy, and this is none"),
    "CONNECT with a body": (head("CONNECT a:443", content_length=3) + b"abc", 400, "CONNECT asks for a proxy"),
    "no path": (head("GET nowhere"), 400, ""),
    "a long target": (head("GET /" + "x" * 70_000), 414, "the request's target may have at most 65536 bytes"),
    "a long header": (head("GET /healthz", a="x" * 70_000), 431, "the head of a request may have at most 65536 bytes"),
    "a very long header": (
        head("GET /healthz", a="x" * 240_000),
        431,
        "the head of a request may have at most 65536 bytes",
    ),
    "many headers": (head("GET /healthz", **{f"a{n}": "x" * 50 for n in range(1500)}), 431, "the head of a request"),
    "a head without end": (head("GET /healthz", a="x" * 400_000)[:-4], 431, "the head of a request"),
    "long lines after a body": (START + b"1\r\n{\r\n0\r\na: " + b"x" * 300_000, 431, "the head of a request"),
}


def _counted(service, path, status):
    """The counter of this response."""
    start = f'slipway_requests_total{{path="{path}",status="{status}"}} '
    return sum(
        float(line.removeprefix(start)) for line in service.get("/metrics").text.splitlines() if line.startswith(start)
    )


@pytest.mark.parametrize("case", UNREADABLE)
def test_unreadable_request_is_refused_as_a_problem(binary, case):
    """The response gives the reason and an id, the connection is closed, and the refusal is counted once."""
    sent, status, detail = UNREADABLE[case]
    path = "/predict" if sent.startswith(b"POST /predict") else "other"
    before = {way: _counted(binary, way, status) for way in ("/predict", "other")}
    with connect(binary.url) as connection:
        reply = exchange(connection, sent)[0]
        assert is_closed(connection)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert reply.headers["connection"] == "close" and reply.headers["x-content-type-options"] == "nosniff"
    assert reply.json["status"] == status and reply.json["detail"].startswith(detail), reply.json
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    after = {way: _counted(binary, way, status) for way in before}
    if sent.startswith(b"GET /healthz"):
        assert after == before  # counted under its own path
    else:
        assert after == before | {path: before[path] + 1}


def test_unreadable_request_keeps_its_request_id(binary):
    """An id that was read before the fault is returned."""
    reply = talk(binary.url, head("POST /predict", x_request_id="mine", transfer_encoding="chunked") + b"zz\r\n")[0]
    assert (reply.status, reply.headers["x-request-id"]) == (400, "mine")


@pytest.mark.parametrize(
    "first", [post("/predict"), START + chunked(), HEALTH, HEALTH * 3], ids=["direct", "task", "get", "gets"]
)
@pytest.mark.parametrize("last", [b"no request\r\n\r\n", START + b"zz\r\n"], ids=["in a head", "in a body"])
def test_requests_before_the_fault_are_answered_first(binary, first, last):
    """Earlier requests on the connection get their responses in order, and then the refusal comes."""
    wanted = first.count(b"HTTP/1.1")
    with connect(binary.url) as connection:
        replies = exchange(connection, first + last, replies=wanted + 1)
        assert is_closed(connection)
    assert [reply.status for reply in replies] == [200] * wanted + [400]
    assert replies[-1].headers["content-type"] == "application/problem+json"


def test_fault_in_an_answered_body_closes_the_connection(binary):
    """A request gets one response: a fault found afterwards does not cause a second one."""
    sent = head("POST /nothing", transfer_encoding="chunked")
    with connect(binary.url) as connection:
        assert exchange(connection, sent)[0].status == 404
        connection.sendall(b"zz\r\n")
        assert is_closed(connection)


def test_nothing_is_read_after_a_fault(binary):
    """Later requests on the connection get no response, even valid ones."""
    with connect(binary.url) as connection:
        assert exchange(connection, b"no request\r\n\r\n" + HEALTH)[0].status == 400
        assert is_closed(connection)


def test_fault_is_not_logged(binary):
    """A scanner cannot fill the log."""
    talk(binary.url, b"no request\r\n\r\n")
    assert "Invalid HTTP" not in binary.logged


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *(
            ("http://elsewhere/healthz", 200),
            ("http://elsewhere/healthz?a=b", 200),
            ("HTTP://127.0.0.1:1/healthz", 200),
        ),
        *(("http://elsewhere", 200), ("http://elsewhere?a=b", 200), ("http://elsewhere/nothing", 404), ("*", 404)),
    ],
)
def test_absolute_request_target_is_accepted(binary, target, status):
    """Proxies send absolute URLs; one without a path means "/"."""
    assert talk(binary.url, head(f"GET {target}"))[0].status == status


def test_prediction_works_with_an_absolute_target(binary):
    """As with a path, including keep-alive."""
    replies = talk(binary.url, post("http://x/predict") + post("/predict"), replies=2)
    assert [reply.json["label"] for reply in replies] == ["yes", "yes"]


@pytest.mark.parametrize(
    "sent", [post("/predict"), START + chunked(), HEALTH, HEALTH * 2], ids=["direct", "task", "get", "gets"]
)
def test_half_closed_connection_gets_its_responses(binary, sent):
    """A client that closed its sending side still gets its responses, and then the connection ends."""
    wanted = sent.count(b"HTTP/1.1")
    with connect(binary.url) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        replies = exchange(connection, replies=wanted)
        assert [reply.status for reply in replies] == [200] * wanted and is_closed(connection)


def test_incomplete_request_gets_no_response(binary):
    """When a client stops in the middle of a request, the connection ends."""
    with connect(binary.url) as connection:
        connection.sendall(post("/predict")[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert is_closed(connection)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/invocations", "/healthz"])
def test_trailers_are_ignored(binary, path):
    """Lines after a chunked body are not headers, whatever their names."""
    trailer = b"X-Request-ID: trailer\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
    line = "GET /healthz" if path == "/healthz" else f"POST {path}"
    sent = head(line, transfer_encoding="chunked", trailer="X-Request-ID") + chunked(trailer=trailer)
    replies = talk(binary.url, sent + HEALTH, replies=2)
    assert len(replies) == 2 and replies[0].headers["x-request-id"] != "trailer" and replies[1].status == 200


def test_connection_close_in_a_trailer_closes(binary):
    """The parser also accepts `Connection: close` after a body: the connection is closed after the response and does not hang."""
    with connect(binary.url) as connection:
        assert (
            exchange(connection, START + chunked(trailer=b"Connection: close\r\n"))[0].headers["connection"] == "close"
        )
        assert is_closed(connection)


def test_unneeded_body_is_skipped(binary):
    """A body for a path that takes none is skipped, and the connection stays open."""
    replies = talk(binary.url, head("GET /healthz", content_length=5) + b"12345" + post("/predict"), replies=2)
    assert [reply.status for reply in replies] == [200, 200]


@pytest.mark.parametrize(
    "sent", [b"GET /healthz HTTP/1.0\r\n\r\n", head("GET /healthz", connection="close")], ids=["1.0", "close"]
)
def test_nothing_is_answered_after_connection_close(binary, sent):
    """A request with `Connection: close` gets the last response."""
    with connect(binary.url) as connection:
        assert exchange(connection, sent + HEALTH, replies=2)[0].status == 200
        assert is_closed(connection)


def test_expect_continue_is_refused_for_a_large_body(binary):
    """`Expect: 100-continue` for a body that is too large gets the refusal before the body is sent."""
    with connect(binary.url) as connection:
        connection.sendall(head("POST /predict", content_length=50_000_000, expect="100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_blank_lines_before_a_request_are_ignored(binary):
    """Some clients send an empty line after a body (RFC 9112, 2.2)."""
    replies = talk(binary.url, post("/predict") + b"\r\n" + post("/predict") + b"\r\n\r\n" + HEALTH, replies=3)
    assert [reply.status for reply in replies] == [200, 200, 200]


def test_pipelined_requests_may_be_split_anywhere(binary):
    """Wherever the bytes of three requests are split in two, three responses come."""
    sent = post("/predict", upgrade="h2c", connection="upgrade") + START + chunked() + HEALTH
    for cut in range(1, len(sent), 17):
        with connect(binary.url) as connection:
            connection.sendall(sent[:cut])
            time.sleep(0.002)
            assert [reply.status for reply in exchange(connection, sent[cut:], replies=3)] == [200] * 3, cut
