"""Figures of a model on the hold-out, alone or beside production; every function returns a matplotlib Figure.

Shapes as in pipeline/evaluation/metrics.py: y_true (n,) class positions or values, predictions (n, k) probabilities or (n,)
values. pipeline/evaluation/figures.py makes a PNG of a figure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sklearn.metrics
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.calibration import CalibrationDisplay, calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, PrecisionRecallDisplay, RocCurveDisplay

from pipeline.evaluation.figures import BLUE, DPI, QUIET, VERMILION, layout, panels_of, plain, styled
from pipeline.evaluation.importance.shapley import Contributions
from pipeline.evaluation.record import Compared, Evaluation, MetricRow
from pipeline.evaluation.wording import change, gain, in_words, number, places, signed
from serving.model.decision import Threshold, decide

CANDIDATE, PRODUCTION = BLUE, VERMILION
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CLASS_DASHES = ("-", "--", ":", "-.")
MOST_CLASSES = 8  # lines in one panel that an eye can still follow
MOST_COLUMNS = 15  # whose Shapley values are shown
LOW_HIGH = LinearSegmentedColormap.from_list("low to high", ["#56B4E9", "#7C5BA6", "#D55E00"])
MOST_SLICES = 24  # rows of a forest plot that fit a screen
MOST_POINTS = 4000  # beyond this a scatter is a blot, and a curve gains nothing


def figures_for(
    task: str,
    classes: Sequence[str],
    positive: int | None,
    y_true: np.ndarray,
    candidate: np.ndarray,
    production: np.ndarray | None = None,
    importance: Mapping[str, float] | None = None,
    weights: np.ndarray | None = None,
    thresholds: tuple[Threshold | None, Threshold | None] = (None, None),
) -> dict[str, Figure]:
    """Every figure of the task by name; rows on which a model's answer is not finite are left out.

    `positive` is the position of the positive class (binary only), `classes` is empty for a regression. `weights` (n,) is what
    each row counts in curves and counts; where every row is a point of its own, it stays one. `thresholds` decide the classes that the candidate and
    production predict.
    """
    finite = np.ones(len(y_true), dtype=bool)
    for y_pred in (candidate, production):
        if y_pred is not None:
            finite &= np.isfinite(y_pred.reshape(len(y_true), -1)).all(axis=1)
    y_true, candidate = y_true[finite], candidate[finite]
    production = None if production is None else production[finite]
    weights = None if weights is None else weights[finite]
    figures = {}
    if len(y_true) and task == "regression":
        figures["predicted_against_actual"] = predicted_against_actual(y_true, candidate, production)
        figures["residuals"] = residuals(y_true, candidate, production)
    elif len(y_true):
        figures["confusion_matrix"] = confusion_matrix(y_true, candidate, classes, production, weights, thresholds)
        figures["roc"] = roc(y_true, candidate, classes, positive, production, weights)
        figures["precision_recall"] = precision_recall(y_true, candidate, classes, positive, production, weights)
        figures["calibration"] = calibration(y_true, candidate, classes, positive, production, weights)
    if importance:
        figures["feature_importance"] = feature_importance(importance, "R²" if task == "regression" else "log loss")
    return figures


# --- classification -----------------------------------------------------------------------------------------


@styled
def confusion_matrix(
    y_true: np.ndarray,
    candidate: np.ndarray,
    classes: Sequence[str],
    production: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    thresholds: tuple[Threshold | None, Threshold | None] = (None, None),
) -> Figure:
    """Rows of the hold-out, or their weight, by actual and predicted class; a cell's shade is its share of the actual class."""
    k, models = len(classes), _models(candidate, production)
    side = min(max(3.4, 0.62 * k + 1.6), 9)
    figure, panels = panels_of("Confusion matrix", side * len(models) + 0.6, side + 0.4, len(models))
    names, few, step = [plain(each, 18) for each in classes], k <= 3, -(-k // 25)
    for axes, (name, y_pred), threshold in zip(panels, models.items(), thresholds[: len(models)], strict=True):
        labels = decide(y_pred, threshold)
        counts = sklearn.metrics.confusion_matrix(y_true, labels, labels=range(k), sample_weight=weights)
        of_class = counts.sum(axis=1, keepdims=True)
        share = counts / np.where(of_class > 0, of_class, 1)
        size = 10 if k <= 8 else 9 if k <= 14 else 7
        drawn = ConfusionMatrixDisplay(share, display_labels=names).plot(
            ax=axes, include_values=k <= 25, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1},
            text_kw={"size": size},
        )  # fmt: skip
        for place, text in np.ndenumerate(drawn.text_ if k <= 25 else np.empty((0, 0))):
            percent = f"\n{share[place]:.0%}" if k <= 8 and counts[place] else ""
            text.set_text(f"{_count(counts[place])}{percent}")
        axes.set_xticks(range(0, k, step), names[::step], rotation=0 if few else 45, ha="center" if few else "right")
        axes.set_yticks(range(0, k, step), names[::step])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        weighted = "" if weights is None else ", by weight"
        axes.set(title=f"{name}, {len(y_true):,} rows{weighted}", xlabel="predicted class", ylabel="")
    panels[0].set_ylabel("actual class")
    return figure


