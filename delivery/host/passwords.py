"""Secrets that `make up` creates: the passwords in monitoring/.env, and Prometheus's key for the service."""

import base64
import re
import secrets

from delivery.host.compose import FOLDER, PASSWORDS
from pipeline.artifacts import write_text
from pipeline.errors import OneHostError
from serving.access.keys import make_key

ENV = FOLDER / ".env"
KEY = FOLDER / "keys" / "prometheus" / "metrics"
HEAD = "# Made by `make up`. Ports, images and more may be set here too: docs/one-host.md.\n"


def make_passwords() -> None:
    """Add missing passwords to monitoring/.env; everything else in it is kept."""
    try:
        text = ENV.read_text(encoding="utf-8") if ENV.exists() else HEAD
    except UnicodeDecodeError:
        raise OneHostError("monitoring/.env is damaged: it is not text", "correct or remove it") from None
    for key in PASSWORDS:
        if not re.search(rf"^{key}=\S", text, re.M):
            text = re.sub(rf"^{key}=.*\n?", "", text, flags=re.M)
            text = f"{text.rstrip()}\n{key}={make_password(key)}\n"
    write_text(ENV, text, mode=0o600)


def make_password(key: str) -> str:
    """A new password; MLflow's webhook key must be 32 bytes as URL-safe base64."""
    if key == "SLIPWAY_MLFLOW_WEBHOOK_KEY":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(16)


def make_metrics_key() -> None:
    """Create Prometheus's key for the service, unless it exists.

    Prometheus runs as another user and must be able to read the file: the folder's permissions keep other users of this
    machine out.
    """
    KEY.parent.mkdir(parents=True, exist_ok=True)
    KEY.parent.parent.chmod(0o700)
    KEY.parent.chmod(0o755)
    if not metrics_key():
        key, _ = make_key("prometheus", "metrics")
        write_text(KEY, key + "\n", mode=0o644)
    KEY.chmod(0o644)


def metrics_key() -> str:
    """Prometheus's key for the service; "" when there is none."""
    try:
        return KEY.read_text(encoding="ascii").strip() if KEY.exists() else ""
    except UnicodeDecodeError:
        raise OneHostError(
            "monitoring/keys/prometheus/metrics is damaged: it is not a key", "remove it: a new one is made"
        ) from None
