"""BentoML, with a call for each request, and with requests put together into batches."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": True})
class Plain:
    """A call of the model for each request."""

    def __init__(self):
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The probabilities of the classes."""
        return self.model.predict_proba(rows)


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": True})
class Batching:
    """A call of the model for many requests."""

    def __init__(self):
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The probabilities of the classes."""
        return self.model.predict_proba(rows)
