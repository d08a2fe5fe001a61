"""The Secrets of an environment's callers: made once where they are missing, never changed after.

`model-api-keys` holds the lines of hashes that every pod mounts. The plain keys of the two callers that there always are,
delivery and Prometheus, are in Secrets of their own, which no pod mounts. Where the component api-keys is switched on, the
first of the three comes from a secret store instead, and somebody has to put delivery's line there.
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
LINES, KEY = "keys", "key"  # the key of the first Secret, and of the other two


def ours(cluster: Cluster) -> str:
    """The key with which delivery asks the environment; "" where there is none yet."""
    return _ours(cluster, kubectl.find(cluster, f"secret/{OURS}"))


def prepared(cluster: Cluster, objects: list[dict[str, Any]]) -> str:
    """The key with which delivery asks, once all Secrets are there that pods with these objects need.

    Makes what is missing. Raises DeployError, with the line to add, where the service would not know delivery's key.
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
        print(f"making Secret {KEYS}: callers are asked for keys (docs/service.md)", flush=True)
        _create(cluster, KEYS, LINES, "".join(f"{line}\n" for line in lines))
    elif f"secret/{METRICS}" not in found:  # this is the first time: the lines were never told
        raise DeployError(
            f"the keys of {cluster.environment} come from your secret store, which does not have those of delivery yet",
            f"add these lines there, then run this again: {'; '.join(lines)}",
        )
    return key


def shown(cluster: Cluster) -> str:
    """How a command line gets delivery's key."""
    where = f"--context {cluster.context} --namespace {cluster.namespace}"
    return f"$(kubectl {where} get secret {OURS} -o jsonpath='{{.data.{KEY}}}' | base64 -d)"


def _ours(cluster: Cluster, found: dict[str, dict[str, Any]]) -> str:
    return keys.usable(_text(cluster, found, OURS, KEY).strip(), f"Secret {OURS}") or keys.from_environment()


def _text(cluster: Cluster, found: dict[str, dict[str, Any]], name: str, entry: str) -> str:
    """What a Secret holds, "" where it is not there; raises DeployError where it is not what it should be."""
    if f"secret/{name}" not in found:
        return ""
    try:
        return base64.b64decode(found[f"secret/{name}"]["data"][entry], validate=True).decode()
    except (KeyError, TypeError, ValueError):
        raise DeployError(
            f"Secret {name} in namespace {cluster.namespace} has no text under {entry!r}",
            "docs/kubernetes.md says what it holds; one that is deleted is made anew",
        ) from None


def _make(cluster: Cluster, name: str, caller: str, scopes: str) -> str:
    """Make a key and the Secret that holds it."""
    key, _ = make_key(caller, scopes)
    _create(cluster, name, KEY, key)
    return key


def _create(cluster: Cluster, name: str, entry: str, text: str) -> None:
    """Make a Secret; one that came to be meanwhile is not written over. By standard input: arguments can be seen."""
    about = {"name": name, "labels": {**manifests.APP, "app.kubernetes.io/managed-by": "slipway"}}
    data = {entry: base64.b64encode(text.encode()).decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": "Opaque", "data": data}
    kubectl.run(cluster, "create", "--filename=-", stdin=json.dumps(secret))