def _count(value: float) -> str:
    """A number of rows, or the sum of their weights with about three digits."""
    return f"{value:,}" if float(value).is_integer() else number(float(value), places(float(value)))


@styled
def roc(
    y_true: np.ndarray,
    candidate: np.ndarray,
    classes: Sequence[str],
    positive: int | None = None,
    production: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Figure:
    """True against false positive rate: of the positive class, or of each class against the rest."""

    def curve(axes, hit, score):
        drawn = RocCurveDisplay.from_predictions(hit, score, sample_weight=weights, ax=axes)
        return drawn.line_, f"area {drawn.roc_auc:.3f}"

    figure, panels = _curves("ROC curve", curve, y_true, _models(candidate, production), classes, positive)
    for axes in panels:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)))
        axes.set(xlabel="false positive rate", ylabel="")
    panels[0].set_ylabel("true positive rate")
    return figure


@styled
def precision_recall(
    y_true: np.ndarray,
    candidate: np.ndarray,
    classes: Sequence[str],
    positive: int | None = None,
    production: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Figure:
    """Precision against recall: of the positive class, or of each class against the rest."""

    def curve(axes, hit, score):
        drawn = PrecisionRecallDisplay.from_predictions(
            hit, score, sample_weight=weights, ax=axes, drop_intermediate=True
        )
        return drawn.line_, f"average precision {drawn.average_precision:.3f}"

    figure, panels = _curves("Precision and recall", curve, y_true, _models(candidate, production), classes, positive)
    for axes in panels:
        axes.set(xlabel="recall (share of the class that is found)", ylabel="")
        axes.legend(loc="lower left")
    panels[0].set_ylabel("precision (share of the found that is right)")
    return figure


def _curves(
    title: str, curve: Callable, y_true: np.ndarray, models: Mapping[str, np.ndarray], classes: Sequence[str],
    positive: int | None,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Binary: a line per model in one panel. Else: a panel per model with a line per class."""
    if positive is not None:
        figure, panels = panels_of(f"{title} of class {plain(classes[positive])}", 5, 4.9, 1)
        for name, y_pred in models.items():
            _curve(panels[0], name, curve, y_true == positive, y_pred[:, positive], _line(name))
    else:
        frequent = np.argsort(-np.bincount(y_true, minlength=len(classes)), kind="stable")[:MOST_CLASSES]
        some = f", the {MOST_CLASSES} most frequent of {len(classes)}" if len(classes) > MOST_CLASSES else ""
        whole = f"{title}: each class against the rest{some}"
        figure, panels = panels_of(whole, 4.6 * len(models) + 0.4, 4.9, len(models))
        for axes, (name, y_pred) in zip(panels, models.items(), strict=True):
            for order, position in enumerate(sorted(frequent)):
                dashes = CLASS_DASHES[order % len(CLASS_DASHES)]
                line = {"color": CLASS_COLOURS[order % len(CLASS_COLOURS)], "linestyle": dashes}
                label = plain(classes[position], 20)
                _curve(axes, label, curve, y_true == position, y_pred[:, position], line)
            axes.set_title(name)
    for axes in panels:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.grid(True)
        axes.legend(loc="lower right")
    return figure, panels


def _curve(axes: Axes, label: str, curve: Callable, hit: np.ndarray, score: np.ndarray, style: dict) -> None:
    """A line that `curve` draws, in our style; where there is none, the legend says why."""
    if hit.all() or not hit.any():
        axes.plot([], [], label=f"{label}: not defined, one class only", **style)
        return
    line, area = curve(axes, hit, score)
    x, height = line.get_data()
    keep = _thinned(len(x))
    line.set(data=(x[keep], height[keep]), label=f"{label}: {area}", linewidth=1.8, **style)


def _calibrated(hit: np.ndarray, score: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Share of hits and mean score in each of ten bins of equal width that has rows; scikit-learn's curve takes no weights."""
    if weights is None:
        return calibration_curve(hit, score, n_bins=10)
    place = np.searchsorted(np.linspace(0, 1, 11)[1:-1], score)
    total, hits, scores = (np.bincount(place, weights * each, minlength=10) for each in (1, hit, score))
    there = total > 0
    return hits[there] / total[there], scores[there] / total[there]


@styled
def calibration(
    y_true: np.ndarray,
    candidate: np.ndarray,
    classes: Sequence[str],
    positive: int | None = None,
    production: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Figure:
    """How often it is so when the model says 80 %, and how often it says that.

    Binary: of the positive class. Else: of the class that is predicted.
    """
    subject = "the predicted class" if positive is None else f"class {plain(classes[positive])}"
    figure = Figure(figsize=(5, 5.4), dpi=DPI, layout=layout())
    figure.suptitle(f"Calibration of {subject}", x=0.02, ha="left")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)))
    for name, y_pred in _models(candidate, production).items():
        score = np.clip(y_pred.max(axis=1) if positive is None else y_pred[:, positive], 0, 1)
        hit = y_pred.argmax(axis=1) == y_true if positive is None else y_true == positive
        look = {"marker": "o" if name == "candidate" else "s", "markersize": 6, "linewidth": 1.5, **_line(name)}
        CalibrationDisplay(*_calibrated(hit, score, weights), score, estimator_name=name).plot(
            ax=above, ref_line=False, **look
        )
        below.stairs(*np.histogram(score, np.linspace(0, 1, 11), weights=weights), linewidth=1.8, **_line(name))
    above.set(xlabel="", ylabel="share of rows where it was so", ylim=(-0.03, 1.03))
    below.set(
        xlabel=f"probability given to {subject}", ylabel="rows" if weights is None else "weight", xlim=(-0.02, 1.02)
    )
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes in (above, below):
        axes.grid(True)
    below.xaxis.set_major_formatter(PercentFormatter(1))
    above.yaxis.set_major_formatter(PercentFormatter(1))
    above.legend(loc="best")
    return figure


