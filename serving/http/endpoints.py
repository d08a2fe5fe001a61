"""Every path of the service: one table for the server, the fast path, the framework, the metrics and the document."""

from typing import NamedTuple

GROUPS = {
    "Predictions": "Ask the model, and tell what turned out to be true.",
    "Model": "Which model this is.",
    "Checks": "Whether the service answers, for people and for what watches it.",
    "Operation": "Metrics and set-up.",
}


class Endpoint(NamedTuple):
    """A path, its only method, its group, the scope that a key needs for it ("" for none), and what it does."""

    path: str
    method: str
    group: str
    scope: str
    does: str

    @property
    def name(self) -> str:
        """The path as a name: that of its operation in the document, and of the method that answers it."""
        return self.path.strip("/").replace("/", "_")


_PREDICTIONS = {
    "/predict": "Predict one row, given as a list in contract order or as an object {name: value}.",
    "/predict/batch": "Predict up to 10,000 rows at once; one wrong row refuses the whole batch and is named.",
    "/invocations": "Predict rows as clients of `mlflow models serve` send them; a class is answered by its number.",
    "/feedback": "Say what turned out to be true for a request that was answered before.",
}
_OTHERS = {
    ("Model", ""): {
        "/model/info": "Which model this is, where it comes from, and what it takes.",
        "/version": "The version of MLflow whose scoring protocol `/invocations` speaks.",
    },
    ("Checks", ""): {
        "/health": "What serves here, for people.",
        "/healthz": "Liveness: the process answers.",
        "/readyz": "Readiness: the model has just answered the contract's example row.",
        "/ping": "Readiness as MLflow's scoring protocol asks for it: 200 and an empty line.",
    },
    ("Operation", "metrics"): {"/metrics": "Metrics in the Prometheus format; needs a key of the scope metrics."},
    ("Operation", "admin"): {
        "/admin/status": "How this service is set up, and who may call; needs a key of the scope admin."
    },
}
POSTS = [Endpoint(path, "post", "Predictions", "predict", does) for path, does in _PREDICTIONS.items()]
GETS = [
    Endpoint(path, "get", group, scope, does)
    for (group, scope), paths in _OTHERS.items()
    for path, does in paths.items()
]
PAGES = ("/", "/docs", "/redoc", "/openapi.json")
PATHS = [*(endpoint.path for endpoint in (*POSTS, *GETS)), *PAGES]
