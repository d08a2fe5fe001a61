"""A workflow of this repository, started through GitHub's API by a person's own token, or the page where it is started by hand."""

import os
import re
import subprocess
from urllib.parse import urlsplit

import requests

from pipeline.artifacts import ROOT
from pipeline.errors import DeployError

SECONDS = 15
GITHUB = "github.com"
HERE = ("127.0.0.1", "localhost", "::1")
ORIGIN = re.compile(
    r"(?:(?:https|ssh|git)://)?(?:[^@/]*@)?(?P<host>[\w.-]+)(?::\d+)?[:/](?P<path>[\w.-]+/[\w.-]+?)(?:\.git)?/?"
)


def repository() -> tuple[str, str] | None:
    """The server's address and OWNER/NAME: of GITHUB_REPOSITORY, else of the remote `origin`; None for one that is not on GitHub."""
    server, path = os.environ.get("GITHUB_SERVER_URL", f"https://{GITHUB}"), os.environ.get("GITHUB_REPOSITORY")
    if path:
        return server.rstrip("/"), path
    found = ORIGIN.fullmatch(_run("git", "-C", str(ROOT), "remote", "get-url", "origin"))
    if found is None or (found["host"] != GITHUB and "GITHUB_API_URL" not in os.environ):
        return None
    return f"https://{found['host']}", found["path"]


def token() -> str:
    """GITHUB_TOKEN, GH_TOKEN, or what GitHub's own command `gh` is logged in with; "" when there is none."""
    return os.environ.get("GITHUB_TOKEN") or os.environ.get("GH_TOKEN") or _run("gh", "auth", "token")


def _run(*command: str) -> str:
    """What a command says, or "" when it is not there, fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def page(workflow: str) -> str:
    """Where to start a workflow by hand: an address where it is known."""
    found = repository()
    return f"{found[0]}/{found[1]}/actions/workflows/{workflow}" if found else f"the page of {workflow} under Actions"


def start(workflow: str) -> bool:
    """Start a workflow on the default branch; False when there is no token or no repository on GitHub to start it with.

    Raises DeployError when GitHub refuses or does not answer.
    """
    found, secret = repository(), token()
    if found is None or not secret:
        return False
    api = os.environ.get("GITHUB_API_URL", f"https://api.{GITHUB}").rstrip("/")
    parts = urlsplit(api)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HERE):
        raise DeployError("GITHUB_API_URL is not an https address, and a token must not travel in the open")
    try:
        branch = _ask("GET", f"{api}/repos/{found[1]}", secret).json()["default_branch"]
    except (ValueError, KeyError, TypeError):
        raise DeployError(f"what answers at {api} is not GitHub") from None
    _ask("POST", f"{api}/repos/{found[1]}/actions/workflows/{workflow}/dispatches", secret, {"ref": branch})
    return True


def _ask(method: str, url: str, secret: str, body: dict | None = None) -> requests.Response:
    def with_token(request):  # instead of a header: requests would put a log-in from ~/.netrc in its place
        request.headers["Authorization"] = f"Bearer {secret}"
        return request

    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    try:
        answer = requests.request(
            method, url, json=body, headers=headers, auth=with_token, timeout=SECONDS, allow_redirects=False
        )
    except requests.RequestException as error:
        raise DeployError(f"GitHub does not answer ({type(error).__name__})") from None
    if not 200 <= answer.status_code < 300:
        raise DeployError(f"GitHub answers {answer.status_code} {answer.reason}")
    return answer
