"""The service: one bundle's model behind HTTP."""

import time
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving import pages, problems
from serving.bundle import Bundle, open_bundle
from serving.callers import Callers
from serving.config import Config
from serving.hot import HotPath
from serving.logs import RequestLog
from serving.metrics import Metrics
from serving.observe import Observe
from serving.openapi import document
from serving.predictor import Predictor
from serving.problems import Problem

PATHS = ("/health", "/healthz", "/readyz", "/ping", "/version", "/model/info", "/metrics", "/admin/status")


class Service:
    """The endpoints but for predictions."""

    def __init__(self, bundle: Bundle, predictor: Predictor, metrics: Metrics, callers: Callers, config: Config):
        self.contract, self.release = bundle.contract, bundle.release
        self.predictor, self.metrics, self.callers, self.config = predictor, metrics, callers, config
        self.started = time.monotonic()

    async def health(self) -> Response:
        """What serves here, for people."""
        about = {"status": "ok", "model": self.release.name, "version": self.release.version}
        return JSONResponse({**about, "uptime_seconds": self._uptime()})

    async def healthz(self) -> Response:
        """Liveness: the process answers."""
        return JSONResponse({"status": "alive"})

    async def readyz(self) -> Response:
        """Readiness: the model has just answered the contract's example row."""
        self._ready()
        return JSONResponse({"status": "ready", "model_version": self.release.version})

    async def ping(self) -> Response:
        """Readiness as MLflow's scoring protocol asks for it: 200 and an empty line."""
        self._ready()
        return PlainTextResponse("\n")

    async def version(self) -> Response:
        """The version of MLflow whose scoring protocol `/invocations` speaks."""
        return PlainTextResponse(self.release.mlflow)

    async def model_info(self) -> Response:
        """Which model this is, where it comes from, and what it takes."""
        contract = self.contract
        about = {"task": contract.task, "target": contract.target, "positive": contract.positive}
        inputs = [column.model_dump(mode="json") for column in contract.inputs]
        return JSONResponse({**self.release.model_dump(), **about, "classes": contract.classes, "inputs": inputs})

    async def metrics_text(self, request: Request) -> Response:
        """Metrics in the Prometheus format; needs a key of the scope metrics."""
        self.callers.admit(_key(request), "metrics")
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def admin_status(self, request: Request) -> Response:
        """How this service is set up, and who may call; needs a key of the scope admin."""
        self.callers.admit(_key(request), "admin")
        keys = self.callers.keys
        callers = [{"name": c.name, "scopes": sorted(c.scopes)} for c in keys.callers] if keys else None
        log = self.config.database.split(":")[0] or None
        return JSONResponse(
            {
                **self.release.model_dump(),
                "uptime_seconds": self._uptime(),
                "workers": self.metrics.workers(),
                "callers": callers,
                "rate_limit": self.config.rate_limit,
                "prediction_log": log,
                "retention_days": self.config.retention_days if log else None,
            }
        )

    def _ready(self) -> None:
        try:
            self.predictor.example()
        except Exception as error:
            raise Problem(503, f"the model does not answer its example row: {error}") from error

    def _uptime(self) -> float:
        return round(time.monotonic() - self.started, 1)


def create_app(folder: Path, config: Config, processes: int = 1) -> HotPath:
    """The service of one bundle folder, an ASGI application that so many processes run.

    Raises BundleError when the bundle cannot be served, KeysError when the keys cannot be used.
    """
    bundle = open_bundle(folder)
    predictor, callers = Predictor(bundle), Callers(config)
    requests = RequestLog(config.request_log)
    hot = HotPath(bundle, predictor, callers, requests)
    metrics = Metrics(bundle, [*hot.paths, *PATHS, *pages.OURS, "/openapi.json"], processes)
    hot.metrics = metrics
    hot.rest = _rest(Service(bundle, predictor, metrics, callers, config), requests)
    return hot


def _rest(service: Service, requests: RequestLog) -> Observe:
    """All but the hot path."""
    release, contract = service.release, service.contract
    app = FastAPI(
        title=release.name,
        version=release.version,
        description=f"Predicts {contract.target} ({contract.task}).",
        docs_url=None,  # both are in serving/pages.py, without a CDN
        redoc_url=None,
        redirect_slashes=False,
    )
    endpoints: dict[str, Callable] = {
        "/health": service.health,
        "/healthz": service.healthz,
        "/readyz": service.readyz,
        "/model/info": service.model_info,
        "/admin/status": service.admin_status,
    }
    texts: dict[str, Callable] = {
        "/ping": service.ping,
        "/version": service.version,
        "/metrics": service.metrics_text,
    }
    for path, endpoint in endpoints.items():
        app.get(path)(endpoint)
    for path, endpoint in texts.items():
        app.get(path, response_class=PlainTextResponse)(endpoint)
    described = document(app, contract, service.predictor.example(), release.version, service.config)
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's own way to replace its document
    problems.install(app)
    pages.install(app)
    return Observe(app, service.metrics, requests)


def _key(request: Request) -> bytes:
    headers = request.headers
    return (headers.get("x-api-key") or headers.get("authorization", "")).encode("latin-1")
