"""The image registry, reached through the engine: push, and ask whether an image is there.

The engine's client never raises when a push fails: the stream of events says so. A registry that was lost is tried three times.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from delivery.images.docker_engine import events, in_words
from pipeline import container_registry
from pipeline.errors import ImageError

WAITS = (2, 8)  # seconds before the second and the third try to reach a registry
TELL = 3  # seconds between two words on how far a push is
Answer = TypeVar("Answer")
REFUSALS = (
    (
        r"unauthorized|denied|forbidden|authentication required|no basic auth|\b40[13]\b",
        "refuses the log-in, or this user may not push there",
        "check IMAGE_REPOSITORY_USERNAME and IMAGE_REPOSITORY_PASSWORD, or `docker login`",
    ),
    (r"name unknown|does not exist", "has no such repository", "make it there first, or correct IMAGE_REPOSITORY"),
    (
        r"HTTP response to HTTPS client",
        "speaks HTTP, not HTTPS",
        "give it TLS, or name it in the engine's insecure-registries",
    ),
    (r"x509|certificate", "has a certificate that the engine does not trust", "give the engine its authority"),
    (r"no space left|insufficient storage", "has no space left (or the engine has none)", "make room there"),
)


class Lost(ImageError):
    """A registry did not answer, or not sensibly: the next try may do better."""


def push(engine, repository: str, tag: str, auth: dict[str, str] | None) -> str:
    """Push an image, three times if need be, and return its digest in the registry."""

    def once() -> str:
        stream = engine.api.push(repository, tag=tag, auth_config=auth, stream=True, decode=True)
        return _pushed(events(stream))

    print(f"pushing {repository}:{tag}", flush=True)
    return _with_patience(once, repository)


def has(engine, image: str, auth: dict[str, str] | None) -> bool:
    """Whether the registry still has an image, given as REPOSITORY@DIGEST."""
    from docker.errors import APIError, NotFound

    def once() -> bool:
        try:
            engine.images.get_registry_data(image, auth_config=auth)
            return True
        except NotFound:
            return False
        except APIError as error:
            # Some registries say "denied" of what is not there. If it is the log-in, the push will say so.
            if error.status_code in (401, 403):
                return False
            raise

    return _with_patience(once, image.partition("@")[0])


def _pushed(events: Iterator[dict[str, Any]]) -> str:
    """Follow a push, say every few seconds how far it is, and return the digest."""
    digest, told = "", time.monotonic()
    sizes: dict[str, tuple[int, int]] = {}
    for event in events:
        digest = event.get("aux", {}).get("Digest", digest)
        detail = event.get("progressDetail") or {}
        if "total" in detail:
            sizes[event["id"]] = (detail["current"], detail["total"])
        if time.monotonic() - told > TELL and (progress := _progress(event, sizes)):
            print(f"  {progress}", flush=True)
            told = time.monotonic()
    if not digest:
        raise OSError("the push ended without a digest")
    return digest


def _progress(event: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> str:
    """How far a push is: that the engine waits for the registry, else what it has sent of what it must; "" before that."""
    if event.get("status", "").startswith("Retrying"):
        return f"the registry does not answer, {event['status'].lower()}"
    if not sizes:
        return ""
    done, total = (sum(part) / 1e6 for part in zip(*sizes.values(), strict=True))
    return f"{done:.0f} of {total:.0f} MB"


def _with_patience(once: Callable[[], Answer], repository: str) -> Answer:
    """Ask a registry, and again after WAITS when it did not answer."""
    for wait in (*WAITS, None):
        try:
            with in_words(lambda text: _refused(repository, text)):
                return once()
        except Lost as error:
            if wait is None:
                raise
            print(f"  {error.what}; trying again in {wait} s", flush=True)
            time.sleep(wait)
    raise AssertionError  # not reached: the last try returns or raises


def _refused(repository: str, text: str) -> ImageError:
    """What a registry's answer means; Lost when another try may help."""
    registry = container_registry.host(repository)
    for pattern, what, then in REFUSALS:
        if re.search(pattern, text, re.I):
            return ImageError(f"{registry} {what}: {text}", then)
    return Lost(
        f"{registry} was lost or does not answer: {text}",
        "run this again when it is back: what has arrived there is not sent again",
    )
