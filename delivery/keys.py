"""The key by which delivery itself asks a service, and what a service that this machine starts is told about its callers.

The service knows keys by their hashes alone (serving/access/keys.py). Delivery needs one with the scopes of SCOPES: the target
makes it, or the variable SLIPWAY_KEY holds it. A key is never on a command line, in a message or in a log.
"""

import hashlib
import os
import re
from pathlib import Path

from pipeline.errors import DeployError
from serving.access.keys import Caller, KeysError, read_keys

HEADER = "X-API-Key"
ROLE, TEST = "Slipway-Role", "test"
VARIABLE = "SLIPWAY_KEY"
NAME, SCOPES = "pipeline", "predict,metrics"  # by which the service knows delivery, and what that does
GIVEN = ("SLIPWAY_API_KEYS", "SLIPWAY_API_KEYS_FILE")


def headers(key: str) -> dict[str, str]:
    """The headers of our own requests: they show the key, if there is one, and mark them as tests for the prediction log."""
    return {ROLE: TEST, HEADER: key} if key else {ROLE: TEST}


def from_environment() -> str:
    """The key in SLIPWAY_KEY, or ""; raises DeployError for a text that no header could carry."""
    return usable(os.environ.get(VARIABLE, "").strip(), VARIABLE)


def usable(key: str, where: str) -> str:
    """The key as it is; raises DeployError, which does not repeat it, for a text that no header could carry."""
    if re.fullmatch(r"[!-~]*", key):
        return key
    raise DeployError(f"{where} holds no key: it has spaces, line ends or letters beyond ASCII", "`make key` makes one")


def without_ours(environment: dict[str, str]) -> dict[str, str]:
    """An environment for a service, which needs hashes and not the key that is ours."""
    return {name: value for name, value in environment.items() if name != VARIABLE}


def given() -> str:
    """The variable by which the user gives a service its callers, or "" when anybody may call."""
    return next((name for name in GIVEN if os.environ.get(name)), "")


def ours() -> str:
    """The key for a service on this machine whose callers the user gives, "" where anybody may call.

    Raises DeployError, before anything is started, when the service would not let delivery in.
    """
    if not (variable := given()):
        return ""
    key, text, where = from_environment(), os.environ[variable], variable
    if variable.endswith("_FILE"):
        where = f"{variable} ({text})"
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is not text"
            raise DeployError(f"{where} cannot be read: {said}", f"correct {variable}") from None
    if not key:
        raise DeployError(
            f"{variable} is set, but {VARIABLE} is not, and delivery must ask the service too",
            f"`make key NAME={NAME} SCOPES={SCOPES}`: its line into {variable}, the key into {VARIABLE}",
        )
    prove(key, text, where, VARIABLE)
    return key


def prove(key: str, text: str, where: str, whence: str) -> None:
    """Raise DeployError, naming the line to add, unless lines of callers know this key with all of SCOPES."""
    found = next((caller for caller in callers(text, where) if caller.digest == _digest(key)), None)
    if found is None:
        raise DeployError(
            f"{where} does not have the key of {whence}", f"add this line to it: {line(NAME, SCOPES, key)}"
        )
    if missing := set(SCOPES.split(",")) - found.scopes:
        raise DeployError(
            f"the key of {whence} lacks the scope {', '.join(sorted(missing))} in {where}",
            f"write {SCOPES} as the second word of the line of {found.name}",
        )


def callers(text: str, where: str) -> list[Caller]:
    """The callers of such lines; raises DeployError naming the line that is wrong."""
    try:
        return read_keys(text, where)
    except KeysError as error:
        raise DeployError(str(error), "docs/service.md says what a line of keys is") from error


def line(name: str, scopes: str, key: str) -> str:
    """The line by which a service knows a key."""
    return f"{name} {scopes} {_digest(key).hex()}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
