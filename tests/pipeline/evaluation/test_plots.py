"""The figures show the numbers they claim to show, for every task, and are the same bytes every time."""

import struct
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from evaluations import SOURCES, evaluation, held

from pipeline.evaluation import figures, metrics, plots, record
from pipeline.evaluation.importance.shapley import Contributions

CLASSIFICATION = {"confusion_matrix", "roc", "precision_recall", "calibration", "feature_importance"}
REGRESSION = {"predicted_against_actual", "residuals", "feature_importance"}


def drawings(task, production=True):
    data = held(task)
    return plots.figures_for(
        task, data.classes, data.positive, data.y, data.good, data.bad if production else None, data.importance
    )


def comparison(one):
    """The figure of candidate and production, of plain data."""
    return plots.comparison(record.of_plain(one))


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


# --- every task -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("production", [False, True])
@pytest.mark.parametrize("task", list(SOURCES))
def test_every_task_has_its_figures(task, production):
    """Each task gets its own set of figures, all of them PNG, with production or without."""
    found = drawings(task, production)
    assert set(found) == (REGRESSION if task == "regression" else CLASSIFICATION)
    for figure in found.values():
        assert figures.to_png(figure).startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("task", list(SOURCES))
def test_axes_are_labelled_and_titles_are_words(task):
    """Every axis says what it measures, and every figure has a title without underscores."""
    for figure in drawings(task).values():
        title = figure.get_suptitle()
        assert title and "_" not in title
        for place, axes in enumerate(figure.axes):
            assert axes.get_xlabel() or axes.get_shared_x_axes().get_siblings(axes) != [axes]
            assert axes.get_ylabel() or place > 0 or title.startswith("Feature importance")


def test_candidate_and_production_look_the_same_in_every_figure():
    """A model keeps its colour and dash from figure to figure, and the two differ in both."""
    found = drawings("binary")
    for name in ("roc", "precision_recall", "calibration"):
        lines = {line.get_label().split(":")[0]: line for line in found[name].axes[0].lines}
        assert lines["candidate"].get_color() == plots.CANDIDATE
        assert lines["production"].get_color() == plots.PRODUCTION
        assert lines["candidate"].get_linestyle() != lines["production"].get_linestyle()
    left, right = drawings("regression")["residuals"].axes
    candidate, production = (axes.collections[0].get_facecolor()[0][:3] for axes in (left, right))
    assert matplotlib.colors.to_hex(candidate) == plots.CANDIDATE.lower()
    assert matplotlib.colors.to_hex(production) == plots.PRODUCTION.lower()


# --- bytes ----------------------------------------------------------------------------------------------------------


def test_same_data_gives_the_same_bytes_whatever_the_machine_is_set_to():
    """Two drawings of the same data are equal byte for byte, though a matplotlibrc changes fonts and lines."""
    data = held("binary")
    first = figures.to_png(plots.roc(data.y, data.good, data.classes, 0, data.bad))
    with matplotlib.rc_context({"lines.linewidth": 7, "font.size": 20, "axes.facecolor": "yellow", "savefig.dpi": 30}):
        second = figures.to_png(plots.roc(data.y, data.good, data.classes, 0, data.bad))
    assert first == second


def test_a_figure_can_be_saved_twice():
    """Saving does not move anything: the second PNG of one figure equals the first."""
    for figure in (drawings("binary")["roc"], comparison(evaluation("multiclass"))):
        assert figures.to_png(figure) == figures.to_png(figure)


