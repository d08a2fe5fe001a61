"""HTTP calls of the relay: MLflow's aliases, and GitHub's dispatch of a workflow.

Uses the standard library only, for the relay's small image. Errors have the status and the server's short message; a
token or password is in no message.
"""

import base64
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from pipeline.errors import SlipwayError

MOST = 1_000_000  # bytes of a response that are read at most
PROMOTE, MONITOR = "promote.yml", "monitor.yml"


class RemoteError(SlipwayError):
    """A server refused, or could not be reached (`status` 0). `after` is its Retry-After in seconds."""

    def __init__(self, status: int, what: str, after: str | None = None):
        super().__init__(what)
        self.status = status
        self.after = after

    @property
    def passing(self) -> bool:
        """Whether the error is transient, so that the same request may succeed later."""
        return self.status == 0 or self.status == 429 or self.status >= 500 or (self.status == 403 and bool(self.after))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: another address must get neither our token nor our request."""

    def redirect_request(self, *_):
        """Do not follow; the response becomes an error."""
        return None


def ask(method: str, url: str, headers: dict[str, str], seconds: float, body: Any = None) -> Any:
    """Send a request and return the parsed response; raises RemoteError unless it succeeds."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "slipway-relay", **headers}
    try:
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.build_opener(_Stay).open(request, timeout=seconds) as answer:
            text = answer.read(MOST)
            return json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        raise RemoteError(error.code, _words(error), _after(error.headers)) from None
    except json.JSONDecodeError:
        raise RemoteError(0, "answers with something that is not JSON") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise RemoteError(
            0, "does not answer in time" if isinstance(why, TimeoutError) else f"cannot be reached ({why})"
        ) from None


def _words(error: urllib.error.HTTPError) -> str:
    """Status and the server's message, shortened."""
    try:
        said = json.loads(error.read(MOST))
        own = str(said.get("message") or said.get("detail") or "") if isinstance(said, dict) else ""
    except (OSError, ValueError, http.client.HTTPException):
        own = ""
    return f"answers {error.code}" + (f": {' '.join(own.split())[:200]}" if own else f" {error.reason}")


def _after(headers) -> str | None:
    """Seconds to wait, from either of GitHub's headers; an exhausted rate limit is waited for."""
    return headers.get("Retry-After") or ("60" if headers.get("X-RateLimit-Remaining") == "0" else None)


def mlflow_headers(address: str) -> tuple[str, dict[str, str]]:
    """The URL without user and password, and the headers for login, from MLflow's own variables."""
    parts = urllib.parse.urlsplit(address)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or urllib.parse.unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or urllib.parse.unquote(parts.password or "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    if user:
        return bare, {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    return bare, {"Authorization": f"Bearer {token}"} if token else {}


def mlflow(method: str, address: str, path: str, seconds: float = 10, body: Any = None) -> Any:
    """MLflow's response below /api/2.0/mlflow/; raises RemoteError."""
    bare, headers = mlflow_headers(address)
    return ask(method, f"{bare}/api/2.0/mlflow/{path}", headers, seconds, body)


def aliases(address: str, model: str, seconds: float = 10) -> dict[str, str] | None:
    """Alias and version of a registered model, None when MLflow has no such model; raises RemoteError on any error."""
    query = urllib.parse.urlencode({"name": model})
    try:
        found = mlflow("GET", address, f"registered-models/get?{query}", seconds)
        return {each["alias"]: str(each["version"]) for each in found["registered_model"].get("aliases", [])}
    except RemoteError as answer:
        if answer.status == 404:
            return None
        raise RemoteError(answer.status, f"MLflow {answer.what}") from None
    except (KeyError, TypeError, AttributeError):
        raise RemoteError(0, "MLflow answers with something that is no registered model") from None


def dispatch(api: str, repository: str, ref: str, token: str, workflow: str, seconds: float = 10) -> None:
    """Dispatch a workflow; raises RemoteError, with advice when trying again does not help."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    url = f"{api.rstrip('/')}/repos/{repository}/actions/workflows/{workflow}/dispatches"
    try:
        ask("POST", url, headers, seconds, {"ref": ref})
    except RemoteError as answer:
        then = "" if answer.passing else f": {remedy(answer.status, repository, ref, workflow)}"
        raise RemoteError(answer.status, f"GitHub {answer.what}{then}", answer.after) from None


def remedy(status: int, repository: str, ref: str, workflow: str) -> str:
    """What to fix when GitHub refuses."""
    return {
        401: "the token in SLIPWAY_RELAY_TOKEN is wrong or has expired; make a new one",
        403: f"the token in SLIPWAY_RELAY_TOKEN may not start workflows; it needs the right Actions: write on {repository}",
        404: f"{repository} has no workflow {workflow}, or the token in SLIPWAY_RELAY_TOKEN may not see that repository",
        422: f"{repository} has no branch {ref} with a {workflow} that can be started; SLIPWAY_RELAY_REF names the branch",
    }.get(status, f"see whether {repository} (SLIPWAY_RELAY_REPOSITORY) was renamed, and GITHUB_API_URL is right")
