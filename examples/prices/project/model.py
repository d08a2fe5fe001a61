"""Your model: one function that returns it unfitted, and a figure of your own for the report."""

import numpy as np
from project.steps import Sizes
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def build(parameters: dict, seed: int) -> TransformedTargetRegressor:
    """Return an unfitted regression of the price's logarithm.

    Prices are skewed: few flats are very dear, and without the logarithm those few decide the fit. What a flat has moves its price by
    a share, not by a sum, which is what a linear model of logarithms says. The area comes as a logarithm too, for the same reason.
    """
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
        remainder=StandardScaler(),
    )
    steps = make_pipeline(Sizes(), columns, Ridge(**parameters))
    return TransformedTargetRegressor(steps, func=np.log, inverse_func=np.exp)


def relative_error(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """Mean distance from the price paid, as a share of it: 10,000 too much is nothing for a palace and a lot for a room."""
    return float(np.mean(np.abs(y_pred - y_true) / y_true))


METRICS = {"relative_error": (relative_error, False)}  # name: (function, whether higher is better)