def test_png_carries_neither_date_nor_software():
    """The only chunks of the PNG are those of the picture itself."""
    png = figures.to_png(plots.feature_importance({"a": 0.5, "b": 0.1}))
    kinds, at = [], 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        kinds.append(kind)
        at += length + 12
    assert set(kinds) <= {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def test_save_replaces_whole_files_only(tmp_path):
    """A figure that cannot be drawn leaves the older file as it was, and nothing beside it."""
    path = tmp_path / "plots" / "importance.png"
    figures.save_png(plots.feature_importance({"a": 0.5}), path)
    before = path.read_bytes()
    assert before == figures.to_png(plots.feature_importance({"a": 0.5}))

    class Broken:
        def draw_without_rendering(self):
            raise ValueError("cannot be drawn")

    with pytest.raises(ValueError, match="cannot be drawn"):
        figures.save_png(Broken(), path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["importance.png"]


# --- classification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_confusion_matrix_counts_rows(task):
    """The number in each cell is the count of rows by actual (down) and predicted (across) class, of each model."""
    data = held(task)
    figure = plots.confusion_matrix(data.y, data.good, data.classes, data.bad)
    for axes, prediction in zip(figure.axes, (data.good, data.bad), strict=True):
        drawn = [int(text.split("\n")[0].replace(",", "")) for text in texts(axes)]
        expected = sklearn.metrics.confusion_matrix(data.y, prediction.argmax(axis=1))
        assert drawn == expected.ravel().tolist()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == data.classes


def test_confusion_matrix_of_many_classes_stays_readable():
    """Above 25 classes only the shade is left, and every second class or so is named."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 60, 500)
    figure = plots.confusion_matrix(y, np.eye(60)[y], [f"class {n}" for n in range(60)])
    assert not texts(figure.axes[0])
    assert len(figure.axes[0].get_yticklabels()) == 20
    assert figure.get_size_inches().max() < 10


@pytest.mark.parametrize(
    ("draw", "name", "metric"),
    [(plots.roc, "area", "roc_auc"), (plots.precision_recall, "average precision", "pr_auc")],
)
def test_legend_states_the_area_that_the_metrics_report(draw, name, metric):
    """The area beside each model's line is the figure of the metrics table."""
    data = held("binary")
    known = metrics.metrics_for("binary", data.positive)[metric]
    expected = [
        f"{model}: {name} {known.value(data.y, prediction):.3f}"
        for model, prediction in (("candidate", data.good), ("production", data.bad))
    ]
    assert legend(draw(data.y, data.good, data.classes, data.positive, data.bad).axes[0]) == expected


def test_curves_of_many_classes_have_a_line_for_each_in_both_panels():
    """Multi-class: one line per class against the rest, in the same colours for candidate and production."""
    data = held("multiclass")
    left, right = plots.roc(data.y, data.good, data.classes, None, data.bad).axes
    areas = [sklearn.metrics.roc_auc_score(data.y == place, data.good[:, place]) for place in range(3)]
    assert legend(left) == [f"{name}: area {area:.3f}" for name, area in zip(data.classes, areas, strict=True)]
    assert [line.get_color() for line in left.lines] == [line.get_color() for line in right.lines]
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("candidate", "production")


def test_only_the_most_frequent_of_very_many_classes_are_drawn():
    """Above eight classes the eight most frequent are drawn, and the title says so."""
    y = np.repeat(np.arange(12), np.arange(1, 13))
    figure = plots.precision_recall(y, np.eye(12)[y], [f"c{n}" for n in range(12)])
    assert [label.split(":")[0] for label in legend(figure.axes[0])] == [f"c{n}" for n in range(4, 12)]
    assert "the 8 most frequent of 12" in figure.get_suptitle()


def test_a_class_that_the_holdout_lacks_is_named_not_drawn():
    """With rows of one class only there is no curve, and the legend says why."""
    y, prediction = np.zeros(30, dtype=int), np.tile([0.7, 0.3], (30, 1))
    for name, figure in plots.figures_for("binary", ["no", "yes"], 1, y, prediction).items():
        figures.to_png(figure)
        if name in ("roc", "precision_recall"):
            assert legend(figure.axes[0]) == ["candidate: not defined, one class only"]


def test_calibration_is_the_share_of_rows_by_what_was_said():
    """Of ten rows given 80 % of which six came true, the point stands at 80 % across and 60 % up, over ten rows."""
    y = np.array([1] * 6 + [0] * 4 + [0] * 5)
    said = np.array([0.8] * 10 + [0.1] * 5)
    above, below = plots.calibration(y, np.column_stack([1 - said, said]), ["no", "yes"], 1).axes
    line = next(line for line in above.lines if line.get_label() == "candidate")
    assert np.allclose(line.get_xydata(), [[0.1, 0.0], [0.8, 0.6]])
    assert sorted(below.patches[0].get_data().values[[1, 8]]) == [5, 10]


def test_calibration_of_many_classes_is_that_of_the_predicted_class():
    """Multi-class: across is the probability of the answer given, up is the share of right answers."""
    y = np.array([0, 1, 2, 2])
    prediction = np.array([[0.6, 0.2, 0.2], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6], [0.1, 0.0, 0.9]])
    above, _ = plots.calibration(y, prediction, ["a", "b", "c"]).axes
    line = next(line for line in above.lines if line.get_label() == "candidate")
    assert np.allclose(line.get_xydata(), [[0.6, 2 / 3], [0.9, 1.0]])


# --- regression -----------------------------------------------------------------------------------------------------


def test_regression_points_are_the_rows():
    """Residuals are actual minus predicted over predicted; the other figure has predicted over actual."""
    data = held("regression")
    residuals = plots.residuals(data.y, data.good, data.bad)
    for axes, prediction in zip(residuals.axes, (data.good, data.bad), strict=True):
        assert np.allclose(axes.collections[0].get_offsets(), np.column_stack([prediction, data.y - prediction]))
    against = plots.predicted_against_actual(data.y, data.good).axes[0]
    assert np.allclose(against.collections[0].get_offsets(), np.column_stack([data.y, data.good]))
    assert against.get_xlim() == against.get_ylim()


def test_a_skewed_positive_target_has_logarithmic_axes():
    """Prices lie evenly then; a prediction at or below 0 is drawn at the edge and said; other targets keep plain axes."""
    rng = np.random.default_rng(1)
    y = np.exp(rng.normal(10, 1, 200))
    prediction = y * np.exp(rng.normal(0, 0.2, 200))
    prediction[:3] = -5
    drawn = plots.figures_for("regression", [], None, y, prediction, production=y * 1.1)
    for figure in drawn.values():
        assert [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes] == [("log", "log")] * 2
        assert "3 below the axis" in figure.axes[0].get_title("left")
        assert "below" not in figure.axes[1].get_title("left")
        assert figures.to_png(figure)
    for plain in (rng.normal(100, 5, 200), y - y.min(), np.full(200, 4.0), rng.uniform(1, 2, 200)):
        assert not plots.skewed(plain)
    assert drawings("regression")["residuals"].axes[0].get_yscale() == "linear"


def test_very_many_rows_are_thinned_and_the_title_says_so():
    """Of 100,000 rows 4,000 are drawn, the first and the last among them."""
    y = np.linspace(0, 1, 100_000)
    axes = plots.residuals(y, y**2).axes[0]
    points = axes.collections[0].get_offsets()
    assert len(points) == 4000
    assert (points[0][0], points[-1][0]) == (0.0, 1.0)
    assert axes.get_title(loc="left") == "candidate, 4,000 of 100,000 rows"


def test_a_constant_target_and_prediction_can_be_drawn():
    """A model that always says zero, and is right, has figures with a range of their own."""
    for figure in plots.figures_for("regression", [], None, np.zeros(5), np.zeros(5)).values():
        low, high = figure.axes[0].get_xlim()
        assert low < 0 < high
        figures.to_png(figure)


# --- any task -------------------------------------------------------------------------------------------------------


def test_importance_shows_the_twenty_largest_by_name():
    """Twenty bars, largest first, each with its name and value; harmful columns are grey."""
    importance = {f"column_{n}": (n - 3) / 100 for n in range(23)}
    figure = plots.feature_importance(importance, "log loss")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"column_{n}" for n in range(22, 2, -1)]
    assert texts(axes)[0] == "0.190"
    assert [bar.get_width() for bar in axes.patches][:2] == [0.19, 0.18]
    assert axes.get_xlabel() == "loss of log loss\nwhen the column is shuffled"
    assert "20 of 23 columns" in figure.get_suptitle()
    (harmful,) = plots.feature_importance({"bad": -0.25}).axes
    assert texts(harmful) == ["−0.250"]
    assert matplotlib.colors.to_hex(harmful.patches[0].get_facecolor()) == plots.QUIET.lower()


