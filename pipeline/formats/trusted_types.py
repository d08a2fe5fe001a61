"""Which types inside a stored model need no word of the team.

skops trusts scikit-learn's public estimators by itself. What those hold (trees, distances, kernels), NumPy's and SciPy's data, and the models of
XGBoost and LightGBM are as safe: loading them sets numbers and texts, and runs no code that a file could name. A type counts by what
it is, looked up in the module that defines it, never by how its name begins: a function, and a class that calls what it is given,
does not.
"""

import json
import sys
from collections.abc import Collection
from typing import Any

# Classes that only hold data, each looked at.
CLASSES = {
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "numpy.dtype",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._ball_tree.BallTree32",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree32",
    "sklearn.neighbors._kd_tree.KDTree64",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
}
# Subclasses of these count where one of these modules defines them: whole families that only hold data.
FAMILIES = {
    "sklearn.base.BaseEstimator": "sklearn.",
    "sklearn.gaussian_process.kernels.Kernel": "sklearn.gaussian_process.kernels",
    "sklearn.metrics._dist_metrics.DistanceMetric": "sklearn.metrics._dist_metrics",
    "sklearn.model_selection._split.BaseCrossValidator": "sklearn.model_selection._split",
    "xgboost.sklearn.XGBModel": "xgboost.sklearn",
    "lightgbm.sklearn.LGBMModel": "lightgbm.sklearn",
    "numpy.generic": "numpy",
    "scipy.sparse._data._data_matrix": "scipy.sparse.",
}
CALL_WHAT_THEY_ARE_GIVEN = {"PyFuncDistance", "PyFuncDistance32", "PyFuncDistance64", "PairwiseKernel"}
# Functions that estimators hold by themselves: they compute on the rows that they are given.
FUNCTIONS = {
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    "sklearn.utils.validation.check_array",
}
# How histogram gradient boosting holds the check of its categories.
PARTIAL, CHECKED = "functools.partial", "sklearn.utils.validation.check_array"


def beyond(types: Collection[str], trusted: Collection[str]) -> list[str]:
    """Of the types in a stored model that skops does not trust, those that need the team's word and have none; in order."""
    return sorted(name for name in set(types) - set(trusted) if not _safe(name, types))


def line(types: Collection[str], trusted: Collection[str]) -> str:
    """The line of pipeline.toml that trusts these types beside those that it trusts already."""
    return f"trusted_types = {json.dumps(list(dict.fromkeys([*trusted, *types])), ensure_ascii=False)}"


def advice(types: Collection[str], trusted: Collection[str]) -> str:
    """What to do about types that nobody trusts."""
    return f"if you know them, put this line into pipeline.toml [train]: {line(types, trusted)}"


def _safe(name: str, types: Collection[str]) -> bool:
    if name == PARTIAL:
        return CHECKED in types  # any other function that a partial holds is among the types as well
    module, _, _ = name.rpartition(".")
    found = _defined(name)
    if not isinstance(found, type):
        return name in FUNCTIONS and found is not None
    if name in CLASSES:
        return True
    if found.__name__ in CALL_WHAT_THEY_ARE_GIVEN:
        return False
    families = (
        _defined(family) for family, home in FAMILIES.items() if (module + ".").startswith(home.rstrip(".") + ".")
    )
    return any(isinstance(family, type) and issubclass(found, family) for family in families)


def _defined(name: str) -> Any:
    """What a module that is imported defines under this name; None where it only borrows it, or has no such name."""
    home, _, own = name.rpartition(".")
    found = vars(sys.modules[home]).get(own) if home in sys.modules else None
    return found if getattr(found, "__module__", None) == home and getattr(found, "__name__", None) == own else None
