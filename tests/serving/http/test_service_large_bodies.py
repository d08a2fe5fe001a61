"""Large bodies are parsed in pieces beside the event loop, with the same result as parsing them whole."""

import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import time

import pytest

from serving.model.bundle import open_bundle
from serving.model.rows import RowError, read_rows
from serving.problems import Problem
from serving.requests import body as limits
from serving.requests import decoder as decode
from serving.requests.body import Body, parse_body, parse_json
from serving.requests.decoder import Decoder
from serving.requests.mlflow_protocol import read_invocation
from tests.serving.bundles import make_bundle, make_wide_bundle
from tests.serving.service import serving

ROW = [12.5, -0.5, 4, True]


@pytest.fixture(scope="module")
def columns_contract(tmp_path_factory):
    """The contract of a model with texts, which may contain anything that looks like the end of a row."""
    return open_bundle(make_bundle("columns", tmp_path_factory.mktemp("columns") / "bundle")).contract


def _rows(contract, number, rng):
    """Rows with texts that look like the end of a row, as lists and by name."""
    rows = []
    for _ in range(number):
        row = {column.name: column.example for column in contract.inputs}
        row["note"] = rng.choice(["], [", "}, {", '"', "[", "]", "\\", "ä], {", ""])
        rows.append(row if rng.random() < 0.5 else list(row.values()))
    return rows


def test_body_in_pieces_gives_the_same_rows(columns_contract, monkeypatch):
    """Wherever it is cut, also within a text, the rows are those of the careful reader."""
    rng = random.Random(7)
    at_once = 0
    for size in (1, 7, 50, 200, 1_000, 5_000):
        monkeypatch.setattr(decode, "PIECE", size)
        decoder = Decoder(columns_contract)
        for _ in range(30):
            rows = _rows(columns_contract, rng.randint(1, 40), rng)
            raw = json.dumps(
                {"request_id": "a", "features": rows, "subject": "b]"}, indent=rng.choice([None, 1])
            ).encode()
            found = decoder.many(raw)
            at_once += found.checked
            assert (found.request_id, found.subject) == ("a", "b]")
            assert _plain(decoder.rows(found)) == _plain(read_rows(columns_contract, rows))
    assert at_once > 30


def _plain(rows):
    return [[value if isinstance(value, str) else float(value) for value in row] for row in rows]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw.replace(b"], [", b"] [", 1),
        lambda raw: raw.replace(b"], [", b"],, [", 1),
        lambda raw: raw.replace(b"], [", b"], 5, [", 1),
        lambda raw: raw.replace(b"], [", b"]], [[", 1),
        lambda raw: raw.replace(b"], [", b'], "features": [', 1),
        lambda raw: raw.replace(b"]]}", b"], ]}"),
        lambda raw: raw.replace(b"]]}", b"]]"),
        lambda raw: raw.replace(b"]]}", b"]}"),
        lambda raw: raw + b"]",
        lambda raw: raw.replace(b"[[", b"[, [", 1),
        lambda raw: raw.replace(b"12.5", b"\xff", 1),
        lambda raw: raw.replace(b"}", b', "features": [[1, 1, 1, true]]}'),
        lambda raw: raw.replace(b"{", b'{"x": 1, ', 1),
    ],
)
@pytest.mark.parametrize("size", [1, 10, 40, 100])
def test_damaged_body_is_refused_wherever_it_is_cut(tmp_path, monkeypatch, damage, size):
    """Parsing in pieces refuses what parsing the whole refuses, with the same message."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract
    monkeypatch.setattr(decode, "PIECE", size)
    raw = damage(json.dumps({"features": [ROW] * 10}).encode())

    def judged(read):
        try:
            return _plain(read())
        except (Problem, RowError) as error:
            return str(error)

    decoder = Decoder(contract)
    assert judged(lambda: decoder.rows(decoder.many(raw))) == judged(
        lambda: read_rows(contract, _checked(parse_body(raw)))
    )


def _checked(body):
    limits.check_batch(body.features)
    return body.features


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["mass", "tilt", "doors", "sold"], "data": [ROW] * 5_000}},
        {"dataframe_split": {"columns": ["mass", "tilt", "doors", "sold"], "index": [1, 2], "data": [ROW] * 5_000}},
        {"dataframe_split": {"data": [ROW] * 5_000, "columns": ["mass", "tilt", "doors", "sold"]}},
        {"instances": [ROW] * 5_000},
        {"inputs": [dict(zip(["mass", "tilt", "doors", "sold"], ROW, strict=True))] * 2_000},
        {
            "inputs": dict(
                zip(["sold", "mass", "tilt", "doors"], [[x] * 5_000 for x in (True, 12.5, 1, 2)], strict=True)
            )
        },
    ],
    ids=["split", "split with index", "split, columns last", "lists", "objects", "a list for each name"],
)
def test_large_mlflow_bodies_give_the_same_rows(tmp_path, body):
    """In each form of MLflow's protocol."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract
    raw = json.dumps(body).encode()
    rows, _ = Decoder(contract).invocation(raw, "application/json")
    assert _plain(rows) == _plain(read_invocation(contract, raw, "application/json"))


def test_large_body_is_decoded_in_small_pieces(tmp_path, monkeypatch):
    """No single call of the decoder gets more than a piece and a row, because it would block every other response."""
    contract = open_bundle(make_bundle("binary", tmp_path / "bundle")).contract
    sizes = []
    monkeypatch.setattr(decode, "_text", lambda raw: sizes.append(len(raw)) or raw)
    raw = json.dumps({"features": [ROW] * 10_000}).encode()
    body = Decoder(contract).many(raw)
    assert body.checked and len(body.features) == 10_000 and body.written == raw[len('{"features": ') : -1]
    assert sum(sizes) > len(raw) > 5 * decode.PIECE and max(sizes) < decode.PIECE + 100


