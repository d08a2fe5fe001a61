"""Models stored by skops as scikit-learn's own, for those that ONNX would not reproduce.

A skops file names its types and runs no code of its own: types that neither skops trusts nor the contract lists are
refused. The code that runs is that of the named types: scikit-learn's, and the project's, which is part of the bundle.
That code is imported from the bytes that the manifest covers, not from a folder, where it could be changed meanwhile.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import skops.io

from serving.model.bundle import Bundle, BundleError
from serving.model.code import install
from serving.model.contract import Contract, Skops
from serving.model.rows import Row, matrix


class SklearnModel:
    """A bundle's scikit-learn estimator."""

    def __init__(self, bundle: Bundle, form: Skops):
        """Load the estimator; raises BundleError for types that the contract does not list, or missing code."""
        self._contract, self._form = bundle.contract, form
        if bundle.code:
            install(bundle.code)
        self._estimator = _estimator(bundle.model, form)
        self._answer = _method(self._estimator, self._contract)
        # Given a matrix, an estimator trained on a frame warns at each call; the pipeline tested that both give the
        # same answers.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities or values for many rows."""
        return np.asarray(self._answer(self._feed(rows)), dtype=np.float64)

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row."""
        return self.run([row])

    def _feed(self, rows: Sequence[Row]) -> Any:
        if self._form.layout == "matrix":
            return matrix(rows, "float64")
        import pandas as pd

        columns = zip(self._contract.inputs, zip(*rows, strict=True), strict=True)
        return pd.DataFrame(
            {
                column.name: np.array(values, dtype=object if column.type == "text" else np.float64)
                for column, values in columns
            }
        )


def _estimator(model: bytes, form: Skops) -> Any:
    try:
        if foreign := sorted(set(skops.io.get_untrusted_types(data=model)) - set(form.trusted)):
            raise BundleError(f"model.skops holds types that contract.json does not list: {', '.join(foreign)}")
        estimator = skops.io.loads(model, trusted=form.trusted)
        if hasattr(estimator, "get_params"):
            shared = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
            estimator.set_params(**dict.fromkeys(shared, 1))  # one row is too little work to share between threads
        return estimator
    except BundleError:
        raise
    except Exception as error:  # anything wrong with the file, or with a module that it names
        line = (str(error).strip().splitlines() or [""])[0][:300]
        made = f", made with scikit-learn {form.scikit_learn}" if form.scikit_learn else ""
        raise BundleError(f"model.skops{made}, cannot be loaded: {type(error).__name__}: {line}") from error


def _method(estimator: Any, contract: Contract) -> Any:
    name = "predict" if contract.task == "regression" else "predict_proba"
    if not hasattr(estimator, name):
        raise BundleError(f"the model of model.skops has no {name}(), which contract.json's task needs")
    return getattr(estimator, name)
