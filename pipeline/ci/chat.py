"""Messages to a chat (Slack, Teams, Mattermost …) through the webhook in SLIPWAY_WEBHOOK."""

import json
import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pipeline.ci import outputs

SECONDS = 10
HERE = ("127.0.0.1", "localhost", "::1")
RESULTS = ("failure", "cancelled")  # what a job may end with that people should hear of, the worst first


class NotElsewhere(urllib.request.HTTPRedirectHandler):
    """A webhook that sends us elsewhere is not followed: the message is for the address that was given."""

    def redirect_request(self, *_):
        """Follow nothing; the answer counts as an error."""
        return None


def tell(text: str) -> bool:
    """Send a message where SLIPWAY_WEBHOOK is set, and say whether it arrived; one that does not is a warning."""
    if not (url := webhook_url()):
        return False
    problem = wrong(url) or send(url, text)
    if problem:
        # Neither the address nor the library's words, which may repeat it: whoever knows it may write there.
        print(f"{'::warning::' if outputs.is_workflow() else 'warning: '}nobody was told: SLIPWAY_WEBHOOK {problem}")
    return not problem


def webhook_url() -> str:
    """The address in SLIPWAY_WEBHOOK, or ""."""
    return os.environ.get("SLIPWAY_WEBHOOK", "").strip()


def jobs(needs: str) -> dict[str, str]:
    """Results of jobs by name; {} when NEEDS holds none."""
    try:
        found = json.loads(needs)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return {}
    return {name: str(job.get("result")) for name, job in found.items() if isinstance(job, dict)}


def message(results: dict[str, str]) -> str:
    """Repository, workflow, how it ended, which jobs did not succeed, and where to read on."""
    get = os.environ.get
    bad = {name: result for name, result in results.items() if result in RESULTS}
    ended = next((result for result in RESULTS if result in bad.values()), "success" if results else "result unknown")
    failed = f" ({', '.join(bad)})" if bad else ""
    link = f"{get('GITHUB_SERVER_URL', '')}/{get('GITHUB_REPOSITORY', '')}/actions/runs/{get('GITHUB_RUN_ID', '')}"
    return (
        f"{get('GITHUB_REPOSITORY', 'a repository')}: {get('GITHUB_WORKFLOW', 'a workflow')}: {ended}{failed}\n{link}"
    )


def wrong(url: str) -> str:
    """Why a message may not be sent to this address, or ""."""
    try:
        parts = urlsplit(url)
        there = parts.hostname if parts.scheme == "https" else parts.scheme == "http" and parts.hostname in HERE
    except ValueError:
        there = None
    return "" if there else "is not an https address"


def send(url: str, text: str) -> str:
    """Post the message; why it did not arrive, or ""."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")  # Slack reads <…> as its own marks
    try:
        request = urllib.request.Request(url, data=body(text=escaped), headers={"Content-Type": "application/json"})
        with urllib.request.build_opener(NotElsewhere).open(request, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except Exception as error:  # whatever it is, no workflow is red because of it
        return f"cannot be reached ({type(getattr(error, 'reason', error)).__name__})"


def body(**values: Any) -> bytes:
    """A JSON body."""
    return json.dumps(values).encode()
