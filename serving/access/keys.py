"""API keys: who may call. Only hashes are stored, and keys change without a restart.

One line per client: its name, its scopes, and the SHA-256 of its key. A key is long and random, so a plain hash is as
hard to reverse as a slow one, and costs a request nothing.

    billing  predict          4a7d1ed414474e4033ac29ccb8653d9b...
    monitor  metrics          ...

    python -m serving.access.keys --name billing --scopes predict
"""

import argparse
import hashlib
import hmac
import logging
import re
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from serving.log.identity import identity

SCOPES = ("predict", "metrics", "admin")
PLACEHOLDERS = ("change-me", "changeme", "change_me", "placeholder", "secret", "password", "example", "test", "key", "")
REFUSED = {hashlib.sha256(word.encode()).digest() for word in PLACEHOLDERS}
LOOK_AGAIN = 1.0  # seconds between checks of the keys file
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class KeysError(Exception):
    """The keys cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key and its scopes; `id` identifies it in the prediction log."""

    name: str
    scopes: frozenset[str]
    digest: bytes
    id: str

    @property
    def number(self) -> int:
        """A number derived from `id`, the same in every worker."""
        return int(self.id[:8], 16)


def read_keys(text: str, where: str, empty: bool = False) -> list[Caller]:
    """Parse lines of keys, skipping blank ones and comments (#). Raises KeysError naming the line.

    No client at all is an error, too, unless `empty` allows it.
    """
    callers: list[Caller] = []
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split("#")[0].split():
            callers.append(_caller(words, f"{where}, line {number}"))
    if not callers and not empty:
        raise KeysError(f"{where} names no caller; `make key` prints a line for it")
    names = [caller.name for caller in callers]
    if doubled := sorted({name for name in names if names.count(name) > 2}):
        raise KeysError(f"{where}: {doubled[0]!r} has more than two keys; one is enough, two while it changes")
    return callers


def _caller(words: list[str], where: str) -> Caller:
    if len(words) != 3:
        raise KeysError(
            f"{where}: a line is NAME SCOPES SHA256, this one has {len(words)} words; `make key` prints one"
        )
    name, scopes, digest = words
    if not re.fullmatch(NAME, name):
        raise KeysError(f"{where}: the name may have letters, digits, dots, dashes and underscores")
    if unknown := sorted(set(scopes.split(",")) - set(SCOPES)):
        raise KeysError(f"{where}: {unknown[0]!r} is no scope; there are {', '.join(SCOPES)}")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise KeysError(f"{where}: the third word is no SHA-256 in hexadecimal; the key itself does not belong here")
    if bytes.fromhex(digest) in REFUSED:
        raise KeysError(f"{where}: this is the hash of a placeholder; `make key` makes a real key")
    return Caller(name, frozenset(scopes.split(",")), bytes.fromhex(digest), identity(name))


class Keys:
    """The clients from a text, or from a file that is read again whenever it changes."""

    def __init__(self, text: str = "", file: Path | None = None):
        """Read them; raises KeysError when they cannot be used, or when there is none."""
        self._file, self._seen, self._look = file, (0, 0, 0), 0.0
        self._shown: dict[
            bytes, Caller
        ] = {}  # valid keys seen so far: hashing takes as long as everything else in a lookup
        self.callers = read_keys(text, "SLIPWAY_API_KEYS") if file is None else self._read(file)

    def find(self, key: bytes) -> Caller | None:
        """The client of this key, or None. Any wrong key takes as long as a valid one seen for the first time."""
        if self._file is not None and time.monotonic() > self._look:
            self._again(self._file)
        found = self._shown.get(key)
        if found is None and (found := self._compare(key)):
            self._shown[key] = found
        return found

    def _compare(self, key: bytes) -> Caller | None:
        digest, found = hashlib.sha256(key).digest(), None
        for caller in self.callers:
            if hmac.compare_digest(digest, caller.digest):
                found = caller
        return found

    def refresh(self) -> None:
        """Check the file now, so that a process forked next starts with its current content."""
        if self._file is not None:
            self._again(self._file)

    def _again(self, file: Path) -> None:
        """Read a changed file. One that cannot be used changes nothing and is reported in the log."""
        self._look = time.monotonic() + LOOK_AGAIN
        try:
            if _state(file) != self._seen:
                # A file with comments alone admits nobody: a leaked key must not stay valid because it was the only
                # one. An empty file is one that is being written.
                self.callers = self._read(file, empty=file.stat().st_size > 0)
                self._shown = {}
        except KeysError as error:
            logging.getLogger("serving").error("the keys stay as they were: %s", error)

    def _read(self, file: Path, empty: bool = False) -> list[Caller]:
        try:
            self._seen = _state(file)
            return read_keys(file.read_text(encoding="utf-8"), str(file), empty)
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _state(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise KeysError(f"{file} cannot be read: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def make_key(name: str, scopes: str) -> tuple[str, str]:
    """A new key, and the line to give to the service; raises KeysError for an invalid name or scope."""
    key = f"slipway_{secrets.token_urlsafe(32)}"
    line = f"{name} {scopes} {hashlib.sha256(key.encode()).hexdigest()}"
    read_keys(line, "the key asked for")
    return key, line


def main(argv: list[str] | None = None) -> int:
    """Print a new key, which cannot be shown again, and its line."""
    parser = argparse.ArgumentParser(prog="python -m serving.access.keys", description="Make an API key.")
    parser.add_argument("--name", required=True, help="who gets it")
    parser.add_argument("--scopes", default="predict", help=f"of {', '.join(SCOPES)}; several with commas")
    args = parser.parse_args(argv)
    try:
        key, line = make_key(args.name, args.scopes)
    except KeysError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The key, for {args.name} alone; it is shown this once:\n\n    {key}\n")
    print(f"The line for the service's SLIPWAY_API_KEYS, or the file of SLIPWAY_API_KEYS_FILE:\n\n    {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
