"""The smoke test detects a service that differs from its bundle, and names the first row that differs."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from delivery.smoke import replay, smoke_test
from delivery.targets import process
from pipeline.errors import DeployError, StageError
from scripts.smoke_test import main
from tests.serving.bundles import KINDS, ROWS, make_bundle, read, write
from tests.serving.service import serving

CHECKS = ["ready", "version", "rows as lists", "rows by name", "batch"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A running binary model."""
    with serving(make_bundle("binary", tmp_path_factory.mktemp("smoke") / "bundle")) as service:
        yield service


@pytest.fixture
def other(tmp_path):
    """The running bundle, which a test may change."""
    return make_bundle("binary", tmp_path / "bundle")


@pytest.fixture
def answering():
    """A function that starts a service with one fixed response to everything, and returns its URL."""
    servers = []

    def start(status, body):
        class Fixed(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Fixed)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _change_golden(bundle, **changes):
    write(bundle, "golden.json", {**read(bundle, "golden.json"), **changes})
    return bundle


@pytest.mark.parametrize("kind", KINDS)
def test_matching_service_passes(kind, tmp_path):
    """Every golden row by list, by name and in a batch, for every kind of model."""
    with serving(make_bundle(kind, tmp_path / "bundle")) as service:
        result = smoke_test(service.url, service.bundle, "3")
    assert result.success and result.reason == ""
    assert [check.check for check in result.checks] == CHECKS
    assert result.rows == ROWS
    assert 0 < result.latency_ms["median"] <= result.latency_ms["p95"] <= result.latency_ms["p99"]


def test_different_label_is_named(running, other):
    """The first row with another label is named with both labels."""
    expected = read(other, "golden.json")["expected"]
    for number in (4, 9):
        seen = expected[number]["label"]
        expected[number]["label"] = {"yes": "no", "no": "yes"}[seen]
    with pytest.raises(DeployError) as caught:
        smoke_test(running.url, _change_golden(other, expected=expected), "3")
    wanted = expected[4]["label"]
    assert f"rows as lists: row 4 is {'yes' if wanted == 'no' else 'no'!r}, expected {wanted!r}" in caught.value.what


def test_different_probability_is_named(running, other):
    """A difference of 2e-5 exceeds the tolerance of 1e-5; the class is named."""
    expected = read(other, "golden.json")["expected"]
    expected[6]["probabilities"][0] += 2e-5
    result = replay(running.url, _change_golden(other, expected=expected), "3")
    assert not result.success
    assert result.reason.startswith("rows as lists: row 6: probability of 'no' is ")
    assert [check.success for check in result.checks] == [True, True, False]


def test_difference_within_the_tolerance_passes(running, other):
    """A difference of 5e-6 is accepted."""
    expected = read(other, "golden.json")["expected"]
    expected[6]["probabilities"][0] += 5e-6
    assert replay(running.url, _change_golden(other, expected=expected), "3").success


def test_tolerance_is_relative_for_large_values(tmp_path):
    """A regression's value of a million may differ by ten, but not by twenty."""
    with serving(make_bundle("regression", tmp_path / "bundle")) as service:
        row = [1, 400_000.0]  # 3 + 2.5 * 400000 + 10 = 1000013
        near = _change_golden(service.bundle, inputs=[row], expected=[{"value": 1_000_022.0}])
        assert replay(service.url, near, "3").success
        far = _change_golden(service.bundle, inputs=[row], expected=[{"value": 1_000_033.0}])
        assert "row 0: value is 1000013.0" in replay(service.url, far, "3").reason


def test_refused_row_is_named(running, other):
    """The message quotes the service's refusal."""
    inputs = read(other, "golden.json")["inputs"]
    inputs[2][0] = -1
    reason = replay(running.url, _change_golden(other, inputs=inputs), "3").reason
    assert reason.startswith("rows as lists: row 2: /predict answered 422 feature 'mass': -1 was given")


def test_another_version_is_detected(running, tmp_path):
    """A service of version 3 does not pass for version 4, and no row is sent."""
    result = replay(running.url, make_bundle("binary", tmp_path / "four", version="4"), "4")
    assert result.reason == "version: the service has version 3, the bundle 4"
    assert [check.check for check in result.checks] == ["ready", "version"]
    assert result.latency_ms is None


def test_same_version_with_another_digest_is_detected(running, other):
    """Another digest is another model, whatever its version."""
    write(other, "release.json", {**read(other, "release.json"), "digest": "0" * 64})
    assert "the service has digest 4e07408562" in replay(running.url, other, "3").reason


