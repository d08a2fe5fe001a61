"""Models of XGBoost and LightGBM become ONNX where onnxmltools is there, and the message names it where it is not."""

import subprocess
import sys

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from pipeline.artifacts import ROOT
from pipeline.formats import bundle, choose
from pipeline.formats.onnx import converters
from pipeline.formats.parity import parity as parity_of
from tests.pipeline.formats.test_onnx_model import answers, exported_form, fitted, made


def converted(model, dataset):
    """The answers of a fitted model as ONNX, beside its own on the hold-out."""
    model, trained = fitted(model, dataset)
    held = dataset.features[dataset.holdout]
    exported, (parity,) = exported_form(model, dataset, trained, 1e-5)
    contract = bundle.contract(dataset, {}, {"ranges": {}, "values": {}}, "", 1e-5)
    tried = choose.prepare(model, dataset, held, trained, contract["inputs"])
    return exported, parity, next((one for one in tried if one.where == choose.JUMPS), None)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_xgboost_with_named_columns_becomes_onnx(task):
    """A model of XGBoost that was trained on named columns answers alike as ONNX, on the hold-out and beside its thresholds."""
    xgboost = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    kind = xgboost.XGBRegressor if task == "regression" else xgboost.XGBClassifier
    dataset = made(task)
    exported, parity, beside = converted(make_pipeline(kind(n_estimators=20, random_state=1)), dataset)
    assert parity.holds(1e-5)
    given = answers(exported, dataset, beside.rows)
    assert parity_of(beside.trained, given, 1e-5).holds(1e-5)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_lightgbm_becomes_onnx(task):
    """A model of LightGBM answers alike as ONNX on the hold-out; that it compares 64-bit numbers shows beside its thresholds."""
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("onnxmltools")
    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    dataset = made(task)
    exported, parity, beside = converted(make_pipeline(kind(n_estimators=20, random_state=1, verbose=-1)), dataset)
    assert parity.holds(1e-4)
    given = answers(exported, dataset, beside.rows)
    assert not parity_of(beside.trained, given, 1e-5).holds(1e-5)


def test_absent_converters_are_named(monkeypatch):
    """Where a library is in use and onnxmltools is not installed, that is said; where none is in use, nothing is."""
    monkeypatch.setattr(converters, "PACKAGE", "no_such_package")
    for name in converters.LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert converters.register() == ""
    monkeypatch.setitem(sys.modules, "xgboost", object())
    assert converters.register() == "xgboost needs the package no_such_package beside it"


def test_nothing_is_imported_for_models_of_scikit_learn():
    """A conversion of scikit-learn's own model imports neither the libraries nor onnxmltools."""
    code = "import sys; from pipeline.formats.onnx import converters; converters.register(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"xgboost", "lightgbm", "onnxmltools"} & set(done.stdout.split())
    assert converted(LogisticRegression(), made("binary"))[1].holds(1e-5)