# --- regression ---------------------------------------------------------------------------------------------


@styled
def predicted_against_actual(y_true: np.ndarray, candidate: np.ndarray, production: np.ndarray | None = None) -> Figure:
    """A point per row: what was predicted over what it was; on the line the two are equal."""
    logarithmic = skewed(y_true)
    models, edge = (
        _positive(_models(candidate, production), y_true) if logarithmic else (_models(candidate, production), {})
    )
    figure, panels = panels_of("Predicted against actual value", 4.6 * len(models) + 0.4, 4.9, len(models))
    everything = np.concatenate([y_true, *models.values()])
    low, high = everything.min(), everything.max()
    low, high = np.exp(_padded(np.log(low), np.log(high))) if logarithmic else _padded(low, high)
    for axes, (name, y_pred) in zip(panels, models.items(), strict=True):
        _scatter(axes, name, y_true, y_pred, logarithmic, edge.get(name, 0))
        axes.plot([low, high], [low, high], color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", xlabel="actual, in units of the target")
    panels[0].set_ylabel("predicted, in units of the target")
    return figure


@styled
def residuals(y_true: np.ndarray, candidate: np.ndarray, production: np.ndarray | None = None) -> Figure:
    """A point per row: the error over what was predicted; a pattern is what the model did not learn."""
    logarithmic = skewed(y_true)
    models, edge = (
        _positive(_models(candidate, production), y_true) if logarithmic else (_models(candidate, production), {})
    )
    title = "Residuals as ratios" if logarithmic else "Residuals"
    figure, panels = panels_of(title, 4.6 * len(models) + 0.4, 4.2, len(models), sharex=True, sharey=True)
    for axes, (name, y_pred) in zip(panels, models.items(), strict=True):
        _scatter(
            axes, name, y_pred, y_true / y_pred if logarithmic else y_true - y_pred, logarithmic, edge.get(name, 0)
        )
        axes.axhline(1 if logarithmic else 0, color=QUIET, linewidth=1, linestyle=(0, (1, 3)))
        axes.set_xlabel("predicted, in units of the target")
    panels[0].set_ylabel("actual ÷ predicted" if logarithmic else "actual − predicted, in units of the target")
    return figure


def skewed(y_true: np.ndarray) -> bool:
    """Whether values are all positive and lie more evenly on a logarithmic axis: prices, durations, counts of people."""
    if len(y_true) < 3 or y_true.min() <= 0 or y_true.min() == y_true.max():
        return False
    plain, logarithmic = _skewness(y_true), _skewness(np.log(y_true))
    return plain > 1.5 and abs(logarithmic) < plain / 2


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5)


