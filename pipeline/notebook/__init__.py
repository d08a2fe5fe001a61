"""The monitor in a notebook: `from pipeline.notebook import DriftDetector, ModelMonitor` (docs/notebook.md)."""

from pipeline.notebook.drift_detector import DriftDetector as DriftDetector
from pipeline.notebook.model_monitor import ModelMonitor as ModelMonitor
