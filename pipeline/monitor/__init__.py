"""Watches what production was asked and how it turned out, and judges it against what the model was trained on.

In a notebook: `from pipeline.monitor import DriftDetector, ModelMonitor` (docs/notebook.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.monitor.drift_detector import DriftDetector as DriftDetector
    from pipeline.monitor.model_monitor import ModelMonitor as ModelMonitor


def __getattr__(name: str) -> Any:
    """The two interfaces for notebooks, imported when they are asked for: the verbs need none of their libraries."""
    if name == "DriftDetector":
        from pipeline.monitor.drift_detector import DriftDetector

        return DriftDetector
    if name == "ModelMonitor":
        from pipeline.monitor.model_monitor import ModelMonitor

        return ModelMonitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
