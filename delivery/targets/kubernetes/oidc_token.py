"""A kubectl credential plugin: logs in with the job's GitHub OIDC token, so that no key is stored anywhere.

`make cluster` configures it for a user without credentials. The cluster must trust GitHub's issuer for the audience
SLIPWAY_OIDC_AUDIENCE (default: kubernetes). Standard library only, because kubectl starts it for each call.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from pipeline.errors import DeployError, edge

URL, BEARER = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
SECONDS = 4  # for one response; all attempts together stay below the 15 seconds of a call to the API server
PAUSE = 1  # seconds before another attempt
EARLY = 30  # seconds before its expiry when a token is no longer used, because clocks differ
PERMISSION = "give the job, and the job that calls its workflow, `permissions: id-token: write`"


@edge
def main(argv: list[str] | None = None) -> None:
    """Print an ExecCredential."""
    print(json.dumps(credential(token(os.environ.get("SLIPWAY_OIDC_AUDIENCE") or "kubernetes"))))


def available() -> bool:
    """Whether this job may request a token."""
    return bool(os.environ.get(URL) and os.environ.get(BEARER))


def credential(value: str) -> dict[str, Any]:
    """The ExecCredential for kubectl: the token and its expiry."""
    status = {"token": value}
    if ends := expiry(value):
        status["expirationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends - EARLY))
    return {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}


def expiry(value: str) -> float | None:
    """A token's expiry in seconds, or None when it has none: then kubectl requests another at its next start."""
    try:
        part = value.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def token(audience: str) -> str:
    """GitHub's OIDC token for an audience; raises DeployError when there is none."""
    if not available():
        raise DeployError(f"this job may not ask for GitHub's OIDC token: {URL} is not set", PERMISSION)
    url = os.environ[URL]
    url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"audience": audience})
    try:
        value = json.loads(_ask(url))["value"]
    except (KeyError, TypeError, ValueError):
        value = None
    if not isinstance(value, str) or not value:
        raise DeployError("GitHub's OIDC endpoint answered without a token", "run the job again")
    return value


def _ask(url: str) -> bytes:
    """The endpoint's response, with two retries when it fails or does not answer."""
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ[BEARER]}"})
    except ValueError:
        raise DeployError(f"{URL} is no address", "run the job again") from None
    for wait in (PAUSE, PAUSE, None):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            said = f"answered {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                raise DeployError(f"GitHub's OIDC endpoint {said}", PERMISSION) from None
        except OSError as error:
            said = f"cannot be reached ({getattr(error, 'reason', error)})"
        if wait is None:
            raise DeployError(
                f"GitHub's OIDC endpoint {said}", "run the job again; githubstatus.com says how GitHub is"
            )
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


if __name__ == "__main__":
    sys.exit(main())
