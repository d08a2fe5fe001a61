"""DriftDetector and ModelMonitor, as people use them in a notebook."""

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.artifacts import write_json
from pipeline.data import drift, snapshot
from pipeline.data.dataset import take_apart
from pipeline.errors import DataError
from pipeline.formats import bundle
from pipeline.monitor import distances, performance
from pipeline.notebook import DriftDetector, ModelMonitor
from pipeline.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_noise():
    """A warning is an error: nothing of what people see is noise of a library."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def frame():
    """Training data: numbers, whole numbers with empty cells, texts, truth values, and a day, which is no feature."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 10, 2000),
            "children": pd.array(rng.integers(0, 5, 2000), dtype="Int64").astype("Int64"),
            "town": rng.choice(["north", "south", "east"], 2000),
            "member": rng.random(2000) < 0.3,
            "day": pd.Timestamp("2026-01-01"),
        }
    ).assign(children=lambda made: made["children"].where(rng.random(2000) < 0.9))


@pytest.fixture(scope="module")
def table():
    """Data such as load() returns."""
    rng = np.random.default_rng(2)
    measured = pd.DataFrame(rng.normal(10, 2, (900, 3)), columns=["mean_radius", "mean_texture", "mean_area"])
    diagnosis = np.where(rng.random(900) < 0.4, "malignant", "benign")
    return measured.assign(id=[f"row-{number}" for number in range(900)], diagnosis=diagnosis)


@pytest.fixture(scope="module")
def made(table):
    """The data taken apart, and the answers of a model on the hold-out."""
    dataset = take_apart(table, load_settings(ROOT / "tests/example/pipeline.toml"))
    y_true = dataset.y[dataset.holdout]
    positive = np.clip(y_true + np.random.default_rng(1).normal(0, 0.4, len(y_true)), 0.01, 0.99)
    return dataset, np.stack([1 - positive, positive], axis=1)


@pytest.fixture
def folder(made, tmp_path):
    """A folder like build/model."""
    dataset, y_pred = made
    form = {"format": "onnx", "onnx": {"layout": "matrix", "dtype": "float64", "label": "y", "probabilities": "p"}}
    contract = bundle.contract(dataset, form, {"ranges": {}, "values": {}}, "c0ffee", 1e-5)
    accuracy = float((y_pred.argmax(axis=1) == dataset.y[dataset.holdout]).mean())
    where = tmp_path / "build" / "model"
    write_json(where / "contract.json", contract)
    write_json(where / "reference.json", drift.reference(dataset, ~dataset.holdout, y_pred, {"accuracy": accuracy}))
    bundle.save_predictions(where, y_pred)
    return where


def test_the_example_of_the_page_runs(folder, table, monkeypatch, tmp_path):
    """The code of docs/notebook.md, as it stands there, finds no drift where there is none, the hold-out's accuracy, and the better model."""
    shutil.copy(ROOT / "tests/example/pipeline.toml", tmp_path)
    (tmp_path / "rows.parquet").write_bytes(snapshot.to_parquet(table))
    monkeypatch.setenv(snapshot.VARIABLE, "rows.parquet")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/notebook.md").read_text(encoding="utf-8")
    scope: dict = {}
    exec(compile(re.search(r"```python\n(.+?)```", page, re.S)[1], "docs/notebook.md", "exec"), scope)
    assert scope["found"].drifted.empty and scope["detector"].alarms() == [] and scope["monitor"].get_alerts() == []
    accuracy = scope["monitor"].performance().table.loc["accuracy"]
    assert accuracy["value"] == pytest.approx(accuracy["holdout"])
    assert scope["result"].better == "A" and scope["result"].table["users"].sum() == 600


# --- the detector ---


