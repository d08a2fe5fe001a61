"""For notebooks: `from pipeline.notebook import ABTest, DriftDetector, ModelMonitor` (docs/notebook.md)."""

from pipeline.experiments.ab_test import ABTest as ABTest
from pipeline.notebook.drift_detector import DriftDetector as DriftDetector
from pipeline.notebook.model_monitor import ModelMonitor as ModelMonitor
