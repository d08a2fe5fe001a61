"""Models of XGBoost, LightGBM and CatBoost, run by these libraries from their own file formats; nothing else of Python is in them.

Each answers in one thread, because one row is too little work for several, and several threads may ask it at once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import nan
from typing import Any

import numpy as np

from serving.model.bundle import Bundle, BundleError
from serving.model.contract import Contract, Trees
from serving.model.rows import Row, matrix

LOGARITHMIC = ("Poisson", "Tweedie")  # losses of CatBoost


class Features:
    """Rows as numbers: a text is its category's place; an empty one, and one that training did not see, is missing."""

    def __init__(self, contract: Contract, form: Trees):
        known = (form.categories.get(column.name) for column in contract.inputs)
        self._codes: list[dict[Any, float] | None] = [
            None if texts is None else {text: float(place) for place, text in enumerate(texts)} for texts in known
        ]
        self._plain = not any(self._codes)

    def of(self, rows: Sequence[Row]) -> np.ndarray:
        """Shape (rows, columns), float64."""
        if self._plain:
            return matrix(rows, "float64")
        return matrix([self._coded(row) for row in rows], "float64")

    def _coded(self, row: Row) -> Row:
        return [
            value if codes is None else codes.get(value, nan) for value, codes in zip(row, self._codes, strict=True)
        ]


class XgboostModel:
    """A bundle's Booster of XGBoost."""

    def __init__(self, bundle: Bundle, form: Trees):
        """Load the trees; raises BundleError when the file cannot be read."""
        import xgboost

        self._features, self._classes = Features(bundle.contract, form), len(bundle.contract.classes)
        with _loading(bundle.contract, form):
            self._booster = xgboost.Booster()
            self._booster.load_model(bytearray(bundle.model))
            self._booster.set_param({"nthread": 1})

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities or values for many rows."""
        given = self._booster.inplace_predict(self._features.of(rows), validate_features=False)
        return _both(given) if self._classes and given.ndim == 1 else given

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row."""
        return self.run([row])


class LightgbmModel:
    """A bundle's Booster of LightGBM."""

    def __init__(self, bundle: Bundle, form: Trees):
        """Load the trees; raises BundleError when the file cannot be read."""
        import lightgbm

        self._features, self._classes = Features(bundle.contract, form), len(bundle.contract.classes)
        with _loading(bundle.contract, form):
            self._booster = lightgbm.Booster(model_str=bundle.model.decode())

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities or values for many rows."""
        given = np.asarray(self._booster.predict(self._features.of(rows), num_threads=1))
        return _both(given) if self._classes and given.ndim == 1 else given

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row."""
        return self.run([row])


class CatboostModel:
    """A bundle's model of CatBoost, which takes texts as they are."""

    def __init__(self, bundle: Bundle, form: Trees):
        """Load the trees; raises BundleError when the file cannot be read."""
        import catboost

        contract = bundle.contract
        self._texts = any(column.type == "text" for column in contract.inputs)
        with _loading(contract, form):
            self._model = catboost.CatBoostClassifier() if contract.classes else catboost.CatBoostRegressor()
            self._model.load_model(blob=bundle.model)
            loss = str(self._model.get_all_params().get("loss_function", "")).partition(":")[0]
        # A loaded regressor answers what its trees add up to, which for these losses is the logarithm of the answer.
        self._given = "Probability" if contract.classes else "Exponent" if loss in LOGARITHMIC else "RawFormulaVal"

    def run(self, rows: Sequence[Row]) -> np.ndarray:
        """Probabilities or values for many rows."""
        features = np.array(rows, dtype=object) if self._texts else matrix(rows, "float64")
        return self._model.predict(features, prediction_type=self._given, thread_count=1)

    def run_one(self, row: Row) -> np.ndarray:
        """The same for one row."""
        return self.run([row])


def _both(positive: np.ndarray) -> np.ndarray:
    """The probabilities of both classes, from those of the second; shape (n, 2)."""
    return np.stack([1 - positive, positive], axis=1)


MODELS: dict[str, Callable[[Bundle, Trees], Any]] = {
    "xgboost": XgboostModel,
    "lightgbm": LightgbmModel,
    "catboost": CatboostModel,
}


@contextmanager
def _loading(contract: Contract, form: Trees) -> Iterator[None]:
    """Turn what a library says of a file into a BundleError."""
    try:
        yield
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        made = f", made with {contract.format} {form.version}," if form.version else ""
        raise BundleError(f"{contract.file}{made} cannot be loaded: {line}") from error
