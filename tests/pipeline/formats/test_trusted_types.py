"""Types inside a stored model that need no word of the team, and those that never get in without one."""

import functools
import os
import subprocess
import tomllib

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, PairwiseKernel, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, SplineTransformer, StandardScaler

from pipeline.formats import trusted_types

X = np.random.default_rng(0).integers(0, 5, (60, 3)).astype(float)
Y = (X[:, 0] + X[:, 1] > 4).astype(int)


def types_in(model):
    """The types in a stored model that skops does not trust."""
    return skops.io.get_untrusted_types(data=skops.io.dumps(model))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(2),
        HistGradientBoostingClassifier(max_iter=2),
        HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
        CalibratedClassifierCV(LogisticRegression(), cv=2),
        CalibratedClassifierCV(LogisticRegression(), cv=2, method="temperature"),
        GaussianProcessClassifier(1.0 * RBF() + WhiteKernel()),
        StackingClassifier([("one", LogisticRegression())], cv=2),
        MLPClassifier(max_iter=2),
        make_pipeline(SimpleImputer(), SelectKBest(k=2), LogisticRegression()),
        make_pipeline(KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), LogisticRegression()),
        make_pipeline(SplineTransformer(), LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scikit_learn_s_own_types_need_no_listing(model):
    """What scikit-learn's estimators hold by themselves is trusted."""
    assert trusted_types.beyond(types_in(model.fit(X, Y)), []) == []


@pytest.mark.parametrize("library", ["xgboost.XGBClassifier", "xgboost.XGBRegressor", "xgboost.XGBRFClassifier", "lightgbm.LGBMClassifier", "lightgbm.LGBMRegressor"])  # fmt: skip
def test_models_of_xgboost_and_lightgbm_need_no_listing(library):
    """Their models are trusted like scikit-learn's."""
    package, _, name = library.partition(".")
    quiet = {"verbose": -1} if package == "lightgbm" else {}
    model = getattr(pytest.importorskip(package), name)(n_estimators=2, **quiet)
    found = types_in(model.fit(X, Y))
    assert found and trusted_types.beyond(found, []) == []


def test_a_selector_of_columns_needs_no_listing():
    """make_column_selector, which most models of mixed columns hold, is trusted: it holds a pattern and names of types."""
    columns = make_column_transformer((StandardScaler(), make_column_selector("a", dtype_include="number")))
    model = make_pipeline(columns, LogisticRegression()).fit(pd.DataFrame(X, columns=["a", "b", "c"]), Y)
    assert trusted_types.beyond(types_in(model), []) == []


def loss(y_true, y_pred):
    """A function of one's own."""
    return y_pred, y_true


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (FunctionTransformer(os.system), "posix.system"),
        (FunctionTransformer(eval), "builtins.eval"),
        (FunctionTransformer(np.load), "numpy.load"),
        (FunctionTransformer(subprocess.check_output), "subprocess.check_output"),
        (FunctionTransformer(functools.partial(os.system, "true")), "posix.system"),
        (FunctionTransformer(functools.partial(os.system, "true")), "functools.partial"),
        (FunctionTransformer(subprocess.Popen), "subprocess.Popen"),
        (FunctionTransformer(loss), f"{__name__}.loss"),
        (FunctionTransformer(sklearn.utils.shuffle), "sklearn.utils._indexing.shuffle"),
        (SelectKBest(score_func=loss), f"{__name__}.loss"),
        (FunctionTransformer(LogisticRegression().fit), "sklearn.linear_model._logistic.LogisticRegression.fit"),
        (GaussianProcessClassifier(PairwiseKernel(metric=loss)), "sklearn.gaussian_process.kernels.PairwiseKernel"),
        (KNeighborsClassifier(metric=DistanceMetric.get_metric(loss)), "sklearn.metrics._dist_metrics.PyFuncDistance64"),
    ],
)  # fmt: skip
def test_nothing_that_runs_code_gets_in(model, named):
    """Functions, methods, partials over them, and classes that call what they are given are named, whichever module defines them."""
    try:
        found = types_in(model)
    except Exception:  # what cannot be stored does not get in either
        return
    assert named in trusted_types.beyond(found, [])


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval", "builtins.exec", "builtins.getattr", "operator.attrgetter", "operator.methodcaller", "os.system",
        "posix.system", "subprocess.Popen", "functools.partial", "functools.reduce", "numpy.load", "numpy.memmap", "numpy.vectorize",
        "numpy.fromfile", "numpy.apply_along_axis", "numpy.f2py.compile", "numpy.ctypeslib.load_library", "numpy.lib._datasource.DataSource",
        "sklearn.utils.check_array", "sklearn.utils.Bunch", "sklearn.datasets._base.load_files", "sklearn.utils._testing.ignore_warnings",
        "sklearn.datasets._openml.fetch_openml", "sklearn.externals.anything", "sklearn.pipeline.os", "sklearn.utils.fixes.sys",
        "sklearn.metrics._scorer._Scorer", "sklearn.utils.parallel._FuncWrapper", "xgboost.core._load_lib", "xgboost.callback.TrainingCallback",
        "lightgbm.libpath.find_lib_path", "lightgbm.basic._log_callback", "scipy.LowLevelCallable", "joblib.memory.Memory",
        "project.model.Clip", "types.FunctionType", "importlib.import_module", "", "eval", "sklearn", "sklearn.", ".Tree",
    ],
)  # fmt: skip
def test_name_that_is_no_data_of_these_libraries_is_not_trusted(name):
    """A name counts by what stands behind it in the module that defines it, not by how it begins."""
    assert trusted_types.beyond([name], []) == [name]


def test_every_class_that_is_trusted_by_name_is_a_class():
    """The list names classes where they are defined, of the versions that are locked, and functions that compute."""
    import lightgbm  # noqa: F401
    import xgboost  # noqa: F401

    for name in trusted_types.CLASSES | trusted_types.FUNCTIONS:
        __import__(name.rpartition(".")[0])
    named = trusted_types.CLASSES - {
        name for name in trusted_types.CLASSES if isinstance(trusted_types._defined(name), type)
    }
    assert not {name for name in named if not name.endswith(("32", "64"))}
    assert all(callable(trusted_types._defined(name)) for name in trusted_types.FUNCTIONS)


def test_line_to_paste_holds_what_is_trusted_already_and_what_is_not():
    """The advice is one line of TOML, whole, with each type once."""
    said = trusted_types.advice(["b.B", 'c."C'], ["a.A", "b.B"])
    assert said.startswith("if you know them, put this line into pipeline.toml [train]: trusted_types = [")
    assert tomllib.loads(said.partition(": ")[2]) == {"trusted_types": ["a.A", "b.B", 'c."C']}
