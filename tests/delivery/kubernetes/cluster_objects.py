"""Small objects for the cluster's tests."""

import hashlib

LABEL = {"app.kubernetes.io/name": "model"}
KEY = {"X-API-Key": "the key of these tests"}
CALLERS = f"tests predict,metrics {hashlib.sha256(KEY['X-API-Key'].encode()).hexdigest()}"


def deployment(image: str, replicas: int = 1, **spec) -> dict:
    """A small Deployment of our service, with KEY as its API key."""
    container = {
        "name": "model",
        "image": image,
        "env": [{"name": "SLIPWAY_API_KEYS", "value": CALLERS}],
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5},
    }
    template = {"metadata": {"labels": LABEL}, "spec": {"containers": [container]}}
    wanted = {"replicas": replicas, "selector": {"matchLabels": LABEL}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "model"}, "spec": wanted}


def service() -> dict:
    """The Service for it."""
    spec = {"selector": LABEL, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "model"}, "spec": spec}


def config(name: str = "settings", **data: str) -> dict:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def autoscaler(least: int, most: int) -> dict:
    """An autoscaler for the Deployment."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"}
    spec = {"scaleTargetRef": target, "minReplicas": least, "maxReplicas": most}
    meta = {"name": "model"}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": spec}
