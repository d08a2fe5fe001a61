"""The service: one bundle's model behind HTTP."""

from pathlib import Path

from serving.bundle import open_bundle
from serving.callers import Callers
from serving.config import Config
from serving.hot import HotPath
from serving.logs import RequestLog
from serving.metrics import Metrics
from serving.predictor import load_predictor

PATHS = ("/health", "/healthz", "/readyz", "/ping", "/version", "/model/info", "/metrics", "/admin/status")
PAGES = ("/", "/docs", "/redoc", "/openapi.json")


def create_app(folder: Path, config: Config, processes: int = 1) -> HotPath:
    """The service of one bundle folder, an ASGI application that so many processes run.

    Raises BundleError when the bundle cannot be served, KeysError when the keys cannot be used.
    """
    bundle = open_bundle(folder)
    predictor, callers = load_predictor(bundle), Callers(config)
    metrics = Metrics(bundle, [*HotPath.PATHS, *PATHS, *PAGES], processes)
    return HotPath(bundle, predictor, callers, metrics, RequestLog(config.request_log), config)
