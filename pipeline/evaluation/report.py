"""The verdict of the gate and all it rests on, to read: Markdown for GitHub, and one HTML file that needs nothing else."""

from collections.abc import Mapping

from pipeline.evaluation import pages
from pipeline.evaluation.findings import alone, compared, headline, sections
from pipeline.evaluation.pages import Page
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.wording import change, in_words

PICTURES = {
    "comparison": "Gain of the candidate on production: each metric and slice with its interval.",
    "confusion_matrix": "Confusion matrix: rows of the hold-out by actual and predicted class.",
    "roc": "ROC curve: true positive rate against false positive rate.",
    "precision_recall": "Precision against recall.",
    "calibration": "Calibration: how often it was so against the probability that the model gave.",
    "predicted_against_actual": "Predicted against actual value, a point per row of the hold-out.",
    "residuals": "Residuals: actual minus (with logarithmic axes: divided by) predicted value, over the predicted value.",
    "threshold": "Threshold: what precision, recall and cost would be at each one, with the one that was chosen.",
    "search": "Search for parameters: score of each trial with the best so far, and score against each parameter.",
    "feature_importance": "Feature importance: loss of score when a column is shuffled, largest first.",
    "formats": "Formats: bytes, time to load, and time to answer of the model in every format, with logarithmic axes.",
    "shapley": "Shapley values: what each column adds to the answer for single rows of the hold-out, largest first.",
}


def markdown(evaluation: Evaluation, data: Mapping | None, plots: Mapping[str, str] | None = None) -> str:
    """The report for a pull request or a job's summary; `plots` maps a plot's name to its address."""
    return pages.markdown(_page(evaluation, data), plots)


def html(
    evaluation: Evaluation,
    data: Mapping | None,
    run: Mapping | None = None,
    plots: Mapping[str, bytes] | None = None,
) -> str:
    """The report as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    return pages.html(_page(evaluation, data, run), plots)


def _page(evaluation: Evaluation, data: Mapping | None, run: Mapping | None = None) -> Page:
    return Page(
        evaluation.name,
        evaluation.verdict,
        headline(evaluation),
        evaluation.reasons,
        sections(evaluation, data, run),
        PICTURES,
        _tiles(evaluation),
    )


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The three figures that one wants first: what they are, the figure, and a word on it."""
    row, metric = evaluation.decisive(), in_words(evaluation.metric)
    groups = None if evaluation.counting is None else evaluation.counting.groups
    tiles = [("hold-out", f"{evaluation.rows:,} rows", "" if groups is None else f"of {groups:,} groups")]
    if row and evaluation.comparison:
        candidate, production, difference, interval = compared(row)
        mark = change(row, row.higher_is_better)
        word = f"{mark.word}: {interval}" if interval != "–" else mark.word
        return [(f"{metric}, candidate", candidate, ""), (f"{metric}, production", production, ""),
                ("difference", difference, word), *tiles]  # fmt: skip
    if row:
        value, interval, baseline = alone(row)
        beside = [(f"{metric}, baseline", baseline, "")] if baseline != "–" else []
        return [(f"{metric}, candidate", value, "" if interval == "–" else interval), *beside, *tiles]
    return tiles
