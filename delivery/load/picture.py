"""The picture of a load: how latency went while it lasted, and how often it was how long."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from delivery.load.latencies import SLOTS, Latencies, edges, quantile
from pipeline.evaluation.figures import BLUE, DPI, QUIET, STYLE, VERMILION
from pipeline.evaluation.wording import number, places

ENOUGH = 50  # requests in a part of the time, so that its p95 means something
SHARES = {
    "median": (0.5, BLUE, "-", "o"),
    "p95": (0.95, "#009E73", "--", "s"),
    "p99": (0.99, VERMILION, ":", "^"),
}
BARS = 9  # buckets that are drawn as one bar, which then is 9 % wide


def latency_over_time(latencies: Latencies, title: str, lasted: float) -> Figure:
    """Above, quantiles by the instant at which requests were due, in `lasted` seconds; below, how many took how long."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(8.2, 6), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
        figure.suptitle(title.replace("$", r"\$"), x=0.02, ha="left")
        above, below = figure.subplots(2, 1, height_ratios=[3, 2])
        counts = latencies.counts()
        _over_time(above, counts, latencies.seconds, lasted)
        _how_often(below, counts.sum(axis=0), latencies)
        for axes, axis, ends in ((above, above.yaxis, above.get_ylim()), (below, below.xaxis, below.get_xlim())):
            axis.set_major_locator(LogLocator(subs=_ticks(*ends)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
            axes.grid(True)
    return figure


def _over_time(axes, counts: np.ndarray, seconds: float, lasted: float) -> None:
    parts = _parts(counts)
    merged = counts.reshape(parts, -1, counts.shape[1]).sum(axis=1)
    middle = (np.arange(parts) + 0.5) * seconds / parts
    for name, (share, colour, dash, marker) in SHARES.items():
        line = [1000 * quantile(part, share) for part in merged]
        axes.plot(middle, line, dash, color=colour, label=name, linewidth=1.6, marker=marker, markersize=3)
    axes.set(yscale="log", xlim=(0, min(seconds, lasted)), ylabel="latency, ms", xlabel="seconds since the load began")
    _legend(axes)


def _how_often(axes, counts: np.ndarray, latencies: Latencies) -> None:
    seen = np.flatnonzero(counts)
    first, last = seen[0] // BARS * BARS, (seen[-1] // BARS + 1) * BARS
    grouped = np.pad(counts, (0, BARS))[first:last].reshape(-1, BARS).sum(axis=1)
    border = 1000 * np.append(edges(), edges()[-1] * 1.01 ** np.arange(1, BARS + 1))[first : last + 1 : BARS]
    axes.stairs(grouped / grouped.sum(), border, fill=True, color=BLUE, alpha=0.35)
    for name, (share, colour, dash, _) in SHARES.items():
        value = 1000 * min(quantile(counts, share), latencies.longest)
        axes.axvline(value, color=colour, linestyle=dash, linewidth=1.6, label=f"{name} {_short(value)} ms")
    axes.axvline(1000 * latencies.longest, color=QUIET, linewidth=1, label=f"max {_short(1000 * latencies.longest)} ms")
    axes.set(xscale="log", xlabel="latency, ms", ylabel="share of requests")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _legend(axes)


def _short(value: float) -> str:
    return number(value, places(value, figures=3))


def _legend(axes) -> None:
    """Above the panel: wherever it were inside, something could run through it."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderaxespad=0)


def _parts(counts: np.ndarray) -> int:
    """Into how many parts the time is cut, so that most hold enough requests."""
    return next((parts for parts in (SLOTS, 50, 25, 20, 10, 5) if counts.sum() >= ENOUGH * parts), 5)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Where a decade is marked: at more places where there are few decades."""
    decades = np.log10(high / low)
    return (1,) if decades > 3 else (1, 2, 5) if decades > 0.7 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