def test_too_many_rows_are_counted_in_pieces(tmp_path):
    """The number of rows is reported, whether msgspec or the careful reader read them."""
    decoder = Decoder(open_bundle(make_bundle("binary", tmp_path / "bundle")).contract)
    for row in (ROW, [1]):
        with pytest.raises(Problem, match="12000 rows were given, allowed are 1 to 10000"):
            decoder.many(json.dumps({"features": [row] * 12_000}).encode())


def test_body_of_only_lists_is_refused(tmp_path):
    """A million empty lists would keep the garbage collector busy for seconds."""
    decoder = Decoder(open_bundle(make_bundle("binary", tmp_path / "bundle")).contract)
    with pytest.raises(Problem, match="more than 25000 lists and objects"):
        decoder.many(b'{"features": [' + b"[]," * 1_000_000 + b"[]]}")


@pytest.mark.parametrize(
    "value",
    [[1, -2.5e3, "ä\u0000\ud800", None, True, False, {}, [], {"a": {"b": [1]}}], {"x": 10**400}, "text", 1.5, None],
)
def test_parsing_in_steps_gives_the_same_value(value):
    """The parser that lets other threads run reads what json.loads reads, and refuses with the same messages."""
    raw = json.dumps(value).encode() + b" " * limits.STEPWISE
    assert parse_json(raw) == json.loads(raw)
    for damaged in (raw + b"x", b"\xff" + raw, b"[" + raw, b'{"a" 1}' + raw, b"[1,]" + raw, b"\xef\xbb\xbf{" + raw):
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)) as whole:
            json.loads(damaged)
        with pytest.raises(Problem) as steps:
            parse_json(damaged)
        place = getattr(whole.value, "msg", None) or f"byte {whole.value.start}"
        assert place in str(steps.value)


def test_size_limit_for_one_row_grows_with_the_inputs(tmp_path, columns_contract):
    """64 KB at least, more for each free text and for each name of a wide model."""
    few = open_bundle(make_bundle("binary", tmp_path / "few")).contract
    names = [f"a rather long name of an input, number {number}" for number in range(2_000)]
    wide = open_bundle(make_wide_bundle(tmp_path / "wide", names, ["a", "b"])).contract
    assert limits.limits(few)["/predict"].largest == 65_536
    assert limits.limits(columns_contract)["/predict"].largest > 65_536
    row = json.dumps({"features": dict.fromkeys(names, -1.2345678901234567e-100)}, indent=4).encode()
    assert 65_536 < len(row) < limits.limits(wide)["/predict"].largest
    assert not isinstance(Decoder(wide).one(json.dumps({"features": dict.fromkeys(names, 1.5)}).encode()), Body)


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory):
    """A service with a prediction log and no rate limit."""
    folder = tmp_path_factory.mktemp("unlimited")
    settings = {
        "SLIPWAY_RATE_LIMIT": "0",
        "SLIPWAY_RATE_LIMIT_BYTES": "0",
        "SLIPWAY_DATABASE_URL": f"sqlite:///{folder}/log.db",
    }
    with serving(make_bundle("binary", folder / "bundle"), **settings) as service:
        yield service


FLOOD = """
import socket, sys
host, port, path = sys.argv[1:]
body = b'{"features": [' + b"[]," * 400_000 + b"[]]}"
head = f"POST {path} HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
print("ready", flush=True)
while True:
    try:
        with socket.create_connection((host, int(port)), 60) as connection:
            while True:
                connection.sendall(head.encode() + body)
                answer = connection.recv(1 << 20)
                if not answer or b"413" in answer[:20]:
                    break
                length = int(answer.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
                left = length - len(answer.split(b"\\r\\n\\r\\n", 1)[1])
                while left > 0:
                    left -= len(connection.recv(1 << 20))
    except OSError:
        pass
"""


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_large_bodies_do_not_block_other_clients(unlimited, path):
    """The longest wait is a fraction of the time that parsing one such body takes at that moment."""
    host, port = unlimited.url.removeprefix("http://").split(":")
    floods = [
        subprocess.Popen([sys.executable, "-c", FLOOD, host, port, path], stdout=subprocess.PIPE) for _ in range(4)
    ]
    try:
        for flood in floods:
            flood.stdout.readline()
        body = b'{"features": [' + b"[]," * 400_000 + b"[]]}"
        units, others = [], []
        for number in range(40):
            others.append(_timed(lambda: unlimited.predict(ROW).raise_for_status()))
            if number % 10 == 0:
                others.append(_timed(lambda: unlimited.get("/readyz").raise_for_status()))
                units.append(_timed(lambda: json.loads(body)))
            time.sleep(0.01)
        assert max(others) < statistics.median(units) / 2
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()
            flood.stdout.close()


def _timed(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def test_refused_body_is_not_read_forever(unlimited):
    """The response comes at once; further bytes are read slowly, and only up to a limit."""
    host, port = unlimited.url.removeprefix("http://").split(":")
    sent, most = 0, 200_000_000
    with socket.create_connection((host, int(port)), 60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (10 * most))
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")
        try:
            while sent < most:
                sent += connection.send(bytes(1_000_000))
        except OSError:
            pass
    assert sent < most


def test_client_that_sends_a_refused_body_whole_gets_the_413(unlimited):
    """Twice the allowed size, sent before reading: 413, and the next request on the connection is answered."""
    host, port = unlimited.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    for _ in range(3):
        connection.request("POST", "/predict/batch", bytes(10_000_000))
        refused = connection.getresponse()
        assert refused.status == 413 and b"5000000" in refused.read()
        same = connection.sock
        connection.request("POST", "/predict", json.dumps({"features": ROW}))
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read() and connection.sock is same
    connection.close()
