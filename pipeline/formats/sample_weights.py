"""How the weights of the rows reach an estimator of scikit-learn, through a pipeline and what is around an estimator."""

from collections.abc import Sequence
from typing import Any

# They hand what fit() is given on to the estimator in them: a search for parameters, a transformed target, a threshold.
HANDS_ON = {
    "GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "TransformedTargetRegressor",
    "FixedThresholdClassifier", "TunedThresholdClassifierCV",
}  # fmt: skip
ENSEMBLES = {"VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor"}
WEIGHT = "sample_weight"


def parameters(model: Any) -> list[str]:
    """The parameters of fit() by which the weights reach each estimator that learns the target; [] where they cannot."""
    return _reach(model)[0]


def unweighted(model: Any) -> str:
    """The class that takes no weights, though the target is learned in it; "" where there is none."""
    return _reach(model)[1]


def _reach(model: Any) -> tuple[list[str], str]:
    name = type(model).__name__
    if hasattr(model, "steps"):
        step, last = model.steps[-1]
        found, lacking = _reach(last)
        return [f"{step}__{one}" for one in found], lacking
    if name in HANDS_ON:
        inner = getattr(model, "estimator", None) or getattr(model, "regressor", None)
        return ([WEIGHT], "") if inner is None else _reach(inner)  # without one, it is scikit-learn's linear regression
    if name in ENSEMBLES:
        return _together([one for _, one in model.estimators if one != "drop"])
    if not _takes(model):
        return [], name
    inner = getattr(model, "estimator", None)
    if not hasattr(inner, "fit"):
        return [WEIGHT], ""
    found, lacking = _reach(inner)
    if found == [WEIGHT]:
        return found, ""
    if found and name == "CalibratedClassifierCV":  # which takes the parameters of a pipeline beside its own
        return [WEIGHT, *found], ""
    return [], lacking or type(inner).__name__


def _together(members: Sequence[Any]) -> tuple[list[str], str]:
    """An ensemble gives each member the same parameter."""
    for one in members:
        found, lacking = _reach(one)
        if found != [WEIGHT]:
            return [], lacking or type(one).__name__
    return [WEIGHT], ""


def _takes(model: Any) -> bool:
    from sklearn.utils.validation import has_fit_parameter

    return has_fit_parameter(model, WEIGHT)
