"""The service: one bundle's model behind HTTP."""

import time
from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving import problems
from serving.bundle import Bundle, open_bundle
from serving.hot import HotPath
from serving.metrics import Metrics
from serving.observe import Observe
from serving.openapi import document
from serving.predictor import Predictor
from serving.problems import Problem


class Service:
    """What the endpoints share, and the endpoints but for predictions."""

    def __init__(self, bundle: Bundle):
        self.contract = bundle.contract
        self.release = bundle.release
        self.predictor = Predictor(bundle)
        self.metrics = Metrics(bundle.contract, bundle.release)
        self.started = time.monotonic()

    async def health(self) -> Response:
        """What serves here, for people."""
        uptime = round(time.monotonic() - self.started, 1)
        about = {"status": "ok", "model": self.release.name, "version": self.release.version}
        return JSONResponse({**about, "uptime_seconds": uptime})

    async def healthz(self) -> Response:
        """Liveness: the process answers."""
        return JSONResponse({"status": "alive"})

    async def readyz(self) -> Response:
        """Readiness: the model has just answered the contract's example row."""
        try:
            self.predictor.example()
        except Exception as error:
            raise Problem(503, f"the model does not answer its example row: {error}") from error
        return JSONResponse({"status": "ready", "model_version": self.release.version})

    async def model_info(self) -> Response:
        """Which model this is, where it comes from, and what it takes."""
        contract = self.contract
        about = {"task": contract.task, "target": contract.target, "positive": contract.positive}
        inputs = [column.model_dump(mode="json") for column in contract.inputs]
        return JSONResponse({**self.release.model_dump(), **about, "classes": contract.classes, "inputs": inputs})

    async def metrics_text(self) -> Response:
        """Metrics in the Prometheus format."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def create_app(bundle: Path) -> HotPath:
    """The service of one bundle folder, an ASGI application; raises BundleError when the bundle cannot be served."""
    service = Service(open_bundle(bundle))
    release, contract = service.release, service.contract
    app = FastAPI(
        title=release.name,
        version=release.version,
        description=f"Predicts {contract.target} ({contract.task}).",
        redoc_url=None,
        redirect_slashes=False,
    )
    for path, endpoint in {
        "/health": service.health,
        "/healthz": service.healthz,
        "/readyz": service.readyz,
        "/model/info": service.model_info,
    }.items():
        app.get(path)(endpoint)
    app.get("/metrics", response_class=PlainTextResponse)(service.metrics_text)
    described = document(app, contract, service.predictor.example(), release.version)
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's own way to replace its document
    problems.install(app)
    paths = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    app.add_middleware(Observe, metrics=service.metrics, paths=paths)
    return HotPath(contract, release, service.predictor, service.metrics, rest=app)
