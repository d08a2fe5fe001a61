"""The headers of a request, as the server gives them: names in lower case."""

from collections.abc import Sequence

Header = tuple[bytes, bytes]


def by_name(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """The value of each header; one that stands twice has both, with a comma between them (RFC 9110, 5.3)."""
    found = dict(headers)
    if len(found) < len(headers):
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        found = {name: b", ".join(several) for name, several in values.items()}
    return found


def shown_key(headers: dict[bytes, bytes]) -> bytes:
    """The key that a request shows, in X-API-Key or in Authorization; b"" for none."""
    return headers.get(b"x-api-key") or headers.get(b"authorization", b"")
