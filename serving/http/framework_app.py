"""All that is not the fast path: the framework's part of the service, which is loaded after the first answers."""

import time
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from msgspec import UNSET, UnsetType
from prometheus_client import CONTENT_TYPE_LATEST

from serving.config import Config
from serving.counts.gauges import Gauges
from serving.http import answers, middleware, pages
from serving.http.endpoints import GETS
from serving.http.fast_path import FastPath
from serving.http.headers import by_name, shown_key
from serving.http.middleware import Observe
from serving.http.openapi import document
from serving.telemetry.prometheus import exposition


class Service:
    """The endpoints but for predictions: a method of its name for each."""

    def __init__(self, fast_path: FastPath, config: Config):
        self.contract, self.release = fast_path.contract, fast_path.release
        self.fast_path, self.counters = fast_path, fast_path.metrics
        self.callers, self.config = fast_path.callers, config
        self.found = Gauges(config.database, self.release.name)
        self.started = time.monotonic()

    async def health(self, _: Request) -> Response:
        """What serves here."""
        name, version = self.release.name, self.release.version
        about = answers.Health(status="ok", model=name, version=version, uptime_seconds=self._uptime())
        return _json(msgspec.json.encode(about))

    async def healthz(self, _: Request) -> Response:
        """That the process answers."""
        return _json(self.fast_path.alive())

    async def readyz(self, _: Request) -> Response:
        """That the model has just answered the contract's example row."""
        return _json(self.fast_path.ready())

    async def ping(self, _: Request) -> Response:
        """The same as an empty line."""
        self.fast_path.ready()
        return PlainTextResponse("\n")

    async def version(self, _: Request) -> Response:
        """The version of MLflow."""
        return PlainTextResponse(self.release.mlflow)

    async def model_info(self, _: Request) -> Response:
        """The release and the contract."""
        contract = self.contract
        about = answers.ModelInfo(
            **msgspec.structs.asdict(self.release),
            task=contract.task,
            target=contract.target,
            positive=contract.positive,
            classes=contract.classes,
            inputs=contract.inputs,
            explains=self.fast_path.explains,
            threshold=UNSET if contract.threshold is None else contract.threshold,
            rules=contract.rules or UNSET,
            experiment=self._experiment(),
        )
        return _json(msgspec.json.encode(about))

    async def metrics(self, _: Request) -> Response:
        """What was counted, and what the monitor found."""
        return Response(
            exposition(self.counters) + await self.found.text(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def admin_status(self, _: Request) -> Response:
        """The set-up and the callers."""
        config, keys = self.config, self.callers.keys
        callers = [answers.KnownCaller(name=c.name, scopes=sorted(c.scopes)) for c in keys.callers] if keys else None
        log: Any = config.database.split(":")[0] or None
        status = answers.Status(
            **msgspec.structs.asdict(self.release),
            uptime_seconds=self._uptime(),
            workers=self.counters.workers(),
            callers=callers,
            rate_limit=config.rate_limit,
            rate_limit_bytes=config.rate_limit_bytes,
            prediction_log=log,
            retention_days=config.retention_days if log else None,
            experiment=self._experiment(),
        )
        return _json(msgspec.json.encode(status))

    def endpoint(self, name: str, scope: str):
        """The method of this name, for callers whose key has this scope, where one is needed."""
        answer = getattr(self, name)

        async def guarded(request: Request) -> Response:
            request.scope["caller"] = self.callers.admit(shown_key(by_name(request.scope["headers"])), scope)
            return await answer(request)

        return guarded if scope else answer

    def _experiment(self) -> answers.ExperimentInfo | UnsetType:
        """What runs beside the model, where the bundle carries an experiment."""
        carried = self.counters.carried
        if carried is None:
            return UNSET
        about = carried.experiment
        return answers.ExperimentInfo(
            name=about.name,
            mode=about.mode,
            share=about.share,
            challenger=about.challenger,
            stopped=self.counters.stopped(),
        )

    def _uptime(self) -> float:
        return round(time.monotonic() - self.started, 1)


def build_framework_app(fast_path: FastPath, config: Config) -> Observe:
    """The application for every path that the fast path does not answer."""
    service = Service(fast_path, config)
    release, contract = fast_path.release, fast_path.contract
    # The document is ours, and the pages of it are in serving/http/pages.py, without a CDN.
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False)
    carried = fast_path.metrics.carried
    experiment = carried.experiment if carried else None
    rules = list(fast_path.metrics.rule_names)  # of both models of an experiment
    example = fast_path.predictor.predict_one(contract.example_row)
    described = document(contract, example, release, config, experiment, fast_path.explains, rules)
    app.openapi = lambda: described  # type: ignore[method-assign]  # FastAPI's own way to replace its document
    for endpoint in GETS:
        app.add_route(endpoint.path, service.endpoint(endpoint.name, endpoint.scope))
    middleware.install(app)
    pages.install(app)
    return Observe(app, fast_path.metrics, fast_path.requests, fast_path.origins)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
