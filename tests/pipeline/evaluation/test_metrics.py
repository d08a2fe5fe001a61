"""Metrics equal scikit-learn's, with and without weights; resampling by weights equals resampling the rows."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk

from pipeline.errors import ProjectError, SettingsError
from pipeline.evaluation.metrics import evaluate, metrics_for, named, of_project


def label(prediction):
    """The class with the highest probability."""
    return prediction.argmax(axis=1)


def of_labels(score, **fixed):
    """A scikit-learn score of labels, asked with probabilities."""
    return lambda y, p, **weights: score(y, label(p), **fixed, **weights)


REFERENCE = {
    "binary": {
        "accuracy": of_labels(sk.accuracy_score),
        "precision": of_labels(sk.precision_score),
        "recall": of_labels(sk.recall_score),
        "f1": of_labels(sk.f1_score),
        "roc_auc": lambda y, p, **weights: sk.roc_auc_score(y, p[:, 1], **weights),
        "pr_auc": lambda y, p, **weights: sk.average_precision_score(y, p[:, 1], **weights),
        "log_loss": sk.log_loss,
        "brier": lambda y, p, **weights: sk.brier_score_loss(y, p[:, 1], **weights),
    },
    "multiclass": {
        "accuracy": of_labels(sk.accuracy_score),
        "balanced_accuracy": of_labels(sk.balanced_accuracy_score),
        "f1_macro": of_labels(sk.f1_score, average="macro"),
        "roc_auc_ovr": lambda y, p, **weights: sk.roc_auc_score(y, p, multi_class="ovr", **weights),
        "log_loss": sk.log_loss,
        "brier": sk.brier_score_loss,
    },
    "regression": {
        "mae": sk.mean_absolute_error,
        "rmse": sk.root_mean_squared_error,
        "median_absolute_error": sk.median_absolute_error,
        "r2": sk.r2_score,
    },
}


def data(task: str, rows: int = 160, decimals: int = 6):
    """y and answers; few decimals make ties."""
    rng = np.random.default_rng(rows + decimals)
    if task == "regression":
        y = rng.normal(50, 10, rows)
        return y, np.round(y + rng.normal(0, 4, rows), decimals)
    k = 2 if task == "binary" else 4
    y = rng.integers(0, k, rows)
    logits = np.eye(k)[y] + rng.normal(0, 1, (rows, k))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares = np.floor(shares * 10**decimals) / 10**decimals
    shares[:, -1] = 1 - shares[:, :-1].sum(axis=1)
    return y, shares


EVERY = [(task, name) for task, names in REFERENCE.items() for name in names]


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no ties"])
@pytest.mark.parametrize("rows", [40, 161])
@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_metric_equals_scikit_learns(task, name, rows, decimals):
    """Over all rows, ties and even or odd numbers of rows included."""
    y, prediction = data(task, rows, decimals)
    metric = metrics_for(task, 1 if task == "binary" else None)[name]
    assert metric.value(y, prediction) == pytest.approx(REFERENCE[task][name](y, prediction), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no ties"])
@pytest.mark.parametrize(("task", "name"), EVERY)
def test_a_resampled_metric_equals_scikit_learns_with_sample_weight(task, name, decimals):
    """Each row of weights gives what scikit-learn gives for that sample_weight."""
    y, prediction = data(task, decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (6, len(y))).astype(float)
    metric = metrics_for(task, 1 if task == "binary" else None)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = metric.values(y, prediction, weights)
    expected = [REFERENCE[task][name](y, prediction, sample_weight=one) for one in weights]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("task", "name"), EVERY)
def test_weights_mean_the_same_as_repeated_rows(task, name):
    """A row with weight 3 counts as three such rows."""
    y, prediction = data(task)
    weights = np.random.default_rng(2).integers(0, 4, (4, len(y))).astype(float)
    metric = metrics_for(task, 1 if task == "binary" else None)[name]
    repeated = [np.repeat(np.arange(len(y)), one.astype(int)) for one in weights]
    expected = [metric.value(y[rows], prediction[rows]) for rows in repeated]
    assert metric.values(y, prediction, weights) == pytest.approx(expected, abs=1e-12)


def test_better_is_known_of_every_metric():
    """Losses and errors are better when lower, scores when higher."""
    lower = {"log_loss", "brier", "mae", "rmse", "median_absolute_error"}
    for task in REFERENCE:
        metrics = metrics_for(task, 1)
        assert list(metrics) == list(REFERENCE[task])
        assert {name for name, metric in metrics.items() if not metric.higher_is_better} == lower & set(metrics)


def test_the_positive_class_is_chosen_by_its_position():
    """Precision, recall and areas are about the class at `positive`, here the first."""
    y, prediction = data("binary")
    found = evaluate("binary", y, prediction, positive=0)
    assert found["recall"] == pytest.approx(sk.recall_score(y, label(prediction), pos_label=0))
    assert found["precision"] == pytest.approx(sk.precision_score(y, label(prediction), pos_label=0))
    assert found["pr_auc"] == pytest.approx(sk.average_precision_score(y == 0, prediction[:, 0]))


def test_a_sure_and_wrong_answer_costs_a_finite_log_loss():
    """Probability 0 for what happened is clipped where scikit-learn clips it."""
    y, prediction = np.array([0, 1, 1]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert evaluate("binary", y, prediction, 1)["log_loss"] == pytest.approx(sk.log_loss(y, prediction))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", REFERENCE)
def test_a_prediction_that_is_not_finite_makes_every_metric_undefined(task, bad):
    """Even those, like accuracy, that could be computed."""
    y, prediction = data(task)
    prediction[3] = bad
    found = evaluate(task, y, prediction, 1 if task == "binary" else None)
    assert len(found) > 3
    assert all(np.isnan(value) for value in found.values())


def test_metrics_of_a_hold_out_without_a_positive_row():
    """What asks about positive rows is undefined, without a warning; the rest is not."""
    prediction = data("binary")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = evaluate("binary", np.zeros(160, dtype=int), prediction, 1)
    undefined = {name for name, value in found.items() if np.isnan(value)}
    assert undefined == {"precision", "recall", "roc_auc", "pr_auc"}


def test_a_model_that_never_says_positive_has_precision_and_f1_zero():
    """As in scikit-learn."""
    y = np.array([0, 1, 1, 0])
    found = evaluate("binary", y, np.tile([0.9, 0.1], (4, 1)), 1)
    assert (found["precision"], found["recall"], found["f1"]) == (0, 0, 0)


def test_a_class_that_is_missing_from_the_hold_out():
    """Is left out of the mean recall, and leaves the mean ROC AUC undefined."""
    y, prediction = data("multiclass")
    rows = y != 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = sk.balanced_accuracy_score(y[rows], label(prediction[rows]))
    found = evaluate("multiclass", y[rows], prediction[rows])
    assert found["balanced_accuracy"] == pytest.approx(expected)
    assert np.isnan(found["roc_auc_ovr"])


def test_r2_of_a_constant_target_is_undefined():
    """There is nothing to explain."""
    assert np.isnan(evaluate("regression", np.ones(5), np.arange(5.0))["r2"])


def test_r2_keeps_its_digits_far_from_zero():
    """A target of the size of 10^9 loses nothing against scikit-learn."""
    y, prediction = data("regression")
    found = evaluate("regression", y + 1e9, prediction + 1e9)["r2"]
    assert found == pytest.approx(sk.r2_score(y + 1e9, prediction + 1e9), abs=1e-9)


def test_no_rows_make_a_metric_undefined():
    """An empty slice has no value, and raises nothing."""
    assert np.isnan(metrics_for("regression")["mae"].value(np.empty(0), np.empty(0)))


def cost(y, prediction):
    """A missed positive costs five, a false alarm one."""
    positive = prediction[:, 1] >= 0.5
    return float(np.mean(5 * (~positive & (y == 1)) + (positive & (y == 0))))


def test_a_metric_of_the_teams_own_is_resampled_by_rows():
    """It is called with rows as often as they were drawn, and stands beside the others."""
    y, prediction = data("binary")
    weights = np.random.default_rng(3).integers(0, 4, (5, len(y))).astype(float)
    own = metrics_for("binary", 1, {"cost": (cost, False)})["cost"]
    drawn = [np.repeat(np.arange(len(y)), one.astype(int)) for one in weights]
    assert own.values(y, prediction, weights) == pytest.approx([cost(y[rows], prediction[rows]) for rows in drawn])
    assert evaluate("binary", y, prediction, 1, {"cost": (cost, False)})["cost"] == pytest.approx(cost(y, prediction))
    assert not own.higher_is_better


@pytest.mark.parametrize(
    "own", [cost, (cost,), (cost, "lower"), ("cost", False), (cost, 0)], ids=["bare", "alone", "word", "name", "0"]
)
def test_a_metric_of_the_wrong_shape_is_refused_by_name(own):
    """With what to write instead."""
    with pytest.raises(ProjectError, match="cost must be") as caught:
        metrics_for("binary", 1, {"cost": own})
    assert "METRICS = " in caught.value.then


def test_a_metric_that_mlflow_cannot_name_is_refused():
    """A name that MLflow would refuse after the training is refused when the metric is met, with what is allowed."""
    with pytest.raises(ProjectError, match="a metric cannot be called 'recall@20': it holds '@'; allowed are letters"):
        metrics_for("binary", 1, {"recall@20": (cost, False)})


def test_a_metric_of_the_teams_own_cannot_replace_one_of_ours():
    """The report would not say which it shows."""
    with pytest.raises(ProjectError, match="f1 is there already"):
        metrics_for("binary", 1, {"f1": (cost, False)})


def test_an_error_in_the_teams_own_metric_names_it():
    """The message says which metric and what happened."""
    y, prediction = data("binary")
    with pytest.raises(ProjectError, match=r"metric share in project/model\.py failed: ZeroDivisionError"):
        evaluate("binary", y, prediction, 1, {"share": (lambda y, prediction: 1 / 0, True)})


def test_an_unknown_metric_is_refused_with_the_ones_there_are():
    """A misspelt metric in pipeline.toml is named, and so is its place."""
    metrics = metrics_for("regression")
    assert named(metrics, "mae") is metrics["mae"]
    with pytest.raises(SettingsError, match=r"\[gate.limits\] 'mse' is no metric") as caught:
        named(metrics, "mse", "[gate.limits]")
    assert "rmse" in caught.value.then


def test_an_unknown_task_is_a_mistake_of_ours():
    """Settings know three tasks only; another one is no user's error."""
    with pytest.raises(ValueError, match="no such task"):
        metrics_for("ranking")


