"""The service: one bundle's model behind HTTP, and beside it the challenger of an experiment, where the bundle carries one."""

from pathlib import Path

from serving.access.callers import Callers
from serving.config import Config, ConfigError
from serving.experiment.experiment import Carried, open_experiment
from serving.experiment.guard import Guard
from serving.experiment.variants import Split
from serving.http.endpoints import PATHS
from serving.http.fast_path import FastPath
from serving.model.bundle import Bundle, open_bundle
from serving.model.predictor import Predictor, load_predictor
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics


def create_app(folder: Path, config: Config, processes: int = 1) -> FastPath:
    """The service of one bundle folder, an ASGI application that so many processes run.

    Raises BundleError when the bundle cannot be served, KeysError when the keys cannot be used, ConfigError when an experiment has no log.
    """
    bundle = open_bundle(folder)
    carried = open_experiment(folder, bundle)
    if carried and not config.database:
        raise ConfigError(
            f"the experiment {carried.experiment.name} needs the prediction log, from which it is judged; SLIPWAY_DATABASE_URL names one"
        )
    predictor, callers = load_predictor(bundle), Callers(config)
    metrics = Metrics(bundle, PATHS, processes, carried)
    split = _split(bundle, predictor, carried, metrics) if carried and carried.experiment.mode == "ab" else None

    def framework(fast_path: FastPath):
        from serving.http.framework_app import build_framework_app  # takes longer than all the rest of a start

        return build_framework_app(fast_path, config)

    return FastPath(bundle, predictor, callers, metrics, RequestLog(config.request_log), config, split, framework)


def _split(bundle: Bundle, predictor: Predictor, carried: Carried, metrics: Metrics) -> Split:
    other = load_predictor(carried.challenger)
    guard = Guard(metrics, carried.experiment.guardrails)
    return Split(carried.experiment, bundle, predictor, carried.challenger, other, guard)
