"""A comment goes only to the pull request that GitHub confirms, whatever a report claims."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline import artifacts
from pipeline.pull_request import event as pull_request_event
from scripts.ci import pr_comment

HEAD = "a" * 40
REPORT = {
    "format": 1,
    "name": "breast-cancer",
    "number": 12,
    "head": HEAD,
    "commit": "b" * 40,
    "link": "https://evil.example/runs/1",
    "failed_stage": "train",
    "failures": [],
    "production_unknown": False,
    "evaluation": None,
    "data": None,
}
THERE = {"number": 12, "state": "open", "head": {"sha": HEAD, "repo": {"full_name": "stranger/fork"}}}
RUN = {
    "id": 77,
    "event": "pull_request",
    "head_sha": HEAD,
    "head_repository": {"full_name": "stranger/fork"},
    "pull_requests": [],
}


class Api(ThreadingHTTPServer):
    """An API with scripted responses that stores its requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers, self.asked = [], []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """Handle one request."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        answers = self.server.answers
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(body):
            return body(self)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def api():
    """A running API on this machine."""
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.answers = [(200, THERE, {})]
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def workflow(tmp_path, monkeypatch, api, capsys):
    """A workflow in which the verb runs; returns a function to run it."""
    build = tmp_path / "build"
    monkeypatch.setattr(artifacts, "BUILD", build)
    monkeypatch.setattr(pull_request_event, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pull_request_event, "TIMEOUT_SECONDS", 0.5)
    for key, value in {
        "GITHUB_EVENT_PATH": tmp_path / "event.json",
        "GITHUB_OUTPUT": tmp_path / "output",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "octo/template",
        "GITHUB_RUN_ID": "99",
        "GITHUB_API_URL": api.address,
        "GITHUB_TOKEN": "token-of-this-job",
    }.items():
        monkeypatch.setenv(key, str(value))

    def run(event, report=REPORT):
        (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
        (tmp_path / "output").unlink(missing_ok=True)
        build.mkdir(exist_ok=True)
        (build / "comment.md").write_text("an older one", encoding="utf-8")
        if report is not None:
            (build / "incoming").mkdir(exist_ok=True)
            (build / "incoming" / "pull_request.json").write_text(json.dumps(report), encoding="utf-8")
        status = pr_comment.main([])
        said = capsys.readouterr()
        return status, said.out + said.err

    run.root, run.build = tmp_path, build
    return run


def outputs(workflow):
    """The outputs of the step; empty when there are none."""
    file = workflow.root / "output"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {line.split("<<")[0]: lines[place + 1] for place, line in enumerate(lines) if "<<" in line}


def refused(workflow, event, report=REPORT):
    """Run a case that must be refused: status 1, a message, no comment and no number; returns the message."""
    status, said = workflow(event, report)
    assert status == 1 and "error: " in said and "next: " in said, said
    assert not (workflow.build / "comment.md").exists()
    assert "number" not in outputs(workflow)
    return said


def test_pull_request_event_gives_the_number(workflow, api):
    """Number and commit come from the event; the API gets no request, and the link is to this run."""
    status, said = workflow({"pull_request": {"number": 12, "head": {"sha": "c" * 40}}}, REPORT | {"number": None})
    assert status == 0, said
    assert outputs(workflow) == {"number": "12", "header": "slipway"}
    text = (workflow.build / "comment.md").read_text(encoding="utf-8")
    assert "https://github.example/octo/template/actions/runs/99" in text and "`cccccccccccc`" in text
    assert "evil.example" not in text and api.asked == []


def test_report_of_another_pull_request_is_refused(workflow):
    """The file cannot move the comment to another pull request."""
    event = {"pull_request": {"number": 12, "head": {"sha": HEAD}}}
    assert "another pull request" in refused(workflow, event, REPORT | {"number": 13})


def test_confirmed_claim_is_commented(workflow, api):
    """An open pull request with that head commit, from the run's repository, gets the comment."""
    status, said = workflow({"workflow_run": RUN})
    assert status == 0, said
    assert outputs(workflow)["number"] == "12"
    assert api.asked == [("/repos/octo/template/pulls/12", "Bearer token-of-this-job")]
    assert "actions/runs/77" in (workflow.build / "comment.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "report",
    [{"number": None}, {"head": None}, {"head": "d" * 40}],
    ids=["no number", "no head", "other head"],
)
def test_claim_that_differs_from_the_run_is_refused(workflow, api, report):
    """A report of another commit than the run's causes no request to the API."""
    assert "another commit" in refused(workflow, {"workflow_run": RUN}, REPORT | report)
    assert api.asked == []


