"""Raw requests over a connection, and their parsed responses."""

import json
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

BODY = b'{"features": [12.5, -0.5, 4, true], "request_id": "x"}'


@dataclass(frozen=True)
class Reply:
    """One response: its status, its headers by lower-case name, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


def talk(url: str, *segments: bytes, replies: int = 1, method: str = "POST") -> list[Reply]:
    """Send these segments, a moment apart, over one connection; read this many replies, fewer if the connection closes.

    `method` is that of the requests: a response to HEAD has no body.
    """
    with connect(url) as connection:
        return exchange(connection, *segments, replies=replies, method=method)


def connect(url: str) -> socket.socket:
    """A connection to a service."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def exchange(connection: socket.socket, *segments: bytes, replies: int = 1, method: str = "POST") -> list[Reply]:
    """The same over an open connection."""
    for number, segment in enumerate(segments):
        if number:
            time.sleep(0.05)  # so that it becomes a separate TCP segment
        connection.sendall(segment)
    arrived, found = b"", []
    while len(found) < replies:
        reply, arrived = _one(arrived, method)
        if reply is not None:
            if reply.status != 100:
                found.append(reply)
            continue
        more = connection.recv(1 << 20)
        if not more:
            break
        arrived += more
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the service closes the connection without sending another byte."""
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


def head(line: str, **headers: Any) -> bytes:
    """The head of a request. Underscores in header names become dashes; the default host is this machine."""
    given = {"host": "127.0.0.1", **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items() if value is not None]
    return f"{line} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")


def post(path: str, body: bytes = BODY, **headers: Any) -> bytes:
    """A POST with a declared length."""
    return head(f"POST {path}", content_length=len(body), **headers) + body


def chunked(body: bytes = BODY, trailer: bytes = b"") -> bytes:
    """A body in two chunks."""
    return b"20\r\n%b\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (body[:32], len(body[32:]), body[32:], trailer)


def _one(arrived: bytes, method: str) -> tuple[Reply | None, bytes]:
    start, found, rest = arrived.partition(b"\r\n\r\n")
    if not found:
        return None, arrived
    line, *lines = start.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
    status = int(re.match(r"HTTP/1\.1 (\d{3})", line)[1])
    length = 0 if status in (100, 204, 304) or method == "HEAD" else int(headers["content-length"])
    if len(rest) < length:
        return None, arrived
    return Reply(status, headers, rest[:length]), rest[length:]
