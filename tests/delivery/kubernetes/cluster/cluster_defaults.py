"""Kubernetes' defaults for omitted fields, as far as our manifests and kubectl need them."""

import base64
from typing import Any

PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
POD = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "securityContext": {},
    "schedulerName": "default-scheduler",
}
CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "imagePullPolicy": "IfNotPresent",
    "resources": {},
}
DEPLOYMENT = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}
ROLLING = {"maxUnavailable": "25%", "maxSurge": "25%"}


def fill(value: dict[str, Any]) -> None:
    """Set an object's defaults, in place."""
    if value.get("kind") == "Secret" and (given := value.pop("stringData", None)):
        value["data"] = (value.get("data") or {}) | {key: encoded(text) for key, text in given.items()}
    spec = value.get("spec")
    if not isinstance(spec, dict):
        return
    known = {
        "Deployment": _deployment,
        "ReplicaSet": _replica_set,
        "Pod": _pod,
        "Service": _service,
        "HorizontalPodAutoscaler": _autoscaler,
        "Namespace": _namespace,
    }
    if value["kind"] in known:
        known[value["kind"]](spec)


def encoded(text: str) -> str:
    """A text as stored in a Secret."""
    return base64.b64encode(text.encode()).decode()


def _default(target: dict[str, Any], defaults: dict[str, Any]) -> None:
    for name, default in defaults.items():
        if target.get(name) is None:
            target[name] = dict(default) if isinstance(default, dict) else default


def _deployment(spec: dict[str, Any]) -> None:
    _default(spec, DEPLOYMENT)
    _default(spec, {"strategy": {"type": "RollingUpdate"}})
    _default(spec["strategy"], {"type": "RollingUpdate"})
    if spec["strategy"]["type"] == "RollingUpdate":
        _default(spec["strategy"], {"rollingUpdate": {}})
        _default(spec["strategy"]["rollingUpdate"], ROLLING)
    _pod(spec["template"]["spec"])


def _replica_set(spec: dict[str, Any]) -> None:
    _default(spec, {"replicas": 1})
    _pod(spec["template"]["spec"])


def _pod(spec: dict[str, Any]) -> None:
    _default(spec, POD)
    for container in spec.get("containers", []):
        _default(container, CONTAINER)
        for port in container.get("ports", []):
            _default(port, {"protocol": "TCP"})
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if container.get(name) is not None:
                _probe(container[name])


def _probe(probe: dict[str, Any]) -> None:
    _default(probe, PROBE)
    if "httpGet" in probe:
        _default(probe["httpGet"], {"path": "/", "scheme": "HTTP"})


def _service(spec: dict[str, Any]) -> None:
    _default(spec, {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"})
    for port in spec.get("ports", []):
        _default(port, {"protocol": "TCP", "targetPort": port["port"]})


def _autoscaler(spec: dict[str, Any]) -> None:
    _default(spec, {"minReplicas": 1})


def _namespace(spec: dict[str, Any]) -> None:
    _default(spec, {"finalizers": ["kubernetes"]})