def _positive(models: Mapping[str, np.ndarray], y_true: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Predictions as a logarithmic axis can show them, and how many of each model were moved to its lower edge."""
    edge = y_true.min() / 2
    return {name: np.maximum(answers, edge) for name, answers in models.items()}, {
        name: int((answers < edge).sum()) for name, answers in models.items()
    }


def _scatter(axes: Axes, name: str, x: np.ndarray, y: np.ndarray, logarithmic: bool, below: int) -> None:
    keep = _thinned(len(x))
    some = f"{len(keep):,} of {len(x):,} rows" if len(keep) < len(x) else f"{len(x):,} rows"
    opacity = 0.7 if len(keep) < 300 else 0.35
    marker = "o" if name == "candidate" else "s"
    axes.scatter(x[keep], y[keep], s=16, marker=marker, alpha=opacity, linewidths=0, color=_line(name)["color"])
    axes.set_title(f"{name}, {some}" + (f", {below} below the axis" if below else ""))
    axes.grid(True)
    if logarithmic:
        axes.set(xscale="log", yscale="log")
        return
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))


# --- any task -----------------------------------------------------------------------------------------------


@styled
def feature_importance(importance: Mapping[str, float], score: str = "score") -> Figure:
    """The 20 most important columns; `score` says in what the loss by shuffling a column is measured."""
    ranked = sorted(importance.items(), key=lambda item: -item[1])[:20]
    names, values = [plain(name, 34) for name, _ in ranked], np.array([value for _, value in ranked])
    some = f", {len(ranked)} of {len(importance)} columns" if len(ranked) < len(importance) else ""
    figure, (axes,) = panels_of(f"Feature importance{some}", 5.2, 0.27 * len(ranked) + 1.5, 1)
    colours = [CANDIDATE if value > 0 else QUIET for value in values]
    axes.barh(range(len(ranked)), values, color=colours, height=0.7)
    digits = places(*values)
    for place, value in enumerate(values):
        # Beside a bar that points left the number stands right of the line, clear of the name.
        axes.annotate(
            number(value, digits), (max(value, 0), place), (4, 0), textcoords="offset points", va="center", size=8
        )
    axes.set_yticks(range(len(ranked)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="#9CA3AF", linewidth=0.8)
    axes.margins(x=0.1, y=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"loss of {score}\nwhen the column is shuffled")
    return figure


@styled
def contributions(found: Contributions) -> Figure:
    """What the 15 columns that matter most add to answers: a point for each row, coloured by the column's value; or of several classes, bars."""
    names = list(found.rows.columns)
    mean = found.mean().sum(axis=1)
    order = np.argsort(-mean, kind="stable")[:MOST_COLUMNS]
    some = f", {len(order)} of {len(names)} columns" if len(order) < len(names) else ""
    several = len(found.outputs) > 1
    width, height = 6.0, 0.34 * len(order) + 1.7
    figure, (axes,) = panels_of(f"Shapley values{some}", width, height, 1)
    if several:
        _stacked(axes, found, order)
    else:
        _swarm(axes, found, order)
    axes.set_yticks(
        range(len(order)),
        [f"{plain(names[place], 30)}  {number(mean[place], places(mean[order[0]]))}" for place in order],
    )
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.axvline(0, color="#9CA3AF", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _swarm(axes: Axes, found: Contributions, order: np.ndarray) -> None:
    """A point for each row; where many rows have much the same contribution they stand above each other."""
    values = found.values[:, :, 0]
    reach = np.abs(values[:, order]).max() or 1.0
    shown = None
    for line, place in enumerate(order):
        column, height = values[:, place], np.zeros(len(values))
        bins = np.round(column / reach * 40)
        for each in np.unique(bins):
            alike = np.flatnonzero(bins == each)
            height[alike] = (np.arange(len(alike)) - (len(alike) - 1) / 2) * min(0.11, 0.7 / len(alike))
        given = found.rows.iloc[:, place]
        if pd.api.types.is_numeric_dtype(given):
            ranks = given.rank(pct=True).to_numpy()
            shown = axes.scatter(column, line + height, c=np.where(np.isnan(ranks), 0.5, ranks), cmap=LOW_HIGH, vmin=0, vmax=1, s=11, linewidths=0)  # fmt: skip
        else:
            axes.scatter(column, line + height, color=QUIET, s=11, linewidths=0)
    subject = f"the probability of class {plain(found.outputs[0])}" if found.outputs else "the predicted value"
    axes.set_xlabel(f"added to {subject}")
    axes.set_title("each point a row; beside the name, the mean size", loc="right", size=9, color="#4B5563")
    if shown:
        bar = axes.figure.colorbar(shown, ax=axes, ticks=[0, 1], fraction=0.03, pad=0.02, aspect=40)
        bar.ax.set_yticklabels(["low\nvalue", "high\nvalue"])
        bar.outline.set_visible(False)  # type: ignore[operator]


def _stacked(axes: Axes, found: Contributions, order: np.ndarray) -> None:
    """A bar for each column, in which the classes stand one after the other."""
    mean = found.mean()[order]
    frequent = np.argsort(-mean.sum(axis=0), kind="stable")[: MOST_CLASSES - 1]
    left = np.zeros(len(order))
    for colour, output in zip(CLASS_COLOURS, frequent, strict=False):
        axes.barh(
            range(len(order)),
            mean[:, output],
            left=left,
            color=colour,
            height=0.7,
            label=plain(found.outputs[output], 20),
        )
        left = left + mean[:, output]
    rest = mean.sum(axis=1) - left
    if len(frequent) < len(found.outputs):
        axes.barh(range(len(order)), rest, left=left, color=QUIET, height=0.7, label="other classes")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)
    axes.set_xlabel("mean size of what is added to each probability")


@dataclass(frozen=True)
class _Gain:
    """A row of a forest plot: what the candidate gains, and between which bounds."""

    label: str
    estimate: float
    lower: float | None
    upper: float | None
    tone: str
    filled: bool = True

    @staticmethod
    def of(row: Compared, label: str, higher_is_better: bool, filled: bool = True) -> "_Gain":
        """The row of an evaluation as a row of a forest plot."""
        return _Gain(label, *gain(row, higher_is_better), change(row, higher_is_better).tone, filled)

    def reach(self, margin: float) -> float:
        """How far from zero the row reaches."""
        return max(abs(each) for each in (self.estimate, self.lower, self.upper, margin) if each is not None) or 1.0


@styled
def comparison(evaluation: Evaluation) -> Figure:
    """What the candidate gains on production, with its interval: per metric, and per slice by the gate's.

    Right of the line is better, whichever way the metric counts. Metrics have units of their own, so each of
    their rows is scaled to its interval; slices share one axis. Needs an evaluation with a comparison.
    """
    defined = [row for row in evaluation.metrics if row.difference is not None]
    metrics = [_Gain.of(row, in_words(row.metric), row.higher_is_better) for row in defined]
    slices = [
        _Gain.of(row, f"{plain(row.slice, 38)}, {row.rows:,} rows", evaluation.higher_is_better, row.judged)
        for row in evaluation.slices
        if row.difference is not None
    ]
    shown = sorted(sorted(slices, key=lambda row: row.estimate)[:MOST_SLICES], key=slices.index)
    heights = [len(metrics) + 1.5] + ([len(shown) + 1.5] if shown else [])
    figure = Figure(figsize=(8.2, 0.34 * sum(heights) + 0.9), dpi=DPI, layout=layout())
    figure.suptitle("What the candidate gains on production", x=0.01, ha="left")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _metrics_panel(panels[0], evaluation, defined, metrics)
    if shown:
        _slices_panel(panels[1], evaluation, shown, len(slices))
    return figure


def _metrics_panel(axes: Axes, evaluation: Evaluation, defined: list[MetricRow], metrics: list[_Gain]) -> None:
    """Each metric on its own scale; the one that decides is bold and has the margin."""
    decides = [row.metric == evaluation.metric for row in defined]
    scales = [row.reach(evaluation.margin if decisive else 0) for row, decisive in zip(metrics, decides, strict=True)]
    _forest(axes, metrics, scales)
    if any(decides):
        position = decides.index(True)
        axes.get_yticklabels()[position].set_fontweight("bold")
        _margin(axes, evaluation.margin / scales[position], position - 0.4, position + 0.4)
    axes.set(xlim=(-1.12, 1.12), xticks=[], title="metrics, each on its own scale; dotted: the gate's margin")
    axes.set_xlabel("◂ worse      better ▸")


def _slices_panel(axes: Axes, evaluation: Evaluation, shown: list[_Gain], count: int) -> None:
    """Slices on one scale; `count` is how many there are, of which some may not be shown."""
    _forest(axes, shown, [1.0] * len(shown))
    some = f", the {len(shown)} least favourable of {count}" if len(shown) < count else ""
    _margin(axes, evaluation.margin, -0.6, len(shown) - 0.4)
    reach = 1.12 * max(row.reach(evaluation.margin) for row in shown)
    axes.set(xlim=(-reach, reach), title=f"slices{some}; dotted: the margin")
    axes.set_xlabel(f"◂ worse      gain in {in_words(evaluation.metric)}      better ▸")
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _forest(axes: Axes, rows: list[_Gain], scales: list[float]) -> None:
    """A marker and an interval per row, divided by the row's scale, with the numbers at the right."""
    markers = {"better": ("^", CANDIDATE), "worse": ("v", PRODUCTION)}
    for position, (row, scale) in enumerate(zip(rows, scales, strict=True)):
        marker, colour = markers.get(row.tone, ("o", QUIET))
        digits = places(row.estimate, row.lower, row.upper)
        text = signed(row.estimate, digits)
        if row.lower is not None and row.upper is not None:
            ends = [row.lower / scale, row.upper / scale]
            axes.plot(ends, [position] * 2, color=colour, linewidth=2, solid_capstyle="butt")
            text += f"   ({signed(row.lower, digits)} to {signed(row.upper, digits)})"
        fill = colour if row.filled else "white"
        axes.plot(row.estimate / scale, position, marker=marker, color=colour, markerfacecolor=fill, markersize=7)
        axes.text(1.02, position, text, transform=axes.get_yaxis_transform(), va="center", size=8.5, color="#374151")
    axes.axvline(0, color="#4B5563", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _margin(axes: Axes, margin: float, low: float, high: float) -> None:
    """Where a loss of the gate's margin is."""
    if margin:
        axes.plot([-margin] * 2, [low, high], color=QUIET, linewidth=1.2, linestyle=(0, (1.5, 1.5)))


# --- common -------------------------------------------------------------------------------------------------


def _models(candidate: np.ndarray, production: np.ndarray | None) -> dict[str, np.ndarray]:
    return {"candidate": candidate} if production is None else {"candidate": candidate, "production": production}


def _line(name: str) -> dict[str, str]:
    """Colour and dash of a model, the same in every figure."""
    return {"color": CANDIDATE, "linestyle": "-"} if name == "candidate" else {"color": PRODUCTION, "linestyle": "--"}


def _thinned(count: int) -> np.ndarray:
    """Positions of at most MOST_POINTS of so many points, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int))


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range with a little air; never empty."""
    air = 0.04 * (high - low) or max(abs(high), 1.0) * 0.04
    return low - air, high + air
