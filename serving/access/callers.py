"""Authentication of clients: every request needs a key, unless the service is open."""

from serving.access.keys import SCOPES, Caller, Keys
from serving.access.rate_limit import RateLimit
from serving.config import Config
from serving.log.identity import identity
from serving.problems import Problem
from serving.requests.body import LARGEST_BODY

BEARER = b"bearer "  # case-insensitive, RFC 9110 section 11.1
HINT = "send it in the header X-API-Key, or as Authorization: Bearer"
BYTES = "too many bytes from this caller; send smaller bodies, or fewer a second"
CHALLENGE = {"www-authenticate": "Bearer"}
GUEST = Caller("anybody", frozenset(SCOPES), b"", identity("anybody"))


class Callers:
    """Checks each request's key, scope and rate limit."""

    def __init__(self, config: Config):
        """Read the keys; raises KeysError."""
        self.keys = None if config.open else Keys(config.keys, config.keys_file)
        self._requests = RateLimit(config.rate_limit)
        self._bytes = RateLimit(config.rate_limit_bytes, LARGEST_BODY)

    def admit(self, key: bytes, scope: str) -> Caller:
        """The client with this key, the value of X-API-Key or of Authorization; raises Problem 401 or 403."""
        if self.keys is None:
            return GUEST
        if not key:
            raise Problem(401, f"a key is needed; {HINT}", headers=CHALLENGE)
        bare = key[len(BEARER) :] if key[: len(BEARER)].lower() == BEARER else key
        caller = self.keys.find(bare.strip())
        if caller is None:
            several = "; more than one was sent" if b", " in key else ""
            raise Problem(401, f"the key is not known here{several}", headers=CHALLENGE)
        if scope not in caller.scopes:
            raise Problem(403, f"the key of {caller.name!r} may not do this; it needs the scope {scope!r}")
        return caller

    def refresh(self) -> None:
        """Reload the keys file now if it changed."""
        if self.keys is not None:
            self.keys.refresh()

    def limit(self, caller: Caller, address: str, size: int) -> None:
        """Count a request with a body of `size` bytes; raises Problem 429.

        Without keys, clients are told apart by their address.
        """
        # All workers are forked from one process, so their hashes agree.
        number = hash(address) if caller is GUEST else caller.number
        if wait := self._requests.wait(number):
            raise _too_much("too many requests from this caller; send fewer a second", wait)
        if wait := self._bytes.wait(number, size):
            raise _too_much(BYTES, wait)

    def limit_bytes(self, caller: Caller, address: str, size: int) -> None:
        """Count the bytes of a body that had no declared length; raises Problem 429."""
        if wait := self._bytes.wait(hash(address) if caller is GUEST else caller.number, size):
            raise _too_much(BYTES, wait)


def _too_much(detail: str, wait: float) -> Problem:
    return Problem(429, detail, headers={"retry-after": str(int(wait) + 1)})