def test_the_teams_own_metrics_are_those_of_project_model(monkeypatch):
    """METRICS in project/model.py, and none where there is no such name."""
    import project.model

    monkeypatch.setattr(project.model, "METRICS", {"cost": (cost, False)}, raising=False)
    assert of_project() == {"cost": (cost, False)}
    monkeypatch.delattr(project.model, "METRICS")
    assert of_project() == {}


@pytest.mark.parametrize("decimals", [1, 6], ids=["ties", "no ties"])
def test_what_a_row_does_to_average_precision_is_its_slope(decimals):
    """Counting a row a little more moves the metric by what per_row says."""
    y, prediction = data("binary", 60, decimals)
    metric, more = metrics_for("binary", 1)["pr_auc"], 1e-7
    moved = metric.values(y, prediction, 1 + more * np.eye(len(y))) - metric.value(y, prediction)
    assert metric.per_row(y, prediction) / y.sum() == pytest.approx(moved / more, abs=1e-5)


def test_what_a_row_does_to_roc_auc_is_its_placement():
    """The share of the other class that it outranks; their mean over the positive rows is the area."""
    y, prediction = data("binary", 60, 1)
    metric = metrics_for("binary", 1)["roc_auc"]
    placements = metric.per_row(y, prediction)
    assert placements[y == 1].mean() == pytest.approx(metric.value(y, prediction))
    assert placements[y == 0].mean() == pytest.approx(metric.value(y, prediction))
