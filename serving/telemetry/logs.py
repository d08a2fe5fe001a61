"""Structured logs: one JSON object per line on standard error, without keys, and without features unless enabled."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO


class JsonLines(logging.Formatter):
    """Formats a record as {"time", "level", "logger", "message", "traceback"}."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up() -> None:
    """Write everything of level INFO and above as lines of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("serving").setLevel(logging.INFO)


class RequestLog:
    """One line per request, if SLIPWAY_REQUEST_LOG enables it."""

    def __init__(self, on: bool, stream: TextIO | None = None):
        self.on = on
        self._stream = stream or sys.stderr

    def write(self, method: str, path: str, status: int, seconds: float, request_id: str, caller: str) -> None:
        """Write client, request and result; never the body or the query, which may contain anything."""
        line = {
            "time": _time(time.time()),
            "level": "info",
            "logger": "serving.requests",
            "method": method,
            "path": path[:200],
            "status": status,
            "ms": round(seconds * 1000, 3),
            "request_id": request_id,
            "caller": caller,
        }
        self._stream.write(json.dumps(line) + "\n")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
