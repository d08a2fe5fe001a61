"""GitHub's REST API: which repository is meant, with whose token it is spoken to, and what it refuses, in words."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests

from pipeline.artifacts import ROOT
from pipeline.errors import GithubError

SECONDS = 15
GITHUB = "github.com"
HERE = ("127.0.0.1", "localhost", "::1")
ORIGIN = re.compile(
    r"(?:(?:https|ssh|git)://)?(?:[^@/]*@)?(?P<host>[\w.-]+)(?::\d+)?[:/](?P<path>[\w.-]+/[\w.-]+?)(?:\.git)?/?"
)
PAGES = 20  # of a list, with a hundred entries each: what comes after is too old to matter
TRIES, PAUSE, LONGEST_PAUSE = 3, 1.0, 60  # seconds; GitHub itself may ask for a longer pause, up to the last
PASSING = (500, 502, 503, 504)


@dataclass(frozen=True)
class Repository:
    """A repository that may be asked: the address of its API, OWNER/NAME, and the token."""

    api: str
    path: str
    token: str = field(repr=False)

    def ask(self, method: str, rest: str, body: dict[str, Any] | None = None) -> requests.Response:
        """The answer to a request about the repository; raises GithubError with `status` when GitHub refuses or does not answer."""
        return self._ask(method, f"{self.api}/repos/{self.path}{rest}", body)

    def all(self, rest: str) -> Iterator[dict[str, Any]]:
        """The entries of a list, page by page; raises as `ask` does."""
        url: str | None = f"{self.api}/repos/{self.path}{rest}"
        for _ in range(PAGES):
            answer = self._ask("GET", url or "")
            found = self.content(answer)
            yield from (one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()
            url = answer.links.get("next", {}).get("url")
            if not url:
                return
            if not url.startswith(f"{self.api}/"):
                raise GithubError(f"{self.api} leads to another server, to which the token is not sent")

    def content(self, answer: requests.Response) -> Any:
        """The JSON of an answer."""
        try:
            return answer.json()
        except ValueError:
            raise GithubError(f"what answers at {self.api} is not GitHub") from None

    def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> requests.Response:
        """Ask, and again after a pause where that makes nothing twice; what is created is asked for once."""
        for number in range(1, TRIES + 1):
            try:
                answer = _once(method, url, self.token, body)
            except requests.RequestException as error:
                if method == "POST" or number == TRIES:
                    raise GithubError(f"GitHub does not answer ({type(error).__name__})") from None
                time.sleep(PAUSE * number)
                continue
            if 200 <= answer.status_code < 300:
                return answer
            pause = asked_pause(answer)
            passing = answer.status_code in PASSING and method != "POST"
            if number == TRIES or not (passing or (pause is not None and pause <= LONGEST_PAUSE)):
                raise refusal(answer, pause)
            time.sleep(PAUSE * number if pause is None else pause)
        raise AssertionError("the last try returns or raises")


def connect() -> Repository | None:
    """The repository to ask; None when there is none on GitHub, or no token. Raises GithubError where the token would travel in the open."""
    found, secret = repository(), token()
    if found is None or not secret:
        return None
    api = os.environ.get("GITHUB_API_URL", f"https://api.{GITHUB}").rstrip("/")
    parts = urlsplit(api)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in HERE):
        raise GithubError("GITHUB_API_URL is not an https address, and a token must not travel in the open")
    return Repository(api, found[1], secret)


def of_environment() -> Repository | None:
    """The repository that the environment names, as a workflow's does; None on a laptop, whose production is not the repository's."""
    return connect() if os.environ.get("GITHUB_REPOSITORY") else None


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


def page(rest: str) -> str | None:
    """The address of a page of the repository, or None where the repository is not known to be on GitHub."""
    found = repository()
    return f"{found[0]}/{found[1]}/{rest}" if found else None


def _once(method: str, url: str, secret: str, body: dict[str, Any] | None) -> requests.Response:
    def with_token(request):  # instead of a header: requests would put a log-in from ~/.netrc in its place
        request.headers["Authorization"] = f"Bearer {secret}"
        return request

    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    return requests.request(
        method, url, json=body, headers=headers, auth=with_token, timeout=SECONDS, allow_redirects=False
    )


def asked_pause(answer: requests.Response) -> float | None:
    """How many seconds GitHub wants to be left alone, when it refuses because of a rate limit; else None."""
    if answer.status_code not in (403, 429):
        return None
    try:
        if "Retry-After" in answer.headers:
            return max(float(answer.headers["Retry-After"]), 0.0)
        if answer.headers.get("X-RateLimit-Remaining") == "0":
            return max(float(answer.headers["X-RateLimit-Reset"]) - time.time(), 0.0) + 1
    except (KeyError, ValueError):
        pass
    return PAUSE * TRIES if answer.status_code == 429 else None


def refusal(answer: requests.Response, pause: float | None = None) -> GithubError:
    """What a refusal means and what to do."""
    status = answer.status_code
    if pause is not None:
        when = time.strftime("%H:%M UTC", time.gmtime(time.time() + pause))
        return GithubError(
            f"GitHub answers {status}: its rate limit is used up until {when}", "run it again then", status
        )
    says = f"GitHub answers {status} {answer.reason}"
    if status == 401:
        return GithubError(says, "the token has expired or is none: `gh auth login`, or another GITHUB_TOKEN", status)
    if status == 403:
        then = "the token may not do this: in a workflow the job's `permissions` say what it may"
        return GithubError(says, then, status)
    return GithubError(says, status=status)
