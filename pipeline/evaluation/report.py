"""The verdict and all it rests on, to read: Markdown for GitHub, and one HTML file that needs nothing else.

Both are templates/report.* with the same sections in them. What a team named (columns, classes, slices) is text, never markup.
"""

import base64
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.evaluation import github_markdown
from pipeline.evaluation.findings import Link, Name, alone, compared, headline, sections
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.wording import Mark, change, clean, in_words

PICTURES = {
    "comparison": "Gain of the candidate on production: each metric and slice with its interval.",
    "confusion_matrix": "Confusion matrix: rows of the hold-out by actual and predicted class.",
    "roc": "ROC curve: true positive rate against false positive rate.",
    "precision_recall": "Precision against recall.",
    "calibration": "Calibration: how often it was so against the probability that the model gave.",
    "predicted_against_actual": "Predicted against actual value, a point per row of the hold-out.",
    "residuals": "Residuals: actual minus (with logarithmic axes: divided by) predicted value, over the predicted value.",
    "feature_importance": "Feature importance: loss of score when a column is shuffled, largest first.",
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
TEMPLATES = Path(__file__).with_name("templates")


def markdown(evaluation: Evaluation, data: Mapping | None, plots: Mapping[str, str] | None = None) -> str:
    """The report for a pull request or a job's summary; `plots` maps a plot's name to its address."""
    pictures = {name: address for name, address in (plots or {}).items() if github_markdown.web(address)}
    return (
        github_markdown.environment()
        .get_template("report.md")
        .render(
            evaluation=evaluation,
            head=headline(evaluation),
            sections=sections(evaluation, data),
            pictures=[(escape(address), escape(_alt(name))) for name, address in pictures.items()],
        )
    )


def html(
    evaluation: Evaluation,
    data: Mapping | None,
    run: Mapping | None = None,
    plots: Mapping[str, bytes] | None = None,
) -> str:
    """The report as one file: no script, nothing from another host; `plots` maps a plot's name to its PNG."""
    return (
        _page()
        .get_template("report.html")
        .render(
            evaluation=evaluation,
            head=headline(evaluation),
            policy=Markup(POLICY),
            style=Markup(TEMPLATES.joinpath("report.css").read_text(encoding="utf-8")),
            tiles=_tiles(evaluation),
            sections=sections(evaluation, data, run),
            pictures=[_picture(name, png) for name, png in (plots or {}).items()],
        )
    )


@cache
def _page() -> Environment:
    """How texts get into the HTML page: escaped, on one line, never endless."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else clean(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests |= {
        "mark": lambda cell: isinstance(cell, Mark),
        "link": lambda cell: isinstance(cell, Link),
        "name": lambda cell: isinstance(cell, Name),
        "web": github_markdown.web,
    }
    found.filters["short"] = lambda name: clean(name, github_markdown.NAME_LENGTH) or "(empty)"
    return found


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The three figures that one wants first: what they are, the figure, and a word on it."""
    row, metric = evaluation.decisive(), in_words(evaluation.metric)
    tiles = [("hold-out", f"{evaluation.rows:,} rows", "")]
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


def _picture(name: str, png: bytes) -> dict[str, str]:
    """A plot in the page: its words, itself, and the room that it takes."""
    # A PNG's size stands at the same place in every one: two panels side by side need the whole width.
    across, down = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    source = Markup(f"data:image/png;base64,{base64.b64encode(png).decode()}")
    return {"words": _alt(name), "source": source, "width": "wide" if across > 1.4 * down else "plot"}


def _alt(name: str) -> str:
    return PICTURES.get(name, in_words(name))
