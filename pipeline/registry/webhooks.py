"""What MLflow's webhooks say, and whether it was MLflow that said it.

MLflow signs each delivery with the secret that it shares with whoever receives it: over the delivery's id, its time and its
body, so that none of the three can be exchanged. Standard library only: the relay's image has little else.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import SlipwayError

SIGNATURE, TIMESTAMP, DELIVERY = "x-mlflow-signature", "x-mlflow-timestamp", "x-mlflow-delivery-id"
MAX_BODY = 64 * 1024  # MLflow sends some two hundred bytes
AGE_SECONDS = (
    300  # that a delivery may be from now, either way: clocks differ, and a retry carries the time of the first try
)
# A delivery from the future is accepted until its time has come and its age is over.
REMEMBER_SECONDS = 2 * AGE_SECONDS
ALIASES = ("production", "staging")
ACTIONS = ("created", "deleted")  # an alias that is moved is created anew
LONGEST_ID = 100


class Refusal(SlipwayError):
    """A delivery that is not taken: the HTTP status, and a word for it in the metrics."""

    def __init__(self, status: int, reason: str, what: str):
        super().__init__(what)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Event:
    """What happened to an alias of a registered model."""

    model: str
    alias: str
    action: str


def sign(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """The signature that MLflow gives a delivery."""
    text = f"{delivery}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()}"


def verify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> str:
    """The id of a delivery that was signed with the secret within the last minutes; raises Refusal (401) for any other."""
    given, when, delivery = (headers.get(name, "").strip() for name in (SIGNATURE, TIMESTAMP, DELIVERY))
    if not (given and when and delivery):
        raise Refusal(401, "unsigned", f"{SIGNATURE}, {TIMESTAMP} and {DELIVERY} are needed: give the webhook a secret")
    if not _same(given, sign(secret, delivery, when, body)) or len(delivery) > LONGEST_ID:
        raise Refusal(401, "signature", "the signature is not of this body and this secret")
    if not (when.isascii() and when.isdecimal() and abs(now - int(when[:20])) <= AGE_SECONDS):
        raise Refusal(401, "timestamp", f"the time of the delivery is more than {AGE_SECONDS} seconds from now")
    return delivery


def _same(given: str, wanted: str) -> bool:
    """Compare two signatures in a time that tells nothing about where they differ."""
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _bytes(signature: str) -> bytes:
    """The bytes that a signature stands for; none for what is no signature."""
    version, _, encoded = signature.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else b""
    except (binascii.Error, ValueError):
        return b""


def parse(body: bytes) -> Event | None:
    """What a body says about an alias; None for an event of another kind. Raises Refusal (400) when it is none of MLflow's."""
    try:
        said = json.loads(body)
        entity, action = said["entity"], said["action"]
        if entity != "model_version_alias" or action not in ACTIONS:
            return None
        model, alias = said["data"]["name"], said["data"]["alias"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refusal(400, "malformed", "the body is not an event of MLflow as JSON") from None
    if not isinstance(model, str) or not isinstance(alias, str):
        raise Refusal(400, "malformed", "name and alias of the event are not text")
    return Event(model, alias, action)


class Seen:
    """The ids of deliveries that were taken, for as long as such a delivery could come again; never more than `most`."""

    def __init__(self, most: int = 50_000, seconds: float = REMEMBER_SECONDS):
        self.most = most
        self.seconds = seconds
        self.until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, delivery: str) -> bool:
        return delivery in self.until

    def add(self, delivery: str, now: float) -> None:
        """Remember an id; raises Refusal (429) when there are too many, for to forget one would let it come again."""
        while self.until and next(iter(self.until.values())) <= now:
            self.until.popitem(last=False)
        if len(self.until) >= self.most:
            raise Refusal(
                429, "full", f"{self.most} deliveries came within {self.seconds:.0f} seconds; try again later"
            )
        self.until[delivery] = now + self.seconds
