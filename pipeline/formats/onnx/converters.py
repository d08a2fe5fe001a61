"""Models of XGBoost and LightGBM for skl2onnx, which by itself converts scikit-learn's only; onnxmltools has their converters."""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

PACKAGE = "onnxmltools"
# Library, its classes, and the converter's function with the module that holds it.
LIBRARIES = {
    "xgboost": ("XGBClassifier", "XGBRegressor", "xgboost.operator_converters.XGBoost", "convert_xgboost"),
    "lightgbm": ("LGBMClassifier", "LGBMRegressor", "lightgbm.operator_converters.LightGbm", "convert_lightgbm"),
}


def register() -> str:
    """Register the converters of the libraries that are in use; return what is missing for it in words, or ""."""
    used = [name for name in LIBRARIES if name in sys.modules]
    if used and find_spec(PACKAGE) is None:
        return f"{used[0]} needs the package {PACKAGE} beside it"
    for library in used:
        _register(library)
    return ""


def without_counterpart(model: Any) -> str:
    """What in a fitted model ONNX has no counterpart for although its converter does not say so, in words, or ""."""
    for part in parts(model):
        if (
            type(part).__name__.startswith("HistGradientBoosting")
            and getattr(part, "is_categorical_", None) is not None
        ):
            return f"{type(part).__name__} with categorical features has no counterpart there"
    return ""


def parts(model: Any) -> Iterator[Any]:
    """The estimators inside one, itself first."""
    if hasattr(model, "__dict__") and not hasattr(model, "get_params"):
        yield model  # a class of the team's own
    yield from _parts(model, set())


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        inside = list(value)
    elif isinstance(value, dict):
        inside = list(value.values())
    elif hasattr(value, "get_params") and hasattr(value, "__dict__"):
        yield value
        inside = list(vars(value).values())
    elif type(value).__name__ == "_CalibratedClassifier":
        inside = [value.estimator]
    else:
        return
    for one in inside:
        yield from _parts(one, seen)


def opsets() -> dict[str, int] | None:
    """The versions of ONNX's operators that a graph may use: the libraries' converters know those of trees up to 3."""
    import skl2onnx

    used = any(name in sys.modules for name in LIBRARIES)
    return {"": skl2onnx.__max_supported_opset__, "ai.onnx.ml": 3} if used else None


def _register(library: str) -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    classifier, regressor, module, function = LIBRARIES[library]
    convert = getattr(import_module(f"{PACKAGE}.convert.{module}"), function)
    if library == "xgboost":
        convert = _without_names(convert)
    models = sys.modules[library]
    update_registered_converter(
        getattr(models, classifier),
        f"Slipway{classifier}",
        calculate_linear_classifier_output_shapes,
        convert,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False]},
    )
    update_registered_converter(
        getattr(models, regressor),
        f"Slipway{regressor}",
        calculate_linear_regressor_output_shapes,
        convert,
        options={"split": None} if library == "lightgbm" else None,
    )


def _without_names(convert: Any) -> Any:
    """The converter for a model that was trained on named columns: it knows columns by their position only."""

    def converted(scope: Any, operator: Any, container: Any) -> None:
        booster = operator.raw_operator.get_booster()
        names, booster.feature_names = booster.feature_names, None
        try:
            convert(scope, operator, container)
        finally:
            booster.feature_names = names

    return converted
