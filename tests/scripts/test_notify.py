"""One message about a workflow's result, sent to a real HTTP server; a failure to send is never red."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts.incoming_webhook import webhook

ROOT = Path(__file__).resolve().parents[2]
RUN = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "octo/model",
    "GITHUB_WORKFLOW": "Deliver <main>",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_RUN_ID": "7",
}


def notify(url: str, needs: dict | str, **environment: str) -> str:
    """Run `make notify` in a job, with a Python without packages; it must be green and not print the webhook's URL."""
    text = needs if isinstance(needs, str) else json.dumps(needs)
    job = {"PATH": os.environ["PATH"], "NEEDS": text, "SLIPWAY_WEBHOOK": url, **RUN, **environment}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "scripts.ci.notify"], cwd=ROOT, env=job, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr and "hunter2" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def results(**jobs: str) -> dict:
    """NEEDS in GitHub's format."""
    return {name: {"result": result, "outputs": {}} for name, result in jobs.items()}


@pytest.mark.parametrize(
    "needs, ended",
    [
        (results(train="success", production="skipped"), "success"),
        (results(train="success", image="failure", staging="cancelled"), "failure (image, staging)"),
        (results(train="cancelled"), "cancelled (train)"),
        ("", "result unknown"),
        ("[1]", "result unknown"),
    ],
)
def test_message_has_result_failed_jobs_and_link(needs, ended):
    """Repository, workflow, result, the jobs that did not succeed and a link, escaped for Slack."""
    with webhook() as server:
        assert "told SLIPWAY_WEBHOOK" in notify(server.url, needs)
        link = "https://github.com/octo/model/actions/runs/7"
        assert server.got == [{"text": f"octo/model: Deliver &lt;main&gt;: {ended}\n{link}"}]


def test_without_a_webhook_nothing_is_sent():
    """One sentence says so."""
    assert "SLIPWAY_WEBHOOK is not set" in notify("", results(train="failure"))


@pytest.mark.parametrize("status, words", [(404, "answered 404"), (500, "answered 500"), (302, "answered 302")])
def test_failing_webhook_is_a_warning(status, words):
    """A refusal, an error or a redirect is not red, and the redirect is not followed."""
    with webhook(status) as server:
        said = notify(server.url, results(train="success"))
        assert said.startswith("::warning::nobody was told") and words in said and len(server.got) == 1


@pytest.mark.parametrize(
    "url",
    ["http://hooks.example.com/hunter2", "hunter2", "file:///hunter2", "https://[hunter2", "https:///hunter2"],
)
def test_only_https_is_used(url):
    """Plain HTTP is for this machine only."""
    assert "is not an https address" in notify(url, results(train="success"))


def test_unreachable_webhook_is_a_warning():
    """The message has the kind of failure only."""
    with webhook() as server:
        url = server.url
    assert "cannot be reached (ConnectionRefusedError)" in notify(url, results(train="success"))
    assert "cannot be reached" in notify("https://127.0.0.1:1/a b\thunter2", results())
    assert notify(url, results(train="success"), GITHUB_ACTIONS="").startswith("warning: nobody was told")