def test_missing_service_is_detected_at_once(other):
    """A port where nothing listens fails the first check."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reason = replay(f"http://127.0.0.1:{port}", other, "3").reason
    assert reason == "ready: /readyz cannot be reached (ConnectionError)"


def test_hanging_service_times_out(other, monkeypatch):
    """A service that accepts the connection but does not respond is given up after a limit."""
    monkeypatch.setattr("delivery.smoke.TIMEOUT", (1, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert replay(url, other, "3").reason == "ready: /readyz did not answer within 0.2 s"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "/readyz answered 200 without JSON"),
        (503, b'{"detail": "warming up"}', "/readyz answered 503 warming up"),
        (200, b"[]", "/readyz answered something else than an object"),
        (200, b"{}", "version: the service has name None, the bundle cars"),
    ],
)
def test_another_program_is_detected(answering, other, status, body, words):
    """Any other response is described in the message."""
    assert words in replay(answering(status, body), other, "3").reason


class Lossy:
    """A session with a service that loses predictions."""

    def __init__(self, predictions):
        self._predictions = predictions

    def call(self, *_):
        """Return the same batch for any request."""
        return {"predictions": self._predictions}


@pytest.mark.parametrize(
    ("predictions", "words"),
    [(None, "0 predictions for 25 rows"), ([{"label": "x"}] * 25, "row 0 is 'x', expected")],
)
def test_lost_rows_of_a_batch_are_detected(other, predictions, words):
    """There must be as many answers as rows, each in its row's place."""
    from delivery.smoke import Differs, _batch, _golden

    with pytest.raises(Differs, match=words):
        _batch(Lossy(predictions), _golden(other, "3"))


def test_answer_without_numbers_is_detected(other):
    """A probability that is missing or not a number differs."""
    from delivery.smoke import Differs, _golden

    golden = _golden(other, "3")
    label = golden.expected[0]["label"]
    for probabilities in (None, {}, {"no": "0.5", "yes": "0.5"}):
        with pytest.raises(Differs, match="row 0: probability of 'no' is "):
            golden.compare(0, {"label": label, "probabilities": probabilities})


def test_bundle_of_another_version_is_refused(running, other):
    """Asking for version 9 with a bundle of version 3 is an error of the user."""
    with pytest.raises(StageError, match="is version 3, not 9"):
        smoke_test(running.url, other, "9")


@pytest.mark.parametrize("changes", [{"inputs": [], "expected": []}, {"expected": []}])
def test_bundle_without_golden_rows_is_refused(running, other, changes):
    """Without rows, or with rows without answers, the test could not fail."""
    with pytest.raises(StageError, match="has no rows, or not one answer for each"):
        smoke_test(running.url, _change_golden(other, **changes), "3")


def test_folder_that_is_not_a_bundle_is_named(running, tmp_path):
    """The message has the missing file and advice."""
    with pytest.raises(StageError, match=r"contract\.json is missing") as caught:
        smoke_test(running.url, tmp_path, "3")
    assert "make register" in caught.value.then


def test_command_shows_checks_and_latency(running, capsys):
    """Exit status 0, each check in the table, and median, p95 and p99 in milliseconds."""
    assert main(["--url", running.url, "--bundle", str(running.bundle)]) == 0
    shown = capsys.readouterr()
    for words in [*CHECKS, "cars version 3", "median", "p95", "p99", "ms"]:
        assert words in shown.out
    assert shown.err == ""


def test_command_fails_with_the_row(running, other, capsys):
    """Exit status 1, the table up to the failure, and the row on standard error."""
    inputs = read(other, "golden.json")["inputs"]
    inputs[2][0] = -1
    _change_golden(other, inputs=inputs)
    assert main(["--url", running.url, "--bundle", str(other)]) == 1
    shown = capsys.readouterr()
    assert "FAILED" in shown.out
    assert shown.err.startswith(f"error: smoke test of {running.url} failed: rows as lists: row 2: ")
    assert "next: " in shown.err


def test_command_prints_json(running, capsys):
    """--json prints the whole result and nothing else."""
    assert main(["--url", running.url, "--bundle", str(running.bundle), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["success"] is True
    assert [check["check"] for check in result["checks"]] == CHECKS
    assert set(result["latency_ms"]) == {"median", "p95", "p99"}
    assert (result["url"], result["version"], result["rows"]) == (running.url, "3", ROWS)


def test_empty_environment_names_the_next_command(tmp_path, monkeypatch, capsys):
    """If nothing is deployed, the message says what to run."""
    text = (Path(__file__).parents[1] / "example" / "pipeline.toml").read_text(encoding="utf-8")
    (tmp_path / "pipeline.toml").write_text(text.replace('target = "auto"', 'target = "process"'), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "STATE", tmp_path)
    assert main(["--environment", "production"]) == 1
    error = capsys.readouterr().err
    assert "error: nothing is deployed to production" in error
    assert "`make deploy ENVIRONMENT=production`" in error


@pytest.mark.parametrize("options", [[], ["--url", "http://x"], ["--bundle", "x"], ["--environment", "moon"]])
def test_incomplete_arguments_are_a_usage_error(options, capsys):
    """An environment, or a URL with its bundle, is required."""
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_proxy_settings_are_ignored_on_loopback(running, monkeypatch):
    """Also when the environment has some."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert smoke_test(running.url, running.bundle, "3").success