def test_the_figures_are_those_of_scipy_and_of_the_monitor(frame):
    """KS and Wasserstein are exact, PSI is the monitor's, p-values are adjusted for the number of features."""
    new = frame[:500].assign(age=lambda rows: rows["age"] + 3)
    found = DriftDetector(frame).detect(new)
    one, exact = found["age"], stats.ks_2samp(frame["age"], new["age"])
    assert (one.ks, one.p_value) == pytest.approx((exact.statistic, exact.pvalue))
    assert one.wasserstein == pytest.approx(stats.wasserstein_distance(frame["age"], new["age"]))
    p_values = found.table["p_value"].tolist()
    assert found.table["p_adjusted"].tolist() == pytest.approx(distances.benjamini_hochberg(p_values))
    assert found["town"].chi2 is not None and found["town"].ks is None


def test_only_what_moved_is_drifted(frame):
    """A shifted number and a text with a new value are; the others are not, and dates are skipped and named."""
    new = frame[:800].assign(age=lambda rows: rows["age"] + 5, town=["west"] * 200 + frame["town"][200:800].tolist())
    found = DriftDetector(frame).detect(new)
    assert set(found.drifted.index) == {"age", "town"} and "day" in found.skipped
    assert "2 of 4 features drifted" in repr(found) and "<table" in found._repr_html_()


def test_empty_cells_are_counted_and_can_drift(frame):
    """Figures leave them out; their share is compared by itself, so a column that is all empty drifted."""
    found = DriftDetector(frame).detect(frame.assign(age=np.nan, town=None))
    assert set(found.drifted.index) == {"age", "town"}
    one = found["age"]
    assert (one.missing_before, one.missing_now, one.ks, one.p_value) == (0, 1, None, None)
    assert found["children"].missing_now == pytest.approx(found["children"].missing_before, abs=1e-6)


def test_undrifted_tables_are_rarely_called_drifted():
    """Of forty pairs of tables with 5 features each, about two have a feature that is said to have drifted."""
    rng = np.random.default_rng(3)
    pairs = [rng.normal(size=(2, 200, 5)) for _ in range(40)]
    assert sum(not DriftDetector(before).detect(now).drifted.empty for before, now in pairs) <= 5


def test_statistics_describe_the_reference(frame):
    """Mean, standard deviation, minimum and maximum of numbers; how many texts, and the most frequent."""
    found = DriftDetector(frame).statistics
    age = found.loc["age", ["mean", "deviation", "minimum", "maximum"]].tolist()
    assert age == pytest.approx([frame["age"].mean(), frame["age"].std(ddof=0), frame["age"].min(), frame["age"].max()])
    assert found.loc["town", "values"] == 3 and found.loc["town", "most_frequent"] == frame["town"].mode()[0]


def test_arrays_are_compared_by_position():
    """Columns of an array are called feature_0 and so on; a single dimension is one feature."""
    rng = np.random.default_rng(4)
    found = DriftDetector(rng.normal(size=(300, 3))).detect(rng.normal([0, 2, 0], 1, (300, 3)))
    assert found.drifted.index.tolist() == ["feature_1"]
    assert len(DriftDetector(rng.normal(size=50)).detect(rng.normal(size=30))) == 1


