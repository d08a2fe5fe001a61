"""All that is not the fast path: the framework's part of the service, which is loaded after the first answers."""

import time
from collections.abc import Callable

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.config import Config
from serving.http import middleware, pages
from serving.http.fast_path import FastPath
from serving.http.headers import by_name, shown_key
from serving.http.middleware import Observe
from serving.http.openapi import document
from serving.telemetry.prometheus import exposition


class Service:
    """The endpoints but for predictions."""

    def __init__(self, fast_path: FastPath, config: Config):
        self.contract, self.release = fast_path.contract, fast_path.release
        self.fast_path, self.metrics, self.callers, self.config = (
            fast_path,
            fast_path.metrics,
            fast_path.callers,
            config,
        )
        self.started = time.monotonic()

    async def health(self) -> Response:
        """What serves here, for people."""
        about = {"status": "ok", "model": self.release.name, "version": self.release.version}
        return JSONResponse({**about, "uptime_seconds": self._uptime()})

    async def healthz(self) -> Response:
        """Liveness: the process answers."""
        return Response(self.fast_path.alive(), media_type="application/json")

    async def readyz(self) -> Response:
        """Readiness: the model has just answered the contract's example row."""
        return Response(self.fast_path.ready(), media_type="application/json")

    async def ping(self) -> Response:
        """Readiness as MLflow's scoring protocol asks for it: 200 and an empty line."""
        self.fast_path.ready()
        return PlainTextResponse("\n")

    async def version(self) -> Response:
        """The version of MLflow whose scoring protocol `/invocations` speaks."""
        return PlainTextResponse(self.release.mlflow)

    async def model_info(self) -> Response:
        """Which model this is, where it comes from, and what it takes."""
        contract = self.contract
        about = {"task": contract.task, "target": contract.target, "positive": contract.positive}
        inputs = [msgspec.to_builtins(column) for column in contract.inputs]
        return JSONResponse(
            {**msgspec.structs.asdict(self.release), **about, "classes": contract.classes, "inputs": inputs}
        )

    async def metrics_text(self, request: Request) -> Response:
        """Metrics in the Prometheus format; needs a key of the scope metrics."""
        self._admit(request, "metrics")
        return Response(exposition(self.metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def admin_status(self, request: Request) -> Response:
        """How this service is set up, and who may call; needs a key of the scope admin."""
        self._admit(request, "admin")
        keys = self.callers.keys
        callers = [{"name": c.name, "scopes": sorted(c.scopes)} for c in keys.callers] if keys else None
        log = self.config.database.split(":")[0] or None
        return JSONResponse(
            {
                **msgspec.structs.asdict(self.release),
                "uptime_seconds": self._uptime(),
                "workers": self.metrics.workers(),
                "callers": callers,
                "rate_limit": self.config.rate_limit,
                "rate_limit_bytes": self.config.rate_limit_bytes,
                "prediction_log": log,
                "retention_days": self.config.retention_days if log else None,
            }
        )

    def _admit(self, request: Request, scope: str) -> None:
        request.scope["caller"] = self.callers.admit(shown_key(by_name(request.scope["headers"])), scope)

    def _uptime(self) -> float:
        return round(time.monotonic() - self.started, 1)


def build_framework_app(fast_path: FastPath, config: Config) -> Observe:
    """The application for every path that the fast path does not answer."""
    service = Service(fast_path, config)
    release, contract = fast_path.release, fast_path.contract
    app = FastAPI(
        title=release.name,
        version=release.version,
        description=f"Predicts {contract.target} ({contract.task}).",
        docs_url=None,  # both are in serving/http/pages.py, without a CDN
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
    described = document(app, contract, fast_path.predictor.predict_one(contract.example_row), release.version, config)
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's own way to replace its document
    middleware.install(app)
    pages.install(app)
    return Observe(app, fast_path.metrics, fast_path.requests, fast_path.origins)
