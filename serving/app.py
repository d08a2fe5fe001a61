"""The service: one bundle's model behind HTTP."""

from pathlib import Path

from serving.access.callers import Callers
from serving.config import Config
from serving.http.endpoints import PATHS
from serving.http.fast_path import FastPath
from serving.model.bundle import open_bundle
from serving.model.predictor import load_predictor
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics


def create_app(folder: Path, config: Config, processes: int = 1) -> FastPath:
    """The service of one bundle folder, an ASGI application that so many processes run.

    Raises BundleError when the bundle cannot be served, KeysError when the keys cannot be used.
    """
    bundle = open_bundle(folder)
    predictor, callers = load_predictor(bundle), Callers(config)
    metrics = Metrics(bundle, PATHS, processes)

    def framework(fast_path: FastPath):
        from serving.http.framework_app import build_framework_app  # takes longer than all the rest of a start

        return build_framework_app(fast_path, config)

    return FastPath(bundle, predictor, callers, metrics, RequestLog(config.request_log), config, framework)
