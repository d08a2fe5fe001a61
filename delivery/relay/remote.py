"""The two servers that the relay asks: MLflow, where an alias is, and GitHub, to start a workflow. Both over plain HTTP.

Standard library only, for the relay's image. What a server answers is told by its status and its own short words; a token or a
password is in no message.
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

MOST = 1_000_000  # bytes of an answer that are read
WORKFLOW = "promote.yml"


class Answer(SlipwayError):
    """A server's refusal, or that it cannot be reached: then `status` is 0. `after` is what it says of when to come again."""

    def __init__(self, status: int, what: str, after: str | None = None):
        super().__init__(what)
        self.status = status
        self.after = after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 0 or self.status == 429 or self.status >= 500 or (self.status == 403 and bool(self.after))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Another address gets neither our token nor our request."""

    def redirect_request(self, *_):
        """Follow nothing; the answer counts as an error."""
        return None


def ask(method: str, url: str, headers: dict[str, str], seconds: float, body: Any = None) -> Any:
    """The answer to a request, parsed; raises Answer for any that is no success."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "slipway-relay", **headers}
    try:
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.build_opener(_Stay).open(request, timeout=seconds) as answer:
            text = answer.read(MOST)
            return json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        raise Answer(error.code, _words(error), _after(error.headers)) from None
    except json.JSONDecodeError:
        raise Answer(0, "answers with something that is not JSON") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", error)
        raise Answer(
            0, "does not answer in time" if isinstance(why, TimeoutError) else f"cannot be reached ({why})"
        ) from None


def _words(error: urllib.error.HTTPError) -> str:
    """Status and the server's own sentence, cut short."""
    try:
        said = json.loads(error.read(MOST))
        own = str(said.get("message") or said.get("detail") or "") if isinstance(said, dict) else ""
    except (OSError, ValueError, http.client.HTTPException):
        own = ""
    return f"answers {error.code}" + (f": {' '.join(own.split())[:200]}" if own else f" {error.reason}")


def _after(headers) -> str | None:
    """Seconds to wait, as GitHub says them in either of its ways; a limit that is used up is one to wait for."""
    return headers.get("Retry-After") or ("60" if headers.get("X-RateLimit-Remaining") == "0" else None)


def mlflow_headers(address: str) -> tuple[str, dict[str, str]]:
    """The address without user and password, and the headers that log in there, by MLflow's own variables."""
    parts = urllib.parse.urlsplit(address)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or urllib.parse.unquote(parts.username or "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or urllib.parse.unquote(parts.password or "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    if user:
        return bare, {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}
    return bare, {"Authorization": f"Bearer {token}"} if token else {}


def mlflow(method: str, address: str, path: str, seconds: float = 10, body: Any = None) -> Any:
    """What MLflow answers below /api/2.0/mlflow/; raises Answer."""
    bare, headers = mlflow_headers(address)
    return ask(method, f"{bare}/api/2.0/mlflow/{path}", headers, seconds, body)


def aliases(address: str, model: str, seconds: float = 10) -> dict[str, str] | None:
    """Alias and version of a registered model, None when MLflow has no such model; raises Answer when it cannot say."""
    query = urllib.parse.urlencode({"name": model})
    try:
        found = mlflow("GET", address, f"registered-models/get?{query}", seconds)
        return {each["alias"]: str(each["version"]) for each in found["registered_model"].get("aliases", [])}
    except Answer as answer:
        if answer.status == 404:
            return None
        raise Answer(answer.status, f"MLflow {answer.what}") from None
    except (KeyError, TypeError, AttributeError):
        raise Answer(0, "MLflow answers with something that is no registered model") from None


def dispatch(api: str, repository: str, ref: str, token: str, seconds: float = 10) -> None:
    """Start the workflow that promotes; raises Answer, with what is to be put right where trying again does not help."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    url = f"{api.rstrip('/')}/repos/{repository}/actions/workflows/{WORKFLOW}/dispatches"
    try:
        ask("POST", url, headers, seconds, {"ref": ref})
    except Answer as answer:
        then = "" if answer.passing else f": {remedy(answer.status, repository, ref)}"
        raise Answer(answer.status, f"GitHub {answer.what}{then}", answer.after) from None


def remedy(status: int, repository: str, ref: str) -> str:
    """What to put right when GitHub refuses."""
    return {
        401: "the token in SLIPWAY_RELAY_TOKEN is wrong or has expired; make a new one",
        403: f"the token in SLIPWAY_RELAY_TOKEN may not start workflows; it needs the right Actions: write on {repository}",
        404: f"{repository} has no workflow {WORKFLOW}, or the token in SLIPWAY_RELAY_TOKEN may not see that repository",
        422: f"{repository} has no branch {ref} with a {WORKFLOW} that can be started; SLIPWAY_RELAY_REF names the branch",
    }.get(status, f"see whether {repository} (SLIPWAY_RELAY_REPOSITORY) was renamed, and GITHUB_API_URL is right")