def test_rows_without_a_finite_answer_are_left_out():
    """A model that answers NaN still gets figures of the other rows, and none at all when there are no others."""
    data = held("binary")
    broken = data.good.copy()
    broken[:10] = np.nan
    figure = plots.figures_for("binary", data.classes, 0, data.y, data.good, broken)["confusion_matrix"]
    assert figure.axes[0].get_title(loc="left") == f"candidate, {len(data.y) - 10:,} rows"
    assert plots.figures_for("regression", [], None, np.ones(3), np.full(3, np.nan)) == {}


@pytest.mark.parametrize("name", ["$x^2$", "$\\frac{$", "a\nb\tc", "", "\u202eevil", "列" * 3, "w" * 300, "<b>&_^{}"])
def test_any_name_can_be_drawn(name):
    """Formula signs, line ends, foreign letters and endless names neither fail nor warn nor swallow the figure."""
    y = np.array([0, 1] * 20)
    prediction = np.tile([0.6, 0.4], (40, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in plots.figures_for("binary", [name, "other"], 0, y, prediction, None, {name: 1.0}).values():
            assert len(figures.to_png(figure)) > 1000
    (axes,) = plots.feature_importance({name: 1.0}).axes
    shown = axes.get_yticklabels()[0].get_text()
    assert shown.strip() and "\n" not in shown and len(shown) <= 40


def explained(outputs, values=None):
    """Contributions of three columns, a number, a text and one that never varies, to 20 rows."""
    rows = pd.DataFrame({"$age$": np.arange(20.0), "colour": ["red", "blue"] * 10, "still": 1.0})
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 3, max(1, len(outputs)))) * [[[1], [3], [0]]] if values is None else values
    return Contributions(values, rows, outputs, 16)


