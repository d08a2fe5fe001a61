"""The Secrets with an environment's API keys: created when missing, never changed afterwards.

`model-api-keys` holds the lines with hashes that every pod mounts. The plain keys of the two built-in clients, delivery
and Prometheus, are in Secrets of their own, which no pod mounts. With the component api-keys, the first Secret comes
from a secret store, and an administrator has to add delivery's line there.
"""

import base64
import json
from typing import Any

from delivery import keys
from delivery.targets.kubernetes import kubectl, manifests
from delivery.targets.kubernetes.kubectl import Cluster
from pipeline.errors import DeployError
from serving.access.keys import make_key

KEYS, OURS, METRICS = "model-api-keys", "model-pipeline-key", "model-metrics-key"
LINES, KEY = "keys", "key"  # the data keys of the first Secret, and of the other two


def ours(cluster: Cluster) -> str:
    """Delivery's API key for the environment; "" when there is none yet."""
    return _ours(cluster, kubectl.find(cluster, f"secret/{OURS}"))


def prepared(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    """Create the missing Secrets that pods with these objects need, and return delivery's key.

    Raises DeployError with the line to add when the service would not accept delivery's key.
    """
    found = kubectl.find(cluster, *(f"secret/{name}" for name in (KEYS, OURS, METRICS)))
    elsewhere = manifests.find(objects, "ExternalSecret", KEYS) is not None
    key = _ours(cluster, found) or _make(cluster, OURS, keys.NAME, keys.SCOPES)
    metrics = _text(cluster, found, METRICS, KEY) or _make(cluster, METRICS, "prometheus", "metrics")
    lines = [keys.line(keys.NAME, keys.SCOPES, key), keys.line("prometheus", "metrics", metrics)]
    if f"secret/{KEYS}" in found:
        where, whence = f"Secret {KEYS} in namespace {cluster.namespace}", f"Secret {OURS}"
        keys.prove(key, _text(cluster, found, KEYS, LINES), where, whence)
    elif not elsewhere:
        print(f"making Secret {KEYS}: clients need API keys (docs/service.md)", flush=True)
        _create(cluster, KEYS, LINES, "".join(f"{line}\n" for line in lines))
    elif f"secret/{METRICS}" not in found:  # first time: the lines were never printed
        raise DeployError(
            f"the keys of {cluster.environment} come from your secret store, which does not have those of delivery yet",
            f"add these lines there, then run this again: {'; '.join(lines)}",
        )
    return key


def shown(cluster: Cluster) -> str:
    """How a command line reads delivery's key."""
    where = f"--context {cluster.context} --namespace {cluster.namespace}"
    return f"$(kubectl {where} get secret {OURS} -o jsonpath='{{.data.{KEY}}}' | base64 -d)"


def _ours(cluster: Cluster, found: dict[str, dict[str, Any]]) -> str:
    return keys.usable(_text(cluster, found, OURS, KEY).strip(), f"Secret {OURS}") or keys.from_environment()


def _text(cluster: Cluster, found: dict[str, dict[str, Any]], name: str, entry: str) -> str:
    """A value of a Secret, "" when the Secret is missing; raises DeployError when it is malformed."""
    if f"secret/{name}" not in found:
        return ""
    try:
        return base64.b64decode(found[f"secret/{name}"]["data"][entry], validate=True).decode()
    except (KeyError, TypeError, ValueError):
        raise DeployError(
            f"Secret {name} in namespace {cluster.namespace} has no text under {entry!r}",
            "docs/kubernetes.md says what it holds; a deleted one is created again",
        ) from None


def _make(cluster: Cluster, name: str, caller: str, scopes: str) -> str:
    """Create a key and its Secret."""
    key, _ = make_key(caller, scopes)
    _create(cluster, name, KEY, key)
    return key


def _create(cluster: Cluster, name: str, entry: str, text: str) -> None:
    """Create a Secret without overwriting one created meanwhile. It goes through standard input, because arguments are visible."""
    about = {"name": name, "labels": {**manifests.APP, "app.kubernetes.io/managed-by": "slipway"}}
    data = {entry: base64.b64encode(text.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": "Opaque", "data": data}
    kubectl.run(cluster, "create", "--filename=-", stdin=json.dumps(secret))
