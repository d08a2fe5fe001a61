"""The load test counts every answer, charges a stall to the service, and tells each failure in words."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from delivery.load import measurement
from delivery.release import Release
from delivery.targets import process
from pipeline.processes import free_port
from pipeline.settings import load_settings
from scripts.load_test import main
from tests.serving.bundles import ROWS, make_bundle, read
from tests.serving.service import serving

ROOT = Path(__file__).resolve().parents[3]
INFO = {
    "name": "cars",
    "version": "3",
    "inputs": [{"name": "mass", "example": 12.5}, {"name": "sold", "example": True}],
}
OK = (200, {"label": "no"}, {})
CLOSING = (*OK[:2], {"Connection": "close"})
BUSY = (429, {"detail": "too many requests; send fewer"}, {"Retry-After": "7"})
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Double:
    """A small HTTP server, and what it was asked: each prediction's path, key and body, in order."""

    url: str = ""
    asked: list[tuple[str, str | None, dict]] = field(default_factory=list)
    roles: set[str | None] = field(default_factory=set)
    stop: object = None


@pytest.fixture
def served():
    """A function that starts a server whose `predict(number)` says status, body and headers of that prediction.

    Prediction 1 is the one that the load test tries first; then comes one to warm up each connection.
    """
    servers = []

    def start(predict=lambda number: OK, info=(200, INFO, {}), version="HTTP/1.1", tls=None):
        double = Double()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = version
            wbufsize = -1  # an answer is one packet

            def do_GET(self):
                self._answer(*info)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                double.asked.append((self.path, self.headers["X-API-Key"], body))
                double.roles.add(self.headers["Slipway-Role"])
                answer = predict(len(double.asked))
                if answer is None:
                    self.close_connection = True
                else:
                    self._answer(*answer)

            def _answer(self, status, body, headers):
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                if version != "HTTP/1.0":
                    self.send_header("Content-Length", str(len(raw)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *_):
                pass  # callers who leave

        server = Server(("127.0.0.1", 0), Handler)
        servers.append(server)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        double.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
        double.stop = server.server_close
        return double

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The real service."""
    with serving(make_bundle("binary", tmp_path_factory.mktemp("load") / "bundle")) as service:
        yield service


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    """A build folder of the test's own, and no key in the environment."""
    monkeypatch.setattr(measurement, "BUILD", tmp_path / "build")
    monkeypatch.delenv("SLIPWAY_KEY", raising=False)
    return tmp_path / "build"


@pytest.fixture
def load(capsys):
    """A function that loads an address and returns exit status, result and standard error."""

    def run(url, *options):
        status = main(["--url", url, "--json", *options])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, json.loads(said.out), said.err

    return run


# --- what is measured ---


def test_each_request_at_a_rate_is_answered_by_the_service(running, load, build):
    """A hundred requests a second for a second are a hundred predictions, without an error, and a picture."""
    status, result, _ = load(running.url, "--rate", "100", "--seconds", "1")
    assert (status, result["success"]) == (0, True)
    assert result["requests"] == result["predictions"] == 100
    assert (result["name"], result["version"], result["failed"], result["unanswered"]) == ("cars", "3", 0, 0)
    assert result["errors"] == result["connection_errors"] == []
    latency = result["latency_ms"]
    assert list(latency) == ["mean", "median", "p95", "p99", "max"]
    assert 0 < latency["median"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert Path(result["picture"]) == build / "load.png" and (build / "load.png").read_bytes().startswith(PNG)


def test_as_fast_as_answered_counts_what_the_service_counted(served, load):
    """Closed loop: the service saw what was counted, one that was tried, and one to warm up each connection."""
    double = served()
    status, result, _ = load(double.url, "--connections", "3", "--seconds", "0.5")
    assert status == 0 and result["predictions"] > 0
    assert len(double.asked) == result["predictions"] + 1 + 3


def test_a_batch_counts_its_rows(running, load):
    """--rows 40: the real service takes the batches, and rows a second are forty times the predictions."""
    status, result, _ = load(running.url, "--rows", "40", "--rate", "50", "--seconds", "1")
    assert (status, result["predictions"], result["rows_per_request"]) == (0, 50, 40)
    assert result["rows_per_second"] == pytest.approx(40 * 50 / result["seconds"], rel=0.01)


def test_a_batch_has_as_many_rows_as_asked_for(served, load):
    """/predict/batch gets that many rows, also more than there are."""
    double = served()
    load(double.url, "--rows", "7", "--rate", "10", "--seconds", "0.5")
    assert {path for path, *_ in double.asked} == {"/predict/batch"}
    assert all(body == {"features": [[12.5, True]] * 7} for *_, body in double.asked)


def test_the_golden_rows_of_the_very_model_are_sent(running, load, build):
    """build/bundle of the same model gives the rows; another version's does not."""
    make_bundle("binary", build / "bundle")
    assert load(running.url, "--rate", "50", "--seconds", "0.2")[1]["rows"] == f"{ROWS} golden rows of its bundle"
    (build / "bundle").rename(build / "other")
    make_bundle("binary", build / "bundle", version="4")
    status, result, _ = load(running.url, "--rate", "50", "--seconds", "0.2")
    assert (status, result["rows"]) == (0, "the example row of /model/info")


def test_golden_rows_are_sent_in_turn(served, load, build):
    """Each of the rows is asked, and asked again, in their order."""
    bundle = make_bundle("binary", build / "bundle")
    double = served(info=(200, {**INFO, "digest": read(bundle, "release.json")["digest"]}, {}))
    load(double.url, "--connections", "1", "--rate", "100", "--seconds", "0.6")
    sent = [body["features"] for *_, body in double.asked[1:]]
    assert len(sent) == 61
    assert sent == (read(bundle, "golden.json")["inputs"] * 3)[: len(sent)]


def test_a_stall_is_charged_for_all_who_had_to_wait(served, load):
    """At a rate, the 100 requests that are due while the service stalls for a second have their latency from when they were due."""
    stalled = threading.Lock()

    def predict(number):
        if number == 40:
            with stalled:
                time.sleep(1)
        with stalled:
            return OK

    options = ("--connections", "4", "--rate", "100", "--seconds", "2")
    status, result, _ = load(served(predict).url, *options)
    assert (status, result["requests"]) == (0, 200)
    # Counted from when they were sent, only four of the 200 would have waited.
    assert result["latency_ms"]["max"] > 900
    assert result["latency_ms"]["p95"] > 500


def test_what_is_due_before_the_end_is_still_sent_after_it(served, load):
    """The only caller is held up until after the end, and must come back: those that were due behind it are asked then."""

    def predict(number):
        if number == 40:
            time.sleep(0.6)
        return CLOSING

    status, result, _ = load(served(predict).url, "--connections", "1", "--rate", "50", "--seconds", "1")
    assert (status, result["requests"], result["unanswered"]) == (0, 50, 0)


def test_what_is_under_way_at_the_end_is_awaited(served, load):
    """A request that was sent in time and answered after the end is counted, and its time with it."""

    def predict(number):
        time.sleep(0.4 if number == 3 else 0)
        return OK

    status, result, _ = load(served(predict).url, "--connections", "1", "--seconds", "0.2")
    assert (status, result["requests"], result["unanswered"]) == (0, 1, 0)
    assert result["seconds"] >= 0.4 and result["latency_ms"]["max"] >= 400


def test_a_service_that_does_not_keep_up_fails(served, load):
    """Two callers, 50 ms each, are 40 requests a second; at 200 the rest is without an answer, and has waited."""

    def predict(number):
        time.sleep(0.05)
        return OK

    status, result, err = load(served(predict).url, "--connections", "2", "--rate", "200", "--seconds", "1")
    assert (status, result["success"]) == (1, False)
    assert result["unanswered"] == result["failed"] > 50
    assert result["requests"] + result["unanswered"] == 200
    assert result["latency_ms"]["p95"] > 900
    assert "it does not keep up with this --rate" in err


# --- what comes back besides predictions ---


def test_a_refusal_is_told_in_its_own_words(served, load):
    """429: counted by status with its detail and Retry-After; exit status 1, and no latency of it."""
    status, result, err = load(served(lambda number: BUSY).url, "--rate", "50", "--seconds", "0.5")
    assert (status, result["predictions"], result["latency_ms"], result["picture"]) == (1, 0, None, None)
    assert result["errors"] == [
        {"status": 429, "count": 25, "detail": "too many requests; send fewer", "retry_after": "7"}
    ]
    assert "error: 25 requests failed at http://127.0.0.1:" in err and "--expect 429" in err


def test_an_expected_status_is_no_failure(served, load):
    """--expect 429 --expect 503: both are shown, exit status 0; a third still fails."""
    answers = {1: BUSY, 2: (503, {"detail": "later"}, {}), 3: OK, 4: (500, b"<h1>oops", {})}
    some = served(lambda number: answers[number % 3 + 1])
    options = ("--rate", "60", "--seconds", "0.5", "--connections", "2", "--expect", "429", "--expect", "503")
    status, result, _ = load(some.url, *options)
    assert (status, result["success"], result["failed"]) == (0, True, 0)
    assert [error["status"] for error in result["errors"]] == [429, 503]
    status, result, _ = load(served(lambda number: answers[number % 4 + 1]).url, *options)
    assert (status, result["success"]) == (1, False)
    assert result["errors"][1]["detail"] == "<h1>oops"
    assert result["failed"] == result["errors"][1]["count"] > 0


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("options", [["--seconds", "0.5"], ["--seconds", "0.5", "--rate", "50"]])
def test_a_service_that_closes_after_each_answer_makes_no_error(served, load, version, options):
    """Connection: close, and an answer that ends with its connection: callers come back, and nothing is lost."""
    double = served(lambda number: CLOSING, version=version)
    status, result, _ = load(double.url, "--connections", "2", *options)
    assert (status, result["failed"], result["connection_errors"]) == (0, 0, [])
    assert result["predictions"] == len(double.asked) - 1 - 2 > 2


def test_a_connection_that_is_closed_without_an_answer_is_an_error(served, load):
    """Every tenth request is lost with its connection; the others are answered, and the load goes on."""
    double = served(lambda number: None if number % 10 == 0 else OK)
    status, result, _ = load(double.url, "--connections", "2", "--rate", "50", "--seconds", "1")
    (error,) = result["connection_errors"]
    assert status == 1 and error["what"] == "the connection was closed before the answer"
    assert error["count"] == result["failed"] == 5
    assert result["predictions"] == 45


def test_an_answer_that_does_not_come_in_time_is_an_error(served, load):
    """--timeout 0.2: the caller gives up, comes back, and what it waited counts."""
    over = threading.Event()

    def predict(number):
        if number % 10 == 0:
            over.wait(20)
        return OK

    double = served(predict)
    status, result, _ = load(double.url, "--connections", "2", "--rate", "20", "--seconds", "1", "--timeout", "0.2")
    over.set()
    assert status == 1
    assert result["connection_errors"] == [{"what": "no answer within 0.2 s", "count": 2}]
    assert result["predictions"] == 18 and result["latency_ms"]["max"] >= 200


def test_a_service_that_ends_meanwhile_is_told(served, load):
    """When nothing listens any more, each attempt to come back is counted, and the load still ends with its figures."""

    def predict(number):
        if number == 20:
            double.stop()
        return CLOSING

    double = served(predict)
    status, result, _ = load(double.url, "--connections", "2", "--seconds", "0.5")
    assert status == 1 and result["predictions"] >= 17
    assert result["connection_errors"][0]["what"] == "nothing listens there"


# --- what is shown ---


def _in_one_line(table):
    return " ".join(table.replace("│", " ").split())


def test_the_table_has_all_figures(served, capsys):
    """Rate, rows, latencies, refusals with their words, and the picture; the error on standard error."""
    url = served(lambda number: BUSY if number % 2 else OK).url
    assert main(["--url", url, "--rate", "50", "--seconds", "0.4", "--connections", "2"]) == 1
    shown = capsys.readouterr()
    text = _in_one_line(shown.out)
    for words in (
        f"load of {url}, cars version 3",
        "50 requests/s due, 2 connections",
        "requests 20 ",
        "latency, median",
        "latency, p99",
        "answered 429 10 times: too many requests; send fewer; Retry-After: 7",
        "% of a core",
    ):
        assert words in text
    assert shown.err.startswith(f"loading {url} for 0.4 s\nerror: 10 requests failed")


def test_a_picture_that_cannot_be_written_costs_no_figures(served, load, tmp_path):
    """The result is printed all the same, and the error says where it should have gone."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "load.png"
    status, result, err = load(served().url, "--rate", "20", "--seconds", "0.2", "--picture", str(path))
    assert (status, result["predictions"], result["picture"]) == (1, 4, None)
    assert f"error: the picture cannot be written to {path}: " in err


@pytest.mark.parametrize(("busy", "told"), [(0.0, True), (1e9, False)])
def test_a_generator_that_was_the_limit_says_so(served, capsys, monkeypatch, busy, told):
    """From so much of its core on, what was measured is the generator, and the table says that."""
    monkeypatch.setattr(measurement, "BUSY", busy)
    main(["--url", served().url, "--rate", "50", "--seconds", "0.2"])
    assert ("it was the limit itself" in capsys.readouterr().out) is told


def test_what_a_server_says_cannot_draw_on_the_terminal(served, capsys):
    """Escape sequences in a detail or in the model's name are shown as blanks."""
    info = (200, {**INFO, "name": "\x1b[31mcars"}, {})
    url = served(lambda number: (500, {"detail": "\x1b[2Jgone\x07 [bold]"}, {}), info).url
    assert main(["--url", url, "--rate", "20", "--seconds", "0.2"]) == 1
    shown = capsys.readouterr()
    assert "\x1b[2J" not in shown.out + shown.err and "\x1b[31m" not in shown.out and "\x07" not in shown.out
    assert "gone  [bold]" in shown.out


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_key_is_sent_and_never_shown(served, capsys, monkeypatch, by):
    """Every request carries X-API-Key, and is marked as a test for the prediction log; neither output nor errors show the key."""
    double = served(lambda number: BUSY)
    if by == "environment":
        monkeypatch.setenv("SLIPWAY_KEY", "s3cr3t-key")
    key = ["--key", "s3cr3t-key"] if by == "option" else []
    main(["--url", double.url, "--rate", "20", "--seconds", "0.2", *key])
    shown = capsys.readouterr()
    assert {key for _, key, _ in double.asked} == {"s3cr3t-key"} and double.roles == {"test"}
    assert "s3cr3t" not in shown.out + shown.err


def test_a_path_goes_before_the_services_own(served, load):
    """Behind a gateway at /models/cancer, that is where predictions are asked for."""
    double = served()
    load(f"{double.url}/models/cancer/", "--rate", "20", "--seconds", "0.2")
    assert {path for path, *_ in double.asked} == {"/models/cancer/predict"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_what_was_measured(served, tmp_path, number):
    """Ctrl-C or the end of a job in the middle of a long load: the table, no traceback, exit status 130."""
    arrived = threading.Event()

    def predict(asked):
        if asked == 100:
            arrived.set()
        return OK

    command = [
        sys.executable,
        "-m",
        "scripts.load_test",
        "--url",
        served(predict).url,
        "--picture",
        str(tmp_path / "p.png"),
    ]
    loading = subprocess.Popen(
        [*command, "--seconds", "600"],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "SLIPWAY_KEY"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert arrived.wait(60)
        loading.send_signal(number)
        out, err = loading.communicate(timeout=60)
    finally:
        loading.kill()
    assert loading.returncode == 130 and "Traceback" not in err
    text = _in_one_line(out)
    assert "stopped early" in text and "requests/s" in text
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)


def test_https_is_loaded_where_its_certificate_is_trusted(served, load, capsys, monkeypatch, tmp_path):
    """A certificate of an unknown authority is told in words; with SSL_CERT_FILE naming that, the load goes on."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    url = served(tls=context).url
    assert "its certificate is not trusted" in _refused(capsys, "--url", url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    status, result, _ = load(url, "--rate", "50", "--seconds", "0.4", "--connections", "2")
    assert (status, result["predictions"], result["failed"]) == (0, 20, 0)


# --- what cannot be loaded ---


def _refused(capsys, *arguments):
    assert main(list(arguments)) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "Traceback" not in shown.err
    assert shown.err.startswith("error: ") and shown.err.count("\n") <= 2
    return shown.err


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://x", "http://", "http://x:99999", "http://[::1", "http://x/?a=b", "http://a\udce4"],
)
def test_what_is_no_address_is_told(capsys, url):
    """One line that names it, and how an address looks."""
    assert "http://HOST:PORT" in _refused(capsys, "--url", url)


def test_a_password_in_the_address_is_refused_and_not_shown(capsys):
    """It would stand in every output; a key has its own place."""
    said = _refused(capsys, "--url", "http://me:s3cr3t@127.0.0.1:8000")
    assert "SLIPWAY_KEY" in said and "s3cr3t" not in said


def test_an_address_where_nothing_listens_is_told(capsys):
    """A refused connection is words, as is a name that nobody knows."""
    url = f"http://127.0.0.1:{free_port()}"
    assert f"{url} cannot be asked: nothing listens there" in _refused(capsys, "--url", url)
    assert "this name is not known" in _refused(capsys, "--url", "http://no-such-host.invalid")


@pytest.mark.parametrize(
    "info",
    [(404, {"detail": "no such page"}, {}), (200, b"<h1>Welcome</h1>", {}), (200, [], {}), (200, {"name": "x"}, {})],
)
def test_another_service_is_told(served, capsys, info):
    """Without our /model/info it is none of ours, and what it said instead is shown."""
    said = _refused(capsys, "--url", served(info=info).url)
    assert f"this is no prediction service: /model/info answered {info[0]}: " in said


@pytest.mark.parametrize("at_once", [True, False])
def test_what_does_not_speak_http_is_told(capsys, at_once):
    """A port of another protocol is not waited for, whether it speaks first or when it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            caller, _ = listener.accept()
            with caller:
                at_once or caller.recv(1000)
                caller.sendall(b"220 mail ready\r\n")
                while caller.recv(1000):
                    pass

        threading.Thread(target=greet, daemon=True).start()
        said = _refused(capsys, "--url", f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert "what came back is not HTTP" in said


@pytest.mark.parametrize("place", ["info", "predict"])
def test_a_missing_or_wrong_key_is_told(served, capsys, place):
    """401 on the first question: the service's words, and where the key goes; a key that was given is not shown."""
    closed = (401, {"detail": "an API key is needed"}, {})
    double = served(info=closed) if place == "info" else served(lambda number: closed)
    said = _refused(capsys, "--url", double.url)
    assert "answered 401: an API key is needed" in said and "SLIPWAY_KEY" in said
    said = _refused(capsys, "--url", double.url, "--key", "wr0ng")
    assert "this key does not open it" in said and "wr0ng" not in said


def test_a_key_that_no_header_can_carry_is_refused_unseen(served, capsys):
    """A line break in a key would write headers of its own."""
    said = _refused(capsys, "--url", served().url, "--key", "abc\r\nX-Other: 1")
    assert "a character that no key has" in said and "abc" not in said


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "http://x", "--environment", "staging"],
        ["--environment", "moon"],
        ["--connections", "0"],
        ["--seconds", "nan"],
        ["--rate", "-1"],
        ["--rows", "1.5"],
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(options, capsys):
    """Exit status 2, and what is possible."""
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


# --- environments ---


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Settings of a project of its own, whose environments are processes on ports of their own."""
    text = (ROOT / "tests" / "example" / "pipeline.toml").read_text(encoding="utf-8")
    for old, new in (
        ('target = "auto"', 'target = "process"'),
        ("production_port = 8000", f"production_port = {free_port()}"),
        ("staging_port = 8001", f"staging_port = {free_port()}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "pipeline.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "STATE", tmp_path)
    return load_settings()


def test_without_an_address_production_is_loaded(settings, tmp_path, capsys):
    """What is deployed to production is asked at its own address, with the golden rows of the bundle that it serves."""
    bundle = make_bundle("binary", tmp_path / "production" / "bundle")
    digest = read(bundle, "release.json")["digest"]
    try:
        process.release("production", Release("cars", "3", digest, bundle), settings)
        capsys.readouterr()
        assert main(["--rate", "50", "--seconds", "0.5", "--json"]) == 0
    finally:
        process.stop("production")
    result = json.loads(capsys.readouterr().out)
    assert (result["predictions"], result["rows"]) == (25, f"{ROWS} golden rows of its bundle")
    assert result["url"] == f"http://127.0.0.1:{settings.deploy.production_port}"


@pytest.mark.parametrize("options", [[], ["--environment", "staging"]])
def test_an_empty_environment_says_what_to_run(settings, capsys, options):
    """Where nothing is deployed, the next command is told."""
    environment = options[-1] if options else "production"
    said = _refused(capsys, *options)
    assert f"nothing is deployed to {environment}" in said and f"`make deploy ENVIRONMENT={environment}`" in said
