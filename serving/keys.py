"""API keys: who may call, known by a hash alone, and changed without a restart.

One line a caller: its name, what it may do, and the SHA-256 of its key. A key is long and random, so a plain hash of it
can no more be turned back than a slow one, and costs a caller nothing.

    billing  predict          4a7d1ed414474e4033ac29ccb8653d9b...
    monitor  metrics          ...
"""

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

SCOPES = ("predict", "metrics", "admin")
PLACEHOLDERS = ("change-me", "changeme", "change_me", "placeholder", "secret", "password", "example", "test", "key", "")
REFUSED = {hashlib.sha256(word.encode()).digest() for word in PLACEHOLDERS}
LOOK_AGAIN = 1.0  # seconds after which a mounted file is looked at again


class KeysError(Exception):
    """The keys cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a key belongs to, and what it opens."""

    name: str
    scopes: frozenset[str]
    digest: bytes


def read_keys(text: str, where: str) -> list[Caller]:
    """The callers of such lines; blank ones and comments (#) are skipped. Raises KeysError naming the line."""
    callers: list[Caller] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.split("#")[0].strip():
            callers.append(_caller(line.split("#")[0].split(), f"{where}, line {number}"))
    names = [caller.name for caller in callers]
    if doubled := sorted({name for name in names if names.count(name) > 2}):
        raise KeysError(f"{where}: {doubled[0]!r} has more than two keys; one is enough, two while it changes")
    return callers


def _caller(parts: list[str], where: str) -> Caller:
    if len(parts) != 3:
        raise KeysError(f"{where}: a line is NAME SCOPES SHA256, here are {len(parts)} words; `make key` prints one")
    name, scopes, digest = parts
    if unknown := sorted(set(scopes.split(",")) - set(SCOPES)):
        raise KeysError(f"{where}: {unknown[0]!r} is no scope; there are {', '.join(SCOPES)}")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise KeysError(f"{where}: the third word is no SHA-256 in hexadecimal; the key itself does not belong here")
    if bytes.fromhex(digest) in REFUSED:
        raise KeysError(f"{where}: this is the hash of a placeholder; `make key` makes a real key")
    return Caller(name, frozenset(scopes.split(",")), bytes.fromhex(digest))


class Keys:
    """The callers of a text, or of a file that is read again whenever it changes."""

    def __init__(self, text: str = "", file: Path | None = None):
        """Read them; raises KeysError when they cannot be used, or when there is none."""
        self._file, self._seen, self._look = file, (0, 0, 0), 0.0
        self._callers = read_keys(text, "SLIPWAY_API_KEYS") if file is None else self._read(file)
        if not self._callers:
            raise KeysError(f"{file or 'SLIPWAY_API_KEYS'} names no caller; `make key` prints a line for it")

    def find(self, key: bytes) -> Caller | None:
        """Whose key this is; takes as long for a wrong key as for any right one."""
        if self._file is not None and time.monotonic() > self._look:
            self._again(self._file)
        digest, found = hashlib.sha256(key).digest(), None
        for caller in self._callers:
            if hmac.compare_digest(digest, caller.digest):
                found = caller
        return found

    def _again(self, file: Path) -> None:
        """Read a changed file; one that cannot be used changes nothing and is told in the log."""
        self._look = time.monotonic() + LOOK_AGAIN
        try:
            if _state(file) != self._seen:
                self._callers = self._read(file) or self._callers
        except KeysError as error:
            logging.getLogger("serving").error("the keys stay as they were: %s", error)

    def _read(self, file: Path) -> list[Caller]:
        try:
            self._seen = _state(file)
            return read_keys(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _state(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise KeysError(f"{file} cannot be read: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
