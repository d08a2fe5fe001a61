"""Structured logs: one JSON object a line, on standard error. They hold no key, and no feature unless asked to."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TextIO


class JsonLines(logging.Formatter):
    """A record as {"time", "level", "logger", "message", "traceback"}."""

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
    """Let everything of level INFO leave as lines of JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("serving").setLevel(logging.INFO)


class RequestLog:
    """A line for each request, where SLIPWAY_REQUEST_LOG asks for it."""

    def __init__(self, on: bool, stream: TextIO | None = None):
        self.on = on
        self._stream = stream or sys.stderr

    def write(self, method: str, path: str, status: int, seconds: float, request_id: str, caller: str) -> None:
        """Write who asked for what, and what came of it; never the body, nor the query, which may hold anything."""
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