def test_absent_columns_are_skipped_and_named(frame):
    """Those of either side are in `skipped`, the others are compared."""
    found = DriftDetector(frame.drop(columns="town")).detect(frame.drop(columns="age"))
    assert found.skipped["age"] == "is not in the new data" and found.skipped["town"] == "is not in the reference"
    assert found.table.index.tolist() == ["children", "member"]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (pd.DataFrame({"age": []}), "the new data have no rows"),
        (pd.DataFrame({"height": [1.0]}), "no column of the new data is in the reference"),
        (pd.DataFrame({"age": ["old"]}), "column 'age' is text, such as 'old', but the reference has numbers"),
        (pd.DataFrame({"town": [3]}), "column 'town' has numbers, but the reference has text"),
        (pd.DataFrame({"age": [1, "x"]}), "column 'age' mixes types"),
        (pd.DataFrame({"age": [np.inf]}), "column 'age' is infinite in row 1"),
        (pd.DataFrame([[1, 2]], columns=["age", "age"]), "more than one column named 'age'"),
        (np.zeros((3, 2)), "the new data have 2 columns, the reference has 4"),
        (np.zeros((2, 2, 2)), r"the new data have the shape \(2, 2, 2\)"),
        ([[1, 2], [3]], "lists of different lengths"),
        (None, r"the new data have the shape \(\)"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(frame, new, words):
    """The error says which column is wrong, and how."""
    with pytest.raises(DataError, match=words):
        DriftDetector(frame).detect(new)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_no_error(frame, rows):
    """A p-value exists for one row, and is large; a column of objects is read by its content."""
    detector = DriftDetector(frame[:rows])
    assert detector.detect(frame[:rows]).drifted.empty
    assert detector.detect(frame[100:101].astype(object)).drifted.empty


def test_a_threshold_is_a_p_value(frame):
    """Zero, one and more are refused."""
    with pytest.raises(DataError, match="between 0 and 1"):
        DriftDetector(frame, threshold=5)


def test_days_have_a_budget_of_false_alarms():
    """In two months with nothing wrong, a p-value each day cries wolf more than five times; `alarms` stays silent."""
    rng = np.random.default_rng(5)
    detector = DriftDetector(rng.normal(size=(1000, 4)))
    wolf = 0
    for day in range(60):
        rows = rng.normal(size=(150, 4))
        detector.update(pd.Timestamp("2026-01-01") + pd.Timedelta(days=day), rows)
        wolf += (detector.detect(rows).table["p_value"] < 0.05).sum()
    assert wolf > 5 and detector.alarms() == []


def test_a_shift_is_an_alarm_that_names_the_day(frame):
    """Since when, when it was sure, and by how much; days in between on which nobody asked are no gap in time."""
    detector, rng = DriftDetector(frame), np.random.default_rng(6)
    for number in [*range(40), *range(43, 50)]:
        rows = frame.iloc[rng.integers(0, 2000, 300)].assign(age=lambda rows, late=number >= 43: rows["age"] + 8 * late)
        detector.update(pd.Timestamp("2026-01-01") + pd.Timedelta(days=number), rows)
    (alarm,) = detector.alarms()
    assert (alarm.feature, alarm.check, alarm.closed) == ("age", "distribution", None)
    assert "2026-02-10" <= alarm.since <= alarm.day <= "2026-02-15"  # days without rows are judged with the next
    assert alarm.now > alarm.before
    assert len(detector.evidence()) == 50 and detector.evidence()["age"].iloc[-1] >= 1


def test_a_day_told_again_replaces_what_was_told(frame):
    """So that a cell of a notebook may run twice."""
    detector = DriftDetector(frame)
    for _ in range(2):
        detector.update("2026-01-31", frame[:100])
    assert sum(detector._days["2026-01-31"]["age"].counts) == 100
    with pytest.raises(DataError, match="is no day"):
        detector.update("yesterday evening", frame)


# --- the monitor ---


def test_a_bundle_is_watched(folder, made):
    """Its percentiles stand for the training data, its hold-out for the predictions of then."""
    dataset, y_pred = made
    monitor, name = ModelMonitor(folder), dataset.features.columns[0]
    moved = dataset.features.assign(**{name: dataset.features[name] * 1.3})
    assert monitor.check_data_drift(moved).drifted.index.tolist() == [name]
    assert monitor.check_prediction_drift(y_pred).drifted.empty
    assert not monitor.check_prediction_drift(y_pred[:, 1] / 2).drifted.empty
    assert [(one["type"], one["feature"]) for one in monitor.get_alerts()] == [("data_drift", name), ("prediction_drift", "prediction")]  # fmt: skip
    assert monitor.alerts.columns.tolist() == ["type", "feature", "p_value", "time", "words"]


def test_predictions_of_then_and_now_are_compared(frame):
    """Values, labels, and probabilities by class."""
    monitor, rng = ModelMonitor(frame), np.random.default_rng(7)
    assert not monitor.check_prediction_drift(rng.normal(size=300), rng.normal(1, 1, 300)).drifted.empty
    assert not monitor.check_prediction_drift(["a"] * 50 + ["b"] * 50, ["a"] * 90 + ["b"] * 10).drifted.empty
    shares = rng.dirichlet([1, 1, 1], 200)
    assert monitor.check_prediction_drift(shares, shares).table.index.tolist() == ["class_0", "class_1", "class_2"]
    with pytest.raises(DataError, match="give those of then"):
        monitor.check_prediction_drift([1.0, 2.0])


def test_performance_is_that_of_the_metrics_of_scikit_learn(frame):
    """Accuracy, and precision and recall weighted by class, from 100 outcomes on."""
    from sklearn import metrics

    rng = np.random.default_rng(8)
    actual = rng.choice(["a", "b", "c"], 300)
    answered = np.where(rng.random(300) < 0.7, actual, "a")
    monitor = ModelMonitor(frame)
    monitor.add_actual(actual[:99], answered[:99])
    assert not monitor.performance().metrics and "from 100 on" in repr(monitor.performance())
    monitor.add_actual(actual[99:], answered[99:])
    found = monitor.performance()
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(actual, answered))
    weighted = {"average": "weighted", "zero_division": 0}
    assert found["precision_weighted"] == pytest.approx(metrics.precision_score(actual, answered, **weighted))
    assert found["recall_weighted"] == pytest.approx(metrics.recall_score(actual, answered, **weighted))
    assert found["f1_weighted"] == pytest.approx(metrics.f1_score(actual, answered, **weighted))
    assert "log_loss" not in found.table.index


