"""From which web pages a service may be called.

A browser lets any page send requests to this machine. A service without keys, which answers this machine alone, therefore
looks at what the browser says of the page: a page may not call it under a name of its own (DNS rebinding), nor post to it.
Pages of the origins in SLIPWAY_CORS_ORIGINS may, and may read the answers.
"""

import ipaddress

from serving.config import Config
from serving.http.headers import Header
from serving.problems import Problem

READING = ("GET", "HEAD", "OPTIONS")
HINT = "list its origin in SLIPWAY_CORS_ORIGINS to allow it"
REMEMBERED = 100  # names under which this machine was called
EXPOSED = (b"access-control-expose-headers", b"x-request-id, retry-after, x-experiment")
PREFLIGHT: list[Header] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, x-api-key, x-request-id"),
    (b"access-control-max-age", b"600"),
]


class Origins:
    """What a request says of the page that sent it, against what is allowed. Headers are by their lower-case name."""

    def __init__(self, config: Config):
        self.allowed = frozenset(origin.encode() for origin in config.cors_origins)
        self.guards = config.local
        self.known: set[bytes] = set()  # values of Host that name this machine

    def check(self, headers: dict[bytes, bytes], method: str) -> None:
        """Raise Problem 403 where a service of this machine alone is called by a page that may not."""
        host = headers.get(b"host")
        if host is not None and host not in self.known:
            if not _is_this_machine(host.decode("latin-1")):
                detail = f"without keys this service answers only as localhost, not as {_quoted(host)}"
                raise Problem(403, f"{detail}; call it by 127.0.0.1, set keys, or start it with --open")
            if len(self.known) < REMEMBERED:
                self.known.add(host)
        origin = headers.get(b"origin")
        if method in READING or (origin is None and b"sec-fetch-site" not in headers):
            return
        if origin is None:
            if headers[b"sec-fetch-site"] not in (b"none", b"same-origin"):
                raise Problem(403, f"a page of another site may not post to this service; {HINT}")
        elif origin.partition(b"://")[2] != host and not self._allows(origin):
            raise Problem(403, f"a page of {_quoted(origin)} may not post to this service; {HINT}")

    def grants(self, headers: dict[bytes, bytes]) -> list[Header]:
        """What every answer says where origins are allowed: that the page which asks may read it, if it may."""
        origin = headers.get(b"origin")
        vary = (b"vary", b"origin")
        if origin is None or not self._allows(origin):
            return [vary]
        return [vary, (b"access-control-allow-origin", origin), EXPOSED]

    def is_preflight(self, headers: dict[bytes, bytes], method: str) -> bool:
        """Whether a browser asks if a page that is allowed may ask."""
        asks = method == "OPTIONS" and b"access-control-request-method" in headers
        return asks and self._allows(headers.get(b"origin", b""))

    def _allows(self, origin: bytes) -> bool:
        return origin in self.allowed or b"*" in self.allowed


def _is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine: localhost or a loopback address, with any port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _quoted(value: bytes) -> str:
    return repr(value[:100].decode("latin-1"))