def test_shapley_values_are_a_point_for_each_row_the_largest_column_first():
    """Beside a column's name stands the mean size; numbers are coloured by their value, texts are grey."""
    found = explained(["yes"])
    axes, _bar = plots.contributions(found).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label.split()[0] for label in labels] == ["colour", r"\$age\$", "still"]
    assert labels[0] == f"colour  {found.mean()[1, 0]:.2f}"
    texts_grey, numbers = axes.collections[0], axes.collections[1]
    np.testing.assert_allclose(texts_grey.get_offsets()[:, 0], found.values[:, 1, 0])
    assert numbers.get_array()[-1] == 1 and axes.get_xlabel() == "added to the probability of class yes"


def test_shapley_values_of_several_classes_are_bars_that_add_up():
    """A part of the bar for each class; beyond seven, the rest together."""
    found = explained([f"class {number}" for number in range(12)])
    (axes,) = plots.contributions(found).axes
    whole = sum(bar.get_width() for bar in axes.patches if bar.get_y() < 0.5)
    assert whole == pytest.approx(found.mean()[1].sum())
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "other classes"


@pytest.mark.parametrize("outputs", [[], ["yes"], ["a", "b", "c"]])
def test_shapley_values_of_nothing_can_be_drawn(outputs):
    """A model that uses no column adds nothing; the same values give the same bytes."""
    still = explained(outputs, np.zeros((20, 3, max(1, len(outputs)))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figures.to_png(plots.contributions(still)) == figures.to_png(plots.contributions(still))


# --- candidate against production -----------------------------------------------------------------------------------


def markers(axes):
    """The estimate of each row of a forest plot, by its label."""
    points = [line for line in axes.lines if line.get_marker() in ("^", "v", "o")]
    return {
        label.get_text(): (point.get_xdata()[0], point.get_marker())
        for label, point in zip(axes.get_yticklabels(), points, strict=True)
    }


@pytest.mark.parametrize("task", list(SOURCES))
def test_right_is_better_for_losses_and_scores_alike(task):
    """A better candidate's markers stand right of the line in every row, a worse one's left, with other markers."""
    better = comparison(evaluation(task, "good", "bad")).axes
    worse = comparison(evaluation(task, "bad", "good")).axes
    for ahead, behind in zip(better, worse, strict=True):
        for label, (gain, marker) in markers(ahead).items():
            assert gain >= 0
            assert marker in "^o"
            assert markers(behind)[label][0] == pytest.approx(-gain, abs=0.05)
            assert markers(behind)[label][1] in "vo"
    decides = {"binary": "log loss", "multiclass": "log loss", "regression": "RMSE"}[task]
    assert markers(better[0])[decides][1] == "^"
    assert [label.get_text() for label in better[0].get_yticklabels() if label.get_fontweight() == "bold"] == [decides]


def test_forest_draws_interval_and_numbers_of_each_slice():
    """A slice's line runs from one bound to the other, turned so that right is better, and the text says the same."""
    changed = evaluation("binary")
    changed["slices"] = [
        {"slice": "x: low", "rows": 40, "judged": True, "worse": False, "candidate": 0.1, "production": 0.3,
         "difference": -0.2, "lower": -0.3, "upper": -0.1},
        {"slice": "x: high", "rows": 9, "judged": False, "worse": False, "candidate": 0.3, "production": 0.3,
         "difference": 0.1, "lower": None, "upper": None},
    ]  # fmt: skip
    axes = comparison(changed).axes[1]
    interval = next(line for line in axes.lines if len(line.get_xdata()) == 2 and list(line.get_ydata()) == [0, 0])
    assert list(interval.get_xdata()) == [0.1, 0.3]
    assert texts(axes) == ["+0.200   (+0.100 to +0.300)", "−0.100"]
    filled = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() in "^ov"]
    assert filled == [plots.CANDIDATE, "white"]


def test_forest_keeps_the_least_favourable_of_very_many_slices():
    """Of 60 slices the 24 with the least gain are drawn, in the order of the evaluation, and the title says so."""
    changed = evaluation("regression")
    one = {
        "rows": 40,
        "judged": True,
        "worse": False,
        "candidate": 1.0,
        "production": 2.0,
        "lower": -70.0,
        "upper": 70.0,
    }
    changed["slices"] = [one | {"slice": f"s{n}", "difference": float(n)} for n in range(60)]
    axes = comparison(changed).axes[1]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"s{n}, 40 rows" for n in range(36, 60)]
    assert "the 24 least favourable of 60" in axes.get_title(loc="left")


def test_forest_of_nothing_defined_is_empty_not_an_error():
    """Where no metric could be compared, a figure without rows comes out."""
    changed = evaluation("binary")
    changed["metrics"] = [row | {"difference": None, "lower": None, "upper": None} for row in changed["metrics"]]
    changed["slices"] = []
    figure = comparison(changed)
    assert markers(figure.axes[0]) == {}
    assert figures.to_png(figure)
