"""What Alertmanager posts, and which of its alerts ask for the monitor. Standard library only: the relay's image has little else."""

import hmac
import json
from dataclasses import dataclass, field

from delivery.relay.worker import Worker
from pipeline.registry.webhooks import Refusal

VERSION = "4"  # of Alertmanager's webhook
MAX_BODY = 1024 * 1024  # an alert is about a kilobyte, and a group may have hundreds
EVERY_SECONDS = 3600  # for one alert of one model; the monitor judges whole days
MOST = 1000  # alerts that are remembered
# The alerts about the model, of monitoring/prometheus/rules/; those about the service are no reason to judge the model. When
# the monitor itself is late, it is started, too. The label slipway_monitor: "true" makes any rule one of them.
NAMES = frozenset(
    (
        "DataBroken",
        "FeatureDrift",
        "PredictionDrift",
        "TargetDrift",
        "ConceptDrift",
        "PerformanceLow",
        "AccuracyBelowLimit",
        "PredictedValuesShifted",
        "ClassesShifted",
        "MonitorStale",
    )
)
LABEL = "slipway_monitor"


@dataclass(repr=False)
class Alerts:
    """The token that Alertmanager shows, the worker that starts the monitor, and when each alert last did. No repr: the token is secret."""

    bearer: str
    worker: Worker
    told: dict[str, float] = field(default_factory=dict)

    def new(self, names: set[str], now: float) -> set[str]:
        """Those that started nothing within the last hour; they are remembered."""
        for name, when in list(self.told.items()):
            if now - when >= EVERY_SECONDS:
                self.told.pop(name, None)
        new = {name for name in names if name not in self.told}
        if len(self.told) + len(new) > MOST:
            raise Refusal(429, "full", f"more than {MOST} different alerts came within an hour; try again later")
        self.told.update(dict.fromkeys(new, now))
        return new


def verify(authorization: str, bearer: str) -> None:
    """Raise Refusal (401) unless the header shows the token; the comparison takes a time that tells nothing about it."""
    if not authorization:
        raise Refusal(
            401, "unsigned", "a bearer token is needed: http_config.authorization.credentials_file in Alertmanager"
        )
    if not hmac.compare_digest(authorization.encode(), f"Bearer {bearer}".encode()):
        raise Refusal(401, "token", "the bearer token is not the relay's SLIPWAY_RELAY_BEARER")


def parse(body: bytes, model: str) -> set[str]:
    """The names of the firing alerts that are about this model in production; raises Refusal (400) for what Alertmanager does not send."""
    try:
        said = json.loads(body)
        version, alerts = said["version"], said["alerts"]
        firing = [one["labels"] for one in alerts if one["status"] == "firing"]
        names = {labels["alertname"] for labels in firing if _asks(labels, model)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refusal(400, "malformed", "the body is not what Alertmanager's webhook sends as JSON") from None
    if version != VERSION:
        raise Refusal(400, "version", f"the body is not version {VERSION} of Alertmanager's webhook")
    if not all(isinstance(name, str) for name in names):
        raise Refusal(400, "malformed", "the alertname of an alert is not text")
    return names


def _asks(labels: dict[str, str], model: str) -> bool:
    """Whether an alert is about the model that the monitor judges; one that names no model or environment is."""
    ours = labels.get("model", model) == model and labels.get("environment", "production") == "production"
    return ours and (labels["alertname"] in NAMES or labels.get(LABEL) == "true")