def test_number_that_the_run_does_not_list_is_refused(workflow, api):
    """If GitHub lists the run's pull requests, the number must be one of them."""
    event = {"workflow_run": RUN | {"pull_requests": [{"number": 13}]}}
    assert "another pull request" in refused(workflow, event)
    assert api.asked == []
    assert workflow({"workflow_run": RUN | {"pull_requests": [{"number": 12}]}})[0] == 0


@pytest.mark.parametrize(
    "there",
    [
        THERE | {"state": "closed"},
        THERE | {"number": 13},
        THERE | {"head": {"sha": "d" * 40, "repo": {"full_name": "stranger/fork"}}},
        THERE | {"head": {"sha": HEAD, "repo": {"full_name": "victim/fork"}}},
        THERE | {"head": {"sha": HEAD, "repo": None}},
        THERE | {"head": None},
        {"message": "something else"},
    ],
    ids=["closed", "another number", "moved on", "somebody else's", "deleted fork", "no head", "no pull request"],
)
def test_unconfirmed_claim_is_refused(workflow, api, there):
    """A pull request that is closed, of another commit or of another repository gets no comment."""
    api.answers = [(200, there, {})]
    assert "no comment is made" in refused(workflow, {"workflow_run": RUN})


@pytest.mark.parametrize("status", [401, 403, 404, 301, 302, 307])
def test_refusal_by_the_api_is_final(workflow, api, status):
    """Not found, forbidden or a redirect: one request, refused; a redirect is not followed and gets no token."""
    other = Api()
    api.answers = [(status, {}, {"Location": f"{other.address}/repos/octo/template/pulls/12"})]
    other.answers = [(200, THERE, {})]
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        assert f"it answers {status}" in refused(workflow, {"workflow_run": RUN})
        assert len(api.asked) == 1 and other.asked == []
    finally:
        other.shutdown()
        other.server_close()


def test_failing_api_is_tried_three_times(workflow, api):
    """Two server errors are retried, the third is final."""
    api.answers = [(500, {}, {}), (503, {}, {}), (200, THERE, {})]
    assert workflow({"workflow_run": RUN})[0] == 0
    api.answers, api.asked = [(502, {}, {})], []
    assert "it answers 502" in refused(workflow, {"workflow_run": RUN})
    assert len(api.asked) == 3


def test_unreachable_api_is_refused(workflow, api, monkeypatch):
    """Without confirmation there is no comment."""
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    assert "ConnectionError" in refused(workflow, {"workflow_run": RUN})


def test_slow_api_times_out(workflow, api):
    """A response that comes byte by byte is given up after the time limit, three times."""

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    api.answers = [(200, drip, {})]
    began = time.monotonic()
    assert "Timeout" in refused(workflow, {"workflow_run": RUN})
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"null", b"[" * 100_000, b"\xff"], ids=["html", "list", "null", "deep", "bytes"]
)
def test_response_that_is_not_an_object_is_refused(workflow, api, body):
    """It confirms nothing."""
    api.answers = [(200, body, {})]
    refused(workflow, {"workflow_run": RUN})


def test_endless_response_is_given_up(workflow, api):
    """More than two megabytes are not read."""
    api.answers = [(200, b" " * 3_000_000, {})]
    assert "could not be asked" in refused(workflow, {"workflow_run": RUN})


@pytest.mark.parametrize("event", [{"workflow_run": RUN | {"event": "push"}}, {"push": {}}, {}])
def test_run_without_a_pull_request_gets_no_comment(workflow, event):
    """A push is not an error: the number is empty, the exit green, an older comment file removed."""
    status, said = workflow(event)
    assert status == 0 and "not of a pull request" in said
    assert outputs(workflow)["number"] == "" and not (workflow.build / "comment.md").exists()


def test_run_without_a_report_gets_no_comment(workflow):
    """A run cancelled before its report is not an error."""
    status, said = workflow({"workflow_run": RUN}, report=None)
    assert status == 0 and "left no report" in said
    assert outputs(workflow)["number"] == "" and not (workflow.build / "comment.md").exists()


@pytest.mark.parametrize("event", [[], "x", None])
def test_missing_event_is_refused_with_a_message(workflow, event):
    """Outside a workflow there is nowhere to comment."""
    assert "no event of GitHub" in refused(workflow, event)


@pytest.mark.parametrize(
    "run", [{"event": "pull_request"}, RUN | {"head_repository": None}, RUN | {"pull_requests": 3}]
)
def test_incomplete_event_is_refused_with_a_message(workflow, run):
    """Missing commit or repository are not guessed."""
    refused(workflow, {"workflow_run": run})


def test_invalid_report_is_refused_before_any_request(workflow, api):
    """Status 1, no comment, no request to the API."""
    assert "holds no valid report" in refused(workflow, {"workflow_run": RUN}, REPORT | {"markdown": "# Accepted"})
    assert api.asked == []