def test_performance_of_values(frame):
    """Numbers with a fraction are a regression's: mean absolute error, root mean squared error, R²."""
    rng = np.random.default_rng(9)
    actual = rng.normal(size=400)
    answered = actual + rng.normal(0, 0.5, 400)
    monitor = ModelMonitor(frame)
    monitor.add_actual(actual, answered)
    found = monitor.performance()
    assert found["mae"] == pytest.approx(np.abs(actual - answered).mean())
    assert found["r2"] == pytest.approx(1 - ((actual - answered) ** 2).mean() / actual.var())


def test_a_broken_limit_is_an_alert(folder, made):
    """accuracy < 0.8 after 100 outcomes is the usual wish; a limit on what is not measured is refused."""
    dataset, y_pred = made
    monitor = ModelMonitor(folder)
    monitor.add_actual(dataset.target[dataset.holdout], 1 - y_pred)
    monitor.performance({"accuracy": 0.8})
    (alert,) = monitor.get_alerts()
    assert alert["type"] == "performance" and alert["p_value"] is None and "beyond its limit 0.8" in alert["words"]
    with pytest.raises(DataError, match="there is no metric 'rmse'"):
        monitor.performance({"rmse": 1})


def test_outcomes_find_their_predictions_by_key_or_in_order(frame):
    """A key names one prediction, once; without keys the one that waited longest."""
    monitor = ModelMonitor(frame)
    monitor.add_prediction(["a", "b"], key=["x", "y"])
    monitor.add_prediction("c")
    monitor.add_actual("b", key="y")
    monitor.add_actual(["a", "a"])
    assert monitor._predicted == ["b", "a", "c"]
    with pytest.raises(DataError, match="no prediction waits of the key 'y'"):
        monitor.add_actual("b", key="y")
    monitor.add_prediction("a", key="x")
    with pytest.raises(DataError, match="'x' is there already"):
        monitor.add_prediction("a", key="x")


@pytest.mark.parametrize(
    ("actual", "prediction", "words"),
    [
        ("harmless", "benign", "the outcome 'harmless' is no class; the classes are 'benign', 'malignant'"),
        (None, "benign", "outcome 1 is None"),
        (["benign", "benign"], "benign", "2 outcomes were given for 1 predictions"),
        ("benign", 1.5, "the prediction 1.5 is no class"),
        ("benign", [[0.5, 0.9]], "add up to 1"),
        ("benign", [[0.2, 0.3, 0.5]], "3 classes were given, but the bundle has 2 classes"),
        ("benign", [[1], [2, 3]], "rows of different lengths"),
        ([], [], "outcomes have the shape"),
    ],
)
def test_wrong_outcomes_are_refused(folder, actual, prediction, words):
    """Nothing is added then."""
    monitor = ModelMonitor(folder)
    with pytest.raises(DataError, match=words):
        monitor.add_actual(actual, prediction)
    assert not monitor.performance().rows


