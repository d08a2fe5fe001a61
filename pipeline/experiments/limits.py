"""The guardrails of [experiment] in pipeline.toml, as the service keeps them."""

from pipeline.settings import Settings
from serving.experiment.experiment import Guardrails


def guardrails(settings: Settings) -> Guardrails:
    """When an experiment that is started now stops itself."""
    rules = settings.experiment
    return Guardrails(
        max_failures=rules.max_failures,
        max_latency_ratio=rules.max_latency_ratio,
        latency_margin_ms=rules.latency_margin_ms,
        min_requests=rules.min_requests,
    )
