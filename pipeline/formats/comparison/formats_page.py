"""What a comparison of formats found: on the terminal, as Markdown, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.artifacts import read_as
from pipeline.evaluation.figures import BLUE, QUIET, panels_of, plain, styled
from pipeline.evaluation.findings import absent_formats, conditions, formats_safety, formats_table
from pipeline.evaluation.record import FORMATS, FormatRow, Formats

PICTURE = "formats.png"


def of_model(build: Path, digest: str) -> Formats | None:
    """The comparison in build/ if it is of the model with this digest; raises StageError where its file is damaged."""
    if not (build / FORMATS).is_file():
        return None
    found = read_as(build / FORMATS, Formats)
    return found if found.digest == digest else None


def markdown(found: Formats) -> str:
    """The table and what belongs to it, as in docs/formats.md."""
    table = formats_table(found)
    lines = [
        f"| {' | '.join(table.heads)} |",
        f"| {' | '.join('---' if place in table.words else '--:' for place in range(len(table.heads)))} |",
    ]
    for place, cells in enumerate(table.rows):
        name = f"**{cells[0]}**" if place == table.strong else cells[0]
        lines.append(f"| {' | '.join(map(str, (name, *cells[1:])))} |")
    return "\n".join(
        [*lines, "", *(f"- {one}" for one in [*formats_safety(found), *absent_formats(found)]), "", conditions(found)]
    )


def terminal(found: Formats) -> None:
    """The table, what is not there and why, and how it was measured."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console, table = Console(), formats_table(found)
    # What fits 80 columns; what is safe to open stands below, with the reasons.
    shown = [place for place, head in enumerate(table.heads[:-1]) if head != "again, ms"]
    grid = Grid(box=SIMPLE, padding=(0, 1, 0, 0))
    for place in shown:
        head = table.heads[place].replace("largest difference", "differs").removesuffix(" rows").removesuffix(" row")
        grid.add_column(head, justify="left" if place == 0 else "right", no_wrap=True)
    for row, cells in enumerate(table.rows):
        grid.add_row(*(Text(str(cells[place]), "bold" if row == table.strong else "") for place in shown))
    console.print(grid)
    for line in [*formats_safety(found), *absent_formats(found), conditions(found)]:
        console.print(Text(line))


@styled
def draw(found: Formats) -> Figure:
    """Bars for each format, the one that is served in blue: bytes, time to load, time to answer 1 and 1,000 rows."""
    rows = [one for one in found.formats if one.size is not None]
    panels = {
        "kB": [(one.size or 0) / 1000 for one in rows],
        "load in a fresh process, ms": [one.cold_ms or 0.0 for one in rows],
        "1 row, µs": [one.answer_ms[0] * 1000 for one in rows],
        "1,000 rows, µs": [one.answer_ms[-1] * 1000 for one in rows],
    }
    figure, axes = panels_of("The model in every format", 11.0, 0.36 * len(rows) + 1.4, len(panels), sharey=True)
    for panel, (head, values) in zip(axes, panels.items(), strict=True):
        _bars(panel, head, values, rows)
    axes[0].set_yticks(range(len(rows)), [plain(one.name) for one in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _bars(axes: Axes, head: str, values: Sequence[float], rows: Sequence[FormatRow]) -> None:
    colours = [BLUE if one.served else QUIET for one in rows]
    axes.barh(range(len(rows)), values, color=colours, height=0.62)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 2, max(values) * 6)
    axes.set_title(head)
    axes.tick_params(axis="y", length=0)
    for place, value in enumerate(values):
        text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
        axes.annotate(text, (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)