def test_concept_drift_is_the_t_test_of_the_monitor(folder, made, frame):
    """Of losses against the hold-out's; of one's own numbers; None below 100 on either side."""
    dataset, y_pred = made
    monitor = ModelMonitor(folder)
    assert monitor.detect_concept_drift() is None
    monitor.add_actual(dataset.target[dataset.holdout], y_pred)
    calm = monitor.detect_concept_drift()
    assert calm.rows == len(y_pred) and calm.p_value == pytest.approx(1) and not calm.drifted
    monitor.add_actual(dataset.target[dataset.holdout], 1 - y_pred)
    assert monitor.detect_concept_drift().drifted and monitor.get_alerts()[-1]["type"] == "concept_drift"

    rng = np.random.default_rng(10)
    before, now = rng.normal(size=3000), rng.normal(0.2, 1, 1500)
    found = ModelMonitor(frame).detect_concept_drift(before, now)
    exact = stats.ttest_ind(now[-performance.LAST :], before, equal_var=False)
    assert (found.t, found.p_value) == pytest.approx((exact.statistic, exact.pvalue), rel=1e-2)
    assert ModelMonitor(frame).detect_concept_drift(before, now[:99]) is None


def test_labels_alone_are_compared_with_the_accuracy_of_the_holdout(folder, made):
    """Without probabilities there is no log loss; wrong and right against the hold-out's share."""
    dataset, y_pred = made
    monitor = ModelMonitor(folder)
    labels = np.array(dataset.classes)[y_pred.argmax(axis=1)]
    monitor.add_actual(dataset.target[dataset.holdout], labels)
    found = monitor.detect_concept_drift()
    assert found.mean_now == pytest.approx(found.mean_before) and not found.drifted


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    """The error names the file that is not there, or not as it should be."""
    with pytest.raises(DataError, match=r"has no contract\.json: name a bundle's folder"):
        ModelMonitor(tmp_path)
    for name in ("contract.json", "reference.json"):
        write_json(tmp_path / name, {"schema": 1})
    with pytest.raises(DataError, match="is no bundle that can be watched"):
        ModelMonitor(tmp_path)


def test_thousands_of_texts_do_not_drift_by_their_selection():
    """The most frequent of many names are so by chance: in other rows of the same they are rarer, which is no drift."""
    rng = np.random.default_rng(4)
    before, now = (pd.DataFrame({"name": [f"n{one}" for one in rng.integers(0, 2000, 10_000)]}) for _ in range(2))
    assert not DriftDetector(before).detect(now)["name"].drifted
    assert DriftDetector(before).detect(now.assign(name=[f"n{one // 40}" for one in range(10_000)]))["name"].drifted


def test_truth_values_and_their_numbers_are_the_same_classes(frame):
    """Outcomes that are true and false belong to predictions of 1 and 0."""
    monitor, outcome = ModelMonitor(frame), np.arange(200) % 4 > 0
    monitor.add_actual(outcome, np.ones(200, dtype=int))
    assert monitor.performance()["accuracy"] == 0.75


def test_an_outcome_that_no_probability_is_of_is_refused(frame):
    """A class that the columns of the probabilities lack has no loss that means anything."""
    monitor, told = ModelMonitor(frame), pd.DataFrame({"a": np.full(3, 0.4), "b": np.full(3, 0.6)})
    with pytest.raises(DataError, match="the outcome 'c' is no class"):
        monitor.add_actual(["a", "b", "c"], told)


def test_losses_that_do_not_vary_can_be_compared(frame):
    """Always right before and always wrong now is a change; the same number on both sides is none."""
    monitor = ModelMonitor(frame)
    assert monitor.detect_concept_drift(np.zeros(500), np.ones(500)).drifted
    assert not monitor.detect_concept_drift(np.zeros(500), np.zeros(500)).drifted
