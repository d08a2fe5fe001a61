"""Models side by side, to read: one HTML file that needs nothing else, and a table on the terminal."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation import pages
from pipeline.evaluation.figures import BLUE, QUIET, VERMILION, panels_of, plain, styled
from pipeline.evaluation.findings import Cell, Headline, Name, Section, Table
from pipeline.evaluation.pages import Page
from pipeline.evaluation.wording import Mark, change, in_words, number, places, signed
from pipeline.search import builders
from pipeline.search.model_comparison import CONFIDENCE, Model, Models, headline

PAGE = "models.html"
PICTURES = {"models": "Score of each model in each fold, and its difference to build() with an interval."}
NOTES = (
    f"Difference: model − build(), paired fold by fold, with an interval of {CONFIDENCE:.0%}. Such an interval is approximate: the folds share "
    "rows to learn from, so their scores are not independent. It is widened for that (Nadeau and Bengio, 2003).",
    "▲ ▼ the whole interval says so. △ ▽ the mean says so, the interval does not. With several models, the best of them looks better than it is.",
    "µs a row: the time of an answer, when all rows of a fold are asked at once, by the trained model.",
)
HEADS = ("model", "mean ± sd", "difference", "interval", "it is", "fit, s", "µs a row")


def html(found: Models) -> str:
    """The page; no script, nothing from another host."""
    from pipeline.evaluation.figures import to_png

    where = f"{found.rows:,} rows of the training side in {found.folds} folds"
    head = Headline("Models side by side", headline(found), "≡", "⚖️")
    about = [
        f"Each model was fitted and judged on the same {where}. The hold-out had no part in it, and nothing was deployed."
    ]
    failed = [one for one in found.models if one.reason]
    table = Table(HEADS, rows(found), words=(0, 4), strong=0)
    sections = [Section(f"By {in_words(found.metric)}", about, table, NOTES, plots=("models",))]
    if failed:
        reasons = Table(("model", "reason"), [(Name(one.name), Name(one.reason)) for one in failed], words=(0, 1))
        sections.append(Section("Without a score", [], reasons))
    given = [("commit", Name(found.commit)), ("data, SHA-256", Name(found.data_hash))]
    given += [(f"parameter {name}", Name(value)) for name, value in found.parameters.items()]
    sections.append(Section("Where this comes from", [], Table(("what", "value"), given, words=(0, 1))))
    best = found.best()
    tiles = [("best", best.name, f"{in_words(found.metric)} {number(best.candidate)}"), ("models", str(len(found.models)), ""), ("training rows", f"{found.rows:,}", f"{found.folds} folds")]  # fmt: skip
    plots: Mapping[str, bytes] = {"models": to_png(draw(found))}
    return pages.html(Page(found.name, "keep", head, [], sections, PICTURES, tiles), plots)


def rows(found: Models) -> list[tuple[Cell, ...]]:
    """A line for each model, best first."""
    digits = places(found.best().candidate)
    return [_row(one, found.higher_is_better, digits) for one in found.models]


def _row(one: Model, higher_is_better: bool, digits: int) -> tuple[Cell, ...]:
    if one.candidate is None:
        return Name(one.name), "–", "–", "–", Mark("✕", "without a score", "worse"), "–", "–"
    itself = one.difference is None
    interval = "–" if itself else f"{signed(one.lower, digits)} to {signed(one.upper, digits)}"
    return (
        Name(one.name),
        f"{number(one.candidate, digits)} ± {number(one.deviation, digits)}",
        "–" if itself else signed(one.difference, digits),
        interval,
        Mark("·", "yours", "quiet") if itself else change(one, higher_is_better),
        number(one.fit_seconds, 3),
        number(one.row_microseconds, 1),
    )


def terminal(found: Models) -> None:
    """The table, and the page's address."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console()
    console.print(Text(f"{in_words(found.metric)}, {found.folds} folds of {found.rows:,} training rows"))
    grid = Grid(box=SIMPLE, padding=(0, 1, 0, 0))
    for head in ("model", "mean ± sd", "difference", "interval", "", "fit, s", "µs a row"):
        grid.add_column(
            head,
            justify="left" if head in ("model", "") else "right",
            no_wrap=head != "model",
            min_width=8 * (head == "model"),
        )
    for row in rows(found):
        grid.add_row(*(Text(cell.sign if isinstance(cell, Mark) else str(cell)) for cell in row))
    console.print(grid)
    for one in found.models:
        if one.reason:
            console.print(Text(f"{one.name}: {one.reason}"))
    console.print(Text(headline(found)))
    console.print(Text("build/models.html has the picture; intervals are approximate; the hold-out had no part"))


@styled
def draw(found: Models) -> Figure:
    """Left the score of each fold and the mean, right the difference to build() with its interval; best on top.

    The dummy is in the table alone: it is so much worse that the others would look alike beside it.
    """
    scored = [one for one in found.models if one.candidate is not None and one.name != builders.DUMMY]
    figure, (left, right) = panels_of("Models side by side", 8.8, 0.42 * len(scored) + 1.7, 2, sharey=True)
    _scores(left, scored, in_words(found.metric))
    _differences(right, scored, found.higher_is_better)
    left.set_yticks(range(len(scored)), [plain(one.name, 24) for one in scored])
    left.set_ylim(len(scored) - 0.5, -0.5)
    left.get_yticklabels()[[one.name for one in scored].index(builders.BUILD)].set_fontweight("bold")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def _scores(axes: Axes, scored: list[Model], metric: str) -> None:
    for place, one in enumerate(scored):
        axes.plot(one.scores, [place] * len(one.scores), "o", color=BLUE, alpha=0.35, markersize=5, markeredgewidth=0)
        axes.plot(np.mean(one.scores), place, "D", color=BLUE, markersize=6)
    axes.set(xlabel=metric, title="each fold, and the mean")


def _differences(axes: Axes, scored: list[Model], higher_is_better: bool) -> None:
    axes.axvline(0, color="#4B5563", linewidth=1)
    tones = {"better": BLUE, "worse": VERMILION}
    for place, one in enumerate(scored):
        if one.difference is not None and one.lower is not None and one.upper is not None:
            colour = tones.get(change(one, higher_is_better).tone, QUIET)
            axes.plot([one.lower, one.upper], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(one.difference, place, "o", color=colour, markersize=6)
    way = "right is better" if higher_is_better else "left is better"
    axes.set(xlabel=f"difference to build(), {way}", title=f"approximate {CONFIDENCE:.0%} interval")
    low, high = _reach(scored)
    axes.set_xlim(low, high)


def _reach(scored: list[Model]) -> tuple[float, float]:
    """What the axis of differences shows: every mean, and intervals as far as the widest mean three times."""
    means = np.array([one.difference for one in scored if one.difference is not None] or [0.0])
    ends = np.array([end for one in scored for end in (one.lower, one.upper) if end is not None] or [0.0])
    most = 3 * np.abs(means).max() or 1.0
    low, high = max(ends.min(), -most), min(ends.max(), most)
    air = 0.05 * (high - low) or 1.0
    return min(low, 0.0) - air, max(high, 0.0) + air
