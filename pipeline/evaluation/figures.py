"""How every picture looks, and how it becomes a PNG: style, colours, room, names.

Figures are made without pyplot, and the same data gives the same PNG bytes.
"""

import functools
import io
import os
import tempfile
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito's colours keep apart for colour-blind readers; dashes and markers say the same a second time.
BLUE, VERMILION, QUIET = "#0072B2", "#D55E00", "#6B7280"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9CA3AF",
    "axes.labelcolor": "#374151",
    "axes.axisbelow": True,
    "xtick.color": "#4B5563",
    "ytick.color": "#4B5563",
    "grid.color": "#E5E7EB",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "savefig.facecolor": "white",
}
DPI = 110
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # whatever the locale


def to_png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes: neither date nor software is in them."""
    buffer = io.BytesIO()
    with _style(), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the report's tables carry it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Laid out once: the engine would move things a little each time, and the bytes with them.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        # Straight to the canvas: figure.savefig() would draw everything once more, only to measure it.
        figure.set(dpi=DPI, facecolor=matplotlib.rcParams["savefig.facecolor"])
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(to_png(figure))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _style():
    """This module's style, whatever a matplotlibrc on this machine says."""
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE})


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the style of all pictures."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return drawn


def panels_of(title: str, width: float, height: float, panels: int, **options) -> tuple[Figure, list[Axes]]:
    """A figure with a title and so many panels side by side; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout())
    figure.suptitle(title, x=0.02, ha="left")
    return figure, list(figure.subplots(1, panels, squeeze=False, **options)[0])


def layout() -> ConstrainedLayoutEngine:
    """Room for everything that is written, and air at the edges (inches)."""
    return ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)


def plain(name: str, most: int = 30) -> str:
    """A name as it stands, on one line and not too long; "$" must not start a formula."""
    line = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in str(name)).strip() or "(empty)"
    short = line if len(line) <= most else f"{line[: most * 2 // 3]}…{line[len(line) + 1 - most // 3 :]}"
    return short.replace("$", r"\$")
