"""Random requests to a service: correct, faulty and malicious ones."""

import csv
import io
import json
from dataclasses import dataclass

ODD = ["", "text", "\ud800", "\x00", "9" * 400, "{}", "null", "ü€😀", "a" * 3000, "features", "__proto__", "1e3"]
NUMBERS = [
    0,
    1,
    -1,
    3.5,
    1e308,
    -1e308,
    5e-324,
    2**63,
    -(2**63) - 1,
    10**308,
    10**400,
    float("nan"),
    float("inf"),
    -0.0,
]
SPELLED = [b"1e999", b"-1e-999", b"1" + b"0" * 5000, b"0." + b"1" * 5000, b"-0", b"01", b"1.", b"0x10", b"1E+2", b"NaN"]
JSON_PATHS = ("/predict", "/predict/batch", "/invocations", "/feedback")
TYPES = (b"application/json", b"application/json; charset=utf-8", b"text/csv", b"text/plain", b"", b"a", b"\xff/\xfe")
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE")
PATHS = (
    *(path.encode() for path in JSON_PATHS),
    *(b"/health", b"/metrics", b"/admin/status", b"/model/info", b"/docs", b"/openapi.json", b"/ping", b"/"),
    *(b"/%00", b"/%ff", b"/../../etc/passwd", b"/..%2f..%2fetc/passwd", b"//predict", b"/predict/", b"/predict%20"),
    *(b"/" + b"x" * 8000, b"/predict?a=1&a=%00", b"/health?" + b"q" * 4000, b"/%C3%A4", b"/a;b=c", b"*"),
)
# Not HTTP, or incomplete HTTP.
BROKEN = (
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e3\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
    b"POST /predict HTTP/9.9\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /health\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n folded: header\r\n\r\n",
    b"GET /health HTTP/1.1\nHost: localhost\n\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /health HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\r\n\r\n\r\n",
)


@dataclass(frozen=True)
class Request:
    """The bytes of a request; one that is not HTTP need not get a response."""

    raw: bytes
    is_http: bool = True


def random_request(rng, example, key) -> Request:
    """A random request: mostly a valid one with something changed; `key` authenticates it."""
    roll = rng.random()
    if roll < 0.01:
        return Request(rng.choice(BROKEN), False)
    if roll < 0.02:
        return Request(rng.randbytes(rng.randrange(1, 400)) + b"\r\n\r\n", False)
    if roll < 0.05:
        method = rng.choice((*METHODS, b"POST"))
        return Request(_http(rng, method, rng.choice(PATHS), key, b"", b""))
    path = rng.choice(JSON_PATHS)
    content_type = rng.choice(TYPES) if rng.random() < 0.25 else b"application/json"
    body = random_body(rng, example, path)
    if path == "/invocations" and rng.random() < 0.4:
        content_type, body = b"text/csv", _damaged(rng, _csv(rng, example))
    return Request(_http(rng, b"POST", path.encode(), key, content_type, body))


def random_body(rng, example, path="/predict"):
    """A valid or nearly valid body: mostly JSON, sometimes damaged at the byte level."""
    raw = json.dumps(_body(rng, example, path)).encode()
    roll = rng.random()
    if roll < 0.02:
        raw = raw.replace(b"{", b"{" + raw[1:-1] + b"," if len(raw) < 5000 else b"{", 1)  # every key twice
    elif roll < 0.04:
        deep = rng.choice([50, 900, 1100, 20_000])
        opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"1}")])
        raw = raw.replace(b"null", opening * deep + closing * rng.choice([0, deep]), 1)
    elif roll < 0.06:
        raw = raw.replace(rng.choice([b"0", b"1", b"true", b"."]), rng.choice(SPELLED), 1)
    elif roll < 0.07:
        raw = raw.decode().encode(rng.choice(["utf-16", "utf-32", "utf-8-sig"]))
    return _damaged(rng, raw)


def _damaged(rng, raw):
    """The same bytes; one time in ten, one byte is changed, or the bytes are cut off or doubled."""
    if not raw or rng.random() > 0.1:
        return raw
    place = rng.randrange(len(raw))
    return rng.choice(
        [
            raw[:place] + bytes([rng.randrange(256)]) + raw[place + 1 :],
            raw[:place],
            raw[:place] + raw[place:] * 2,
        ]
    )


