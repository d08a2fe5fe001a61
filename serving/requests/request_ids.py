"""Ids of requests: the caller's own, or a new one."""

import itertools
import os
import re
from typing import Annotated

from msgspec import Meta

REQUEST_ID = r"[!-~]{1,128}"  # what can stand in a header as it is
RequestId = Annotated[str, Meta(pattern=rf"\A{REQUEST_ID}\Z", min_length=1, max_length=128, examples=["b2a7c0"])]

_USABLE = re.compile(REQUEST_ID)
_NUMBER = itertools.count()
_process = os.urandom(8).hex()


def request_id(header: bytes) -> str:
    """The caller's X-Request-ID when it can be given back as it is, else ""."""
    given = header.decode("latin-1")
    return given if _USABLE.fullmatch(given) else ""


def new_request_id() -> str:
    """An id that no other request has: 16 random digits of this process, and a number."""
    return f"{_process}{next(_NUMBER):016x}"


def begin_process() -> None:
    """Draw this process's digits anew: after a fork two processes would give the same ids."""
    global _process
    _process = os.urandom(8).hex()
