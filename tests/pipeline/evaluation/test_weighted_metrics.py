"""Rows that count unlike: every metric is scikit-learn's with sample_weight, and a weight of 3 is three rows."""

import numpy as np
import pytest
from sklearn import metrics as reference

from pipeline.evaluation import gate, plots
from pipeline.evaluation.metrics import evaluate, metrics_for

RNG = np.random.default_rng(7)
WEIGHTS = RNG.gamma(1.0, 1.0, 300) * (RNG.random(300) > 0.1)  # some rows count nothing
HOW = {"confidence": 0.95, "resamples": 400, "seed": 3}


def classes(k):
    """Classes and probabilities with some ties; not every answer is right."""
    y = RNG.integers(0, k, 300)
    raw = np.round(RNG.random((300, k)) + 0.6 * np.eye(k)[y], 1)
    return y, raw / raw.sum(axis=1, keepdims=True)


def regression():
    """Values and answers that are near them."""
    y = RNG.normal(size=300)
    return y, y + RNG.normal(scale=0.5, size=300)


def of_scikit_learn(task, y, p, w):
    """The same figures by scikit-learn."""
    how = {"sample_weight": w}
    if task == "regression":
        return {
            "mae": reference.mean_absolute_error(y, p, **how),
            "rmse": reference.root_mean_squared_error(y, p, **how),
            "r2": reference.r2_score(y, p, **how),
        }
    said = p.argmax(axis=1)
    both = {
        "accuracy": reference.accuracy_score(y, said, **how),
        "log_loss": reference.log_loss(y, p, **how),
    }
    if task == "multiclass":
        each = [reference.roc_auc_score(y == position, p[:, position], **how) for position in range(p.shape[1])]
        return both | {
            "balanced_accuracy": reference.balanced_accuracy_score(y, said, **how),
            "f1_macro": reference.f1_score(y, said, average="macro", **how),
            "roc_auc_ovr": np.mean(each),
        }
    return both | {
        "precision": reference.precision_score(y, said, **how),
        "recall": reference.recall_score(y, said, **how),
        "f1": reference.f1_score(y, said, **how),
        "roc_auc": reference.roc_auc_score(y, p[:, 1], **how),
        "pr_auc": reference.average_precision_score(y, p[:, 1], **how),
        "brier": reference.brier_score_loss(y, p[:, 1], **how),
    }


DATA = {"binary": classes(2), "multiclass": classes(4), "regression": regression()}


@pytest.mark.parametrize("task", DATA)
def test_weighted_metrics_are_those_of_scikit_learn(task):
    """Every metric that scikit-learn has, to the last digits."""
    y, p = DATA[task]
    ours = metrics_for(task, positive=1)
    for name, expected in of_scikit_learn(task, y, p, WEIGHTS).items():
        assert ours[name].value(y, p, WEIGHTS) == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize("task", DATA)
def test_whole_weights_are_repeated_rows(task):
    """Each metric, scikit-learn's or not, of rows with whole weights is that of as many copies."""
    y, p = DATA[task]
    weights = RNG.integers(0, 4, len(y))
    copies = evaluate(task, y.repeat(weights), p.repeat(weights, axis=0), positive=1)
    for name, metric in metrics_for(task, positive=1).items():
        assert metric.value(y, p, weights.astype(float)) == pytest.approx(copies[name], rel=1e-9), name


def test_own_metric_is_weighted_where_it_takes_sample_weight():
    """It gets the weights of the rows by that name; another is asked as ever, and says of itself that it is not weighted."""
    y, p = DATA["regression"]
    own = {
        "weighted": (reference.mean_absolute_error, False),
        "plain": (lambda y, p: float(np.abs(y - p).mean()), False),
    }
    known = metrics_for("regression", extra=own)
    assert (known["weighted"].weighted, known["plain"].weighted) == (True, False)
    assert known["weighted"].value(y, p, WEIGHTS) == pytest.approx(known["mae"].value(y, p, WEIGHTS))
    assert known["plain"].value(y, p, WEIGHTS) == known["plain"].value(y, p)
    one, other = (gate.compare(known[name], y, p, p * 0.9, weights=WEIGHTS, **HOW) for name in ("weighted", "mae"))
    assert (one.difference, one.lower, one.upper) == pytest.approx(
        (other.difference, other.lower, other.upper), rel=0.05
    )


def test_one_heavy_row_is_no_evidence():
    """Where one row has nearly all weight, the bounds are those of one observation."""
    y, p = DATA["regression"]
    heavy = np.where(np.arange(300) == 0, 1e9, 1.0)
    found = gate.compare(metrics_for("regression")["mae"], y, p, p * 0.9, weights=heavy, **HOW)
    assert found.lower == -np.inf and found.upper == np.inf


def test_interval_of_grouped_rows_is_wider():
    """Rows that are alike within their group tell less than as many of their own."""
    value = RNG.normal(size=30).repeat(10)
    answer = value + RNG.normal(size=30).repeat(10)
    mae = metrics_for("regression")["mae"]
    alone = gate.interval(mae, value, answer, **HOW)
    grouped = gate.interval(mae, value, answer, subjects=np.arange(30).repeat(10), **HOW)
    assert grouped[1] - grouped[0] > 2 * (alone[1] - alone[0])


def test_calibration_with_weights_of_one_is_the_one_without():
    """Ten bins of equal width, those without rows left out."""
    y, p = DATA["binary"]
    plain, weighted = (plots._calibrated(y == 1, p[:, 1], weights) for weights in (None, np.ones(300)))
    assert np.allclose(plain, weighted)