def _value(rng, depth=0):
    """A random JSON value, often an odd one."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice(ODD)
    if kind == 3:
        return rng.choice([True, False, None])
    if kind == 4:
        return rng.uniform(-200, 200)
    if kind < 7:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(ODD): _value(rng, depth + 1) for _ in range(rng.randrange(4))}


def _near_miss(rng, example):
    """A valid row with at most one change, which gets further than noise does."""
    row = dict(example)
    name = rng.choice(list(row))
    change = rng.randrange(9)
    if change == 0:
        row[name] = _value(rng)
    elif change == 1:
        del row[name]
    elif change == 2:
        row[rng.choice(ODD)] = _value(rng)
    elif change == 3 and isinstance(row[name], int | float):
        row[name] = rng.choice([row[name] * 1e30, -row[name], row[name] + 0.5, 10**30])
    return row if rng.random() < 0.5 else list(row.values())


def _body(rng, example, path):
    if rng.random() < 0.1:
        return _value(rng)
    body = {"/invocations": _invocation, "/feedback": _feedback}.get(path, _prediction)(rng, example, path)
    if rng.random() < 0.1:
        body[rng.choice([*ODD, "request_id", "params", "row"])] = _value(rng)
    return body


def _prediction(rng, example, path):
    rows = [_near_miss(rng, example)]
    if path == "/predict/batch":
        rows += [dict(example)] * rng.choice([0, 1, 3, 200])
        rng.shuffle(rows)
    features = _value(rng) if rng.random() < 0.15 else rows if path == "/predict/batch" else rows[0]
    body = {"features": features}
    for name in ("request_id", "subject"):
        if rng.random() < 0.3:
            body[name] = rng.choice(["abc", "a" * 128, "a" * 300, None, _value(rng)])
    return body


def _invocation(rng, example, path):
    form = rng.choice(FORMS)
    rows = [_near_miss(rng, example) for _ in range(rng.randrange(1, 4))]
    if form == "dataframe_split":
        columns = rng.choice(
            [list(example), rng.sample(list(example), len(example)), [*example, "x"], None, _value(rng)]
        )
        return {
            form: {"columns": columns, "data": [list(row.values()) if isinstance(row, dict) else row for row in rows]}
        }
    if form == "inputs" and rng.random() < 0.5:
        named = dict(example)
        return {form: {name: [value] * rng.choice([1, 2, 2, 2]) for name, value in named.items()}}
    return {form: rows}


def _feedback(rng, example, path):
    outcomes = ["no", "yes", "third", "stayed", 12.5, 3, 10**300, 1e308, _value(rng)]
    body = {"request_id": rng.choice(["abc", "b" * 128, "", _value(rng)]), "outcome": rng.choice(outcomes)}
    if rng.random() < 0.3:
        body["value"] = rng.choice([1.5, -3, 10**300, 10**400, None, _value(rng)])
    if "value" in body and rng.random() < 0.5:
        del body["outcome"]
    if rng.random() < 0.5:
        body["row"] = rng.choice([0, 1, 9999, 10_000, 1.0, _value(rng)])
    return body


def _csv(rng, example):
    rows = [dict(example, **{rng.choice(list(example)): rng.choice([*ODD[3:], "NA", -1, "1e400", "true"])})]
    rows += [dict(example)] * rng.randrange(3)
    names = rng.sample(list(example), len(example)) + ["more"] * rng.randrange(2)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator=rng.choice(["\n", "\r\n", "\r"]))
    writer.writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    return lines.getvalue().encode("utf-8", "surrogatepass")


def _http(rng, method, path, key, content_type, body):
    """A whole request, mostly with plain headers."""
    head = [method + b" " + path + b" HTTP/1.1", b"Host: localhost"]
    if rng.random() < 0.97:
        head.append(b"X-API-Key: " + key if rng.random() < 0.5 else b"Authorization: Bearer " + key)
    else:
        head.append(
            rng.choice([b"X-API-Key: wrong", b"X-API-Key:", b"Authorization: Basic \xff", b"Authorization: bearer"])
        )
    if content_type:
        head.append(b"Content-Type: " + content_type)
    if rng.random() < 0.2:
        names = [b"abc-1", b"", b"a b", b"x" * 129, b"\xe4\xff", b'"quoted"']
        head.append(b"X-Request-ID: " + rng.choice(names))
    if rng.random() < 0.03:
        odd = [b"Expect: 100-continue", b"Content-Encoding: gzip", b"Accept: */*;q=x", b"Cookie: " + b"c" * 4000]
        head.append(rng.choice([*odd, b"X-Forwarded-For: 1.2.3.4", b"Range: bytes=0-1", b"Transfer-Encodinq: x"]))
    if rng.random() < 0.1:
        return b"\r\n".join([*head, b"Transfer-Encoding: chunked", b"", _chunked(rng, body)])
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


def _chunked(rng, body):
    chunks = []
    while body:
        size = rng.randrange(1, len(body) + 1)
        chunks.append(b"%x%s\r\n%s\r\n" % (size, rng.choice([b"", b";extension=1"]), body[:size]))
        body = body[size:]
    return b"".join([*chunks, b"0\r\n", rng.choice([b"", b"Trailer: x\r\n"]), b"\r\n"])
