"""Performance from counted outcomes is that of scikit-learn on the rows, and a limit names a metric that is measured."""

import msgspec
import numpy as np
import pytest
import sklearn.metrics as sk

from pipeline.errors import SettingsError
from pipeline.evaluation.metrics import MEASURED, check_monitored
from pipeline.monitor import performance
from pipeline.settings import load_settings
from serving.counts.day import OutcomeCounter
from serving.counts.records import Bins, Version
from serving.model.contract import Contract

pytestmark = pytest.mark.quick
CLASSES = ["a", "b", "c"]


def measured(task: str, y: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The metrics of outcomes, counted as the log's counter does it."""
    classes = CLASSES[: predicted.shape[1]] if task != "regression" else None
    contract = {
        "schema": 1, "name": "m", "task": task, "format": "skops", "skops": {"layout": "frame"}, "target": "y", "classes": classes,
        "positive": "b" if task == "binary" else None, "inputs": [{"name": "x", "type": "number", "example": 0}],
    }  # fmt: skip
    target = Bins(values=classes) if classes else Bins(edges=[], center=5.0, scale=3.0)
    version = Version(contract=msgspec.convert(contract, Contract), features={}, prediction={}, target=target)
    counter = OutcomeCounter(version, 1.0)
    counter.count(y, predicted)
    return {one.name: one.value for one in performance.measured(version, counter.result(), {})}


def test_binary_metrics_are_those_of_the_rows():
    """All but the area are exact; that is read from 100 bins."""
    rng = np.random.default_rng(0)
    p = rng.random(3000)
    y = (rng.random(3000) < p).astype(int)
    found, answered = measured("binary", y, np.stack([1 - p, p], axis=1)), (p > 0.5).astype(int)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, answered), "precision": sk.precision_score(y, answered), "recall": sk.recall_score(y, answered),
            "f1": sk.f1_score(y, answered), "roc_auc": sk.roc_auc_score(y, p), "log_loss": sk.log_loss(y, p),
        },
        abs=1e-3,
    )  # fmt: skip
    assert set(found) == set(MEASURED["binary"])


def test_multiclass_metrics_are_those_of_the_rows():
    """Means over the classes, and the log loss."""
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(3), 900)
    y = np.array([rng.choice(3, p=one) for one in p])
    found, answered = measured("multiclass", y, p), p.argmax(axis=1)
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, answered), "balanced_accuracy": sk.balanced_accuracy_score(y, answered),
            "f1_macro": sk.f1_score(y, answered, average="macro"), "log_loss": sk.log_loss(y, p),
        }
    )  # fmt: skip
    assert set(found) == set(MEASURED["multiclass"])


def test_metrics_of_values_are_those_of_the_rows():
    """Errors in the units of the target, and the share of its variance that is explained."""
    rng = np.random.default_rng(2)
    y = rng.lognormal(3, 1, 500)
    predicted = y * rng.lognormal(0, 0.3, 500)
    found = measured("regression", y, predicted)
    expected = {"mae": sk.mean_absolute_error(y, predicted), "rmse": sk.root_mean_squared_error(y, predicted), "r2": sk.r2_score(y, predicted)}  # fmt: skip
    assert found == pytest.approx(expected) and set(found) == set(MEASURED["regression"])


def test_a_limit_of_what_is_not_measured_is_refused():
    """No outcome could ever break it, and a limit that is silent for ever looks like one that holds."""
    settings = load_settings()
    asked = settings.model_copy(update={"monitor": settings.monitor.model_copy(update={"limits": {"pr_auc": 0.5}})})
    check_monitored(settings)
    with pytest.raises(SettingsError, match=r"\[monitor.limits\] 'pr_auc' is not measured in production"):
        check_monitored(asked)
