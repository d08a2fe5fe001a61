"""Which pull request a comment belongs to: said by GitHub, never by the report alone."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3

from pipeline.errors import SlipwayError, StageError
from pipeline.pull_request.schema import PullRequest

TRIES, PAUSE_SECONDS, TIMEOUT_SECONDS, MOST_BYTES = 3, 1, 10, 2_000_000


@dataclass(frozen=True)
class Place:
    """Where the comment goes, and the run and commit that it is about."""

    number: int
    head: str
    link: str


def event() -> Mapping[str, Any]:
    """What happened, as GitHub wrote it down for this workflow; raises StageError outside of one."""
    path = os.environ.get("GITHUB_EVENT_PATH", "")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise StageError("there is no event of GitHub to comment on", "this verb is for workflows: GITHUB_EVENT_PATH")
    return found


def expected(happened: Mapping[str, Any]) -> bool:
    """Whether a report can be expected: the event is of a pull request, or of the run of one."""
    return "pull_request" in happened or happened.get("workflow_run", {}).get("event") == "pull_request"


def place(happened: Mapping[str, Any], found: PullRequest) -> Place:
    """Where the comment goes. Raises StageError when the report is of another pull request or commit than the event."""
    try:
        if "workflow_run" in happened:
            return _claimed(happened["workflow_run"], found)
        one = happened["pull_request"]
        if found.number not in (None, one["number"]):
            raise _other("another pull request than the event's")
        return Place(one["number"], one["head"]["sha"], _link(os.environ["GITHUB_RUN_ID"]))
    except (KeyError, TypeError) as error:
        raise StageError(f"the event of GitHub lacks {error}", "run it in a workflow of pull requests") from error


def _claimed(run: Mapping[str, Any], found: PullRequest) -> Place:
    """The pull request that the report names, once GitHub says that the run was of its present head commit."""
    head, repository = run["head_sha"], run["head_repository"]["full_name"]
    if found.number is None or found.head != head:
        raise _other("another commit than that of the run")
    listed = [one["number"] for one in run.get("pull_requests") or []]
    if listed and found.number not in listed:
        raise _other("another pull request than that of the run")
    there = ask(f"pulls/{found.number}")
    try:
        now = (there["number"], there["state"], there["head"]["sha"], (there["head"]["repo"] or {}).get("full_name"))
    except (KeyError, TypeError, AttributeError) as error:
        raise _other("a pull request that GitHub does not describe") from error
    if now != (found.number, "open", head, repository):
        raise _other("a pull request that is closed, has moved on or is somebody else's")
    return Place(found.number, head, _link(run["id"]))


def _other(what: str) -> StageError:
    return StageError(f"the report is of {what}: no comment is made of it", "run the checks of the pull request again")


def _link(run: object) -> str:
    return f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}/actions/runs/{int(str(run))}"


def ask(path: str) -> dict[str, Any]:
    """What GitHub's API says of something in this repository; raises SlipwayError when it does not, after three tries."""
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    why = ""
    for attempt in range(TRIES):
        time.sleep(attempt * PAUSE_SECONDS)
        try:
            status, content = _get(address)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            why = type(error).__name__
            continue
        if status == 200:
            return _object(content)
        why = f"it answers {status}"
        if status < 500 and status != 429:
            break
    raise SlipwayError(f"GitHub's API could not be asked about {path}: {why}", "run this job again")


def _get(address: str) -> tuple[int, bytes]:
    """Status and content; never of another address, never endless."""
    token = os.environ.get("GITHUB_TOKEN")
    headers = {"Accept": "application/vnd.github+json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    limit = time.monotonic() + TIMEOUT_SECONDS
    with requests.get(address, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True) as answer:
        content = b""
        while part := answer.raw.read1(65536, decode_content=True):  # what has come, however little
            content += part
            if time.monotonic() > limit or len(content) > MOST_BYTES:
                raise requests.Timeout("too slow or too long")
        return answer.status_code, content


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SlipwayError("GitHub's API answers with something else than an object", "run this job again")
    return found
