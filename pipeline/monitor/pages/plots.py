"""Figures of what the monitor found; every function returns a matplotlib Figure.

Days are UTC days, and each day between the first and the last has its place, also one without rows. pipeline/evaluation/figures.py
makes a PNG of a figure.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.figures import BLUE, DPI, MONTHS, QUIET, VERMILION, layout, plain, styled
from pipeline.evaluation.wording import in_words, known, number, setting
from pipeline.monitor.findings import ColumnRow, DayRow, Distribution, Findings

WIDTH = 8.1  # inches: as wide as the page
MOST_COLUMNS = 30  # rows of a heatmap that fit a screen
FEWEST_COLUMNS = 6  # that are shown though nothing speaks against them
SEEN = 0.01  # evidence that has a colour
MANY_DAYS = 92  # beyond, each has no room for a marker or a gap
MOST_DAYS = 366
MOST_DISTRIBUTIONS = 9
MOST_VALUES = 8  # bars of a text column, besides the others
MOST_LINES = 5
ENOUGH = 30  # outcomes of a day whose measured value is more than chance
BINS = 20
FEW_EDGES = 12  # up to here each bin is a bar of its own
NOTHING, LIGHT, DARK = "#FFFFFF", "#EDF2F7", "#084081"
THEN_COLOUR = "#C3C9D1"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")

THEN: dict[str, Any] = {"fill": True, "facecolor": THEN_COLOUR, "edgecolor": "#9CA3AF", "label": "in training"}
NOW: dict[str, Any] = {"color": BLUE, "linewidth": 1.8, "label": "now", "baseline": None}


def figures_for(found: Findings) -> dict[str, Figure]:
    """Every figure that there is something to show in, by name."""
    figures = {}
    if any(row.evidence and row.rows for row in found.days):
        figures["evidence"] = evidence(found)
    if _with_rows(found):
        figures["distributions"] = distributions(found)
    if any(known(row.measured) or known(row.estimated) for row in found.days):
        figures["performance"] = performance(found)
    if found.days:
        figures["rows"] = rows(found)
    return figures


@styled
def evidence(found: Findings) -> Figure:
    """The evidence against each column by day: the darker, the more; an alarm has a colour and a mark of its own."""
    days = _days(found.days)
    table = _by_column(days, found.days)
    names = sorted(table, key=lambda name: (-_latest(table[name]), -np.nanmax(table[name]), name))
    some_evidence = [name for name in names if np.nanmax(table[name]) >= SEEN]
    shown = (some_evidence if len(some_evidence) >= FEWEST_COLUMNS else names[:FEWEST_COLUMNS])[:MOST_COLUMNS]
    some = f", the {len(shown)} with most of {len(names)}" if len(shown) < len(names) else ""
    figure = Figure(figsize=(WIDTH, 0.25 * len(shown) + 1.9), dpi=DPI, layout=layout())
    figure.suptitle(f"Evidence of drift by column and day{some}", x=0.02, ha="left")
    axes = figure.subplots()
    cells = np.array([table[name] for name in shown])
    colours = LinearSegmentedColormap.from_list("evidence", [LIGHT, "#6BAED6", DARK]).with_extremes(
        over=VERMILION, bad=NOTHING
    )
    # An alarm begins at 1 exactly, and only what is above the scale has the colour of an alarm.
    image = axes.imshow(
        np.where(cells >= 1, 2, cells), cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    if len(days) <= 62:
        y, x = np.nonzero(cells >= 1)
        axes.scatter(x, y, s=9, marker="o", color="white", linewidths=0)
    axes.set_yticks(range(len(shown)), [plain(name, 26) for name in shown])
    axes.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
    axes.grid(True, axis="y", which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    _day_axis(axes, days)
    _releases(axes, found, days)
    bar = figure.colorbar(image, ax=axes, extend="max", fraction=0.025, pad=0.015, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("evidence (1 or more: alarm)")
    return figure


def _latest(line: Sequence[float]) -> float:
    """The last value that is known."""
    return next((value for value in reversed(line) if known(value)), 0.0)


def _by_column(days: Sequence[date], rows: Iterable[DayRow]) -> dict[str, list[float]]:
    """The evidence of each column on each day; of two versions the larger; NaN on days without rows, which tell nothing."""
    place = {day.isoformat(): number for number, day in enumerate(days)}
    table: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.evidence.items():
            if row.rows and row.day in place and known(value):
                line = table.setdefault(name, [np.nan] * len(days))
                line[place[row.day]] = np.nanmax([line[place[row.day]], max(value, 0)])
    return table


@styled
def distributions(found: Findings) -> Figure:
    """Small multiples of the first columns, those with most evidence: in training, and now."""
    order = {_label(column): place for place, column in enumerate(found.columns)}
    ranked = sorted(_with_rows(found), key=lambda one: order.get(one.name, len(order)))
    shown = ranked[:MOST_DISTRIBUTIONS]
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    figure = Figure(figsize=(max(WIDTH * across / 3, 4.5), 2.3 * down + 0.9), dpi=DPI, layout=layout())
    some = f", {len(shown)} columns with most evidence" if len(shown) < len(ranked) else ""
    figure.suptitle(f"Distributions then and now{some}", x=0.02, ha="left")
    grid = figure.subplots(down, across, squeeze=False)
    for axes, one in zip(grid.flat, shown, strict=False):
        draw = _values if one.edges is None else _bars if len(one.edges) <= FEW_EDGES else _steps
        draw(axes, one)
        axes.set_title(plain(one.name, 27), size=10)
        axes.tick_params(labelsize=8.5)
        axes.margins(x=0.02)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, bbox_to_anchor=(1, 1.005))
    return figure


def _with_rows(found: Findings) -> list[Distribution]:
    return [one for one in found.distributions if sum(one.before) or sum(one.now)]


def _label(column: ColumnRow) -> str:
    """What a column is called among days and distributions."""
    return {"prediction": f"prediction: {column.name}", "target": "target"}.get(column.kind, column.name)


def _steps(axes: Axes, one: Distribution) -> None:
    """Many bins as a histogram of equal ones; the first and the last hold all that is beyond."""
    edges = np.array(one.edges, dtype=float)
    low, high = edges[0], edges[-1]
    logarithmic = low > 0 and high / low > 100
    scale, back = (np.log, np.exp) if logarithmic else (np.asarray, np.asarray)
    inner = np.linspace(scale(low), scale(high), BINS - 1)
    width = inner[1] - inner[0]
    ends = back(np.concatenate([[inner[0] - width], inner, [inner[-1] + width]]))
    for shares, look in ((one.before, THEN), (one.now, NOW)):
        up_to = np.cumsum(shares)[:-1]  # the share of the rows below each edge
        below = np.interp(inner, scale(edges), up_to)
        axes.stairs(np.diff(np.concatenate([[0], below, [1]])), ends, **look)
    if logarithmic:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
    _share_axis(axes.yaxis)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of rows", size=8.5)
    axes.set_xlabel("value", size=8.5)


def _bars(axes: Axes, one: Distribution) -> None:
    """Few bins: a step for each, named by its bounds."""
    edges = [setting(edge) for edge in one.edges or []]
    ends = np.arange(len(one.before) + 1)
    for shares, look in ((one.before, THEN), (one.now, NOW)):
        axes.stairs(shares, ends, **look)
    step = -(-len(edges) // 4) if edges else 1
    axes.set_xticks(range(1, len(edges) + 1)[::step], edges[::step])
    _share_axis(axes.yaxis)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of rows", size=8.5)
    axes.set_xlabel("value", size=8.5)


def _values(axes: Axes, one: Distribution) -> None:
    """The most frequent values, and all others in one bar."""
    names, before, now = list(one.values or []), np.array(one.before), np.array(one.now)
    largest = np.argsort(-np.maximum(before, now)[: len(names)], kind="stable")[:MOST_VALUES]
    rest = [each for each in range(len(before)) if each not in largest]
    labels = [plain(names[each], 14) for each in largest] + ["all others"] * bool(rest)
    for shares, height, shift, colour, label in (
        (before, 0.4, -0.2, THEN_COLOUR, "in training"),
        (now, 0.4, 0.2, BLUE, "now"),
    ):
        lengths = [*shares[largest], *([shares[rest].sum()] if rest else [])]
        axes.barh(np.arange(len(lengths)) + shift, lengths, height=height, color=colour, label=label)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    _share_axis(axes.xaxis)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of rows", size=8.5)


def _share_axis(axis, most: int = 4) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.6g} %")
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


@styled
def performance(found: Findings) -> Figure:
    """The metric of each day: measured from outcomes, and estimated before they come; below, how many rows have an outcome."""
    days = _days(found.days)
    metric = in_words(found.daily_metric) if found.daily_metric else "value"
    figure = Figure(figsize=(WIDTH, 4.7), dpi=DPI, layout=layout())
    figure.suptitle(f"Performance by day: {metric}", x=0.02, ha="left")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _metric_lines(above, found, days)
    above.set_ylabel(metric)
    above.grid(True)
    above.yaxis.set_major_locator(MaxNLocator(6))
    above.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02))
    totals, labelled = (_sums(found.days, days, what) for what in ("rows", "labelled"))
    below.bar(
        range(len(days)),
        np.divide(labelled, totals, out=np.zeros(len(days)), where=totals > 0),
        color=BLUE,
        width=_bar_width(len(days)),
    )
    below.set_ylabel("rows with\noutcome")
    below.set_ylim(0, 1.05)
    _share_axis(below.yaxis, 2)
    below.grid(True, axis="y")
    _day_axis(below, days)
    _releases(above, found, days)
    _releases(below, found, days, named=False)
    return figure


def _metric_lines(axes: Axes, found: Findings, days: Sequence[date]) -> None:
    labelled = _sums(found.days, days, "labelled")
    measured = _means(found.days, days, "measured", "labelled")
    estimated = _means(found.days, days, "estimated", "rows")
    places = np.arange(len(days))
    if np.isfinite(measured).any():
        axes.plot(places, measured, color=BLUE, linewidth=1.8, label="measured")
        for enough, fill, note in ((True, BLUE, ""), (False, "white", f"fewer than {ENOUGH} outcomes")):
            some = np.isfinite(measured) & ((labelled >= ENOUGH) == enough)
            if some.any():
                axes.plot(places[some], measured[some], "o", color=BLUE, markerfacecolor=fill, markersize=5 if len(days) <= MANY_DAYS else 2,
                          label=note or None)  # fmt: skip
    if np.isfinite(estimated).any():
        axes.plot(
            places,
            estimated,
            "--",
            color=VERMILION,
            marker="s" if len(days) <= MANY_DAYS else "",
            markersize=4,
            linewidth=1.5,
            label="estimated",
        )
    holdout = next((row.holdout for row in found.performance.metrics if row.name == found.daily_metric), None)
    if known(holdout):
        axes.axhline(holdout, color=QUIET, linewidth=1.2, linestyle=(0, (1, 2)), label=f"hold-out, {number(holdout)}")
    for limit in found.performance.limits:
        if limit.metric == found.daily_metric and known(limit.limit):
            axes.axhline(limit.limit, color="#000000", linewidth=1.2, label=f"limit, {setting(limit.limit)}")


@styled
def rows(found: Findings) -> Figure:
    """How many rows came each day, how many cells were empty, and how many requests were refused."""
    days = _days(found.days)
    missing = _missing(found.days, days)
    refused = _sums(found.days, days, "refused")
    panels = 1 + bool(missing) + bool(refused.any())
    figure = Figure(figsize=(WIDTH, 1.6 * panels + 1.2), dpi=DPI, layout=layout())
    more = ["share of empty cells"] * bool(missing) + ["refused requests"] * bool(refused.any())
    figure.suptitle(", ".join(["Rows by day", *more]), x=0.02, ha="left")
    first, *others = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    _counts(first, _sums(found.days, days, "rows"), "rows")
    if missing:
        axes = others.pop(0)
        for (name, line), colour, dash, marker in zip(missing.items(), COLOURS, DASHES, MARKERS, strict=False):
            look = {"linestyle": dash, "marker": marker if len(days) <= MANY_DAYS else "", "markersize": 3.5}
            axes.plot(line, color=colour, label=plain(name, 22), **look)
        axes.set_ylabel("empty cells")
        _share_axis(axes.yaxis)
        axes.set_ylim(bottom=0)
        axes.grid(True, axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05))
    if others:
        _counts(others[0], refused, "refused\nrequests", VERMILION)
    for axes in figure.axes:
        _releases(axes, found, days, named=axes is first)
    _day_axis(figure.axes[-1], days)
    return figure


def _counts(axes: Axes, counts: np.ndarray, words: str, colour: str = BLUE) -> None:
    axes.bar(range(len(counts)), counts, color=colour, width=_bar_width(len(counts)))
    axes.set_ylabel(words)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(True, axis="y")


def _missing(found: Iterable[DayRow], days: Sequence[date]) -> dict[str, np.ndarray]:
    """The share of empty cells of the columns that have most of them, by day; of no column that never has any."""
    parts: dict[str, list[DayRow]] = defaultdict(list)
    for row in found:
        for name in row.missing:
            parts[name].append(row)
    lines = {
        name: _mean_of(days, [(row.day, row.missing[name], row.rows) for row in own]) for name, own in parts.items()
    }
    some = {name: line for name, line in lines.items() if np.nanmax(line, initial=0) > 0}
    return dict(sorted(some.items(), key=lambda item: -np.nanmax(item[1]))[:MOST_LINES])


# --- days ---


def _days(found: Iterable[DayRow]) -> list[date]:
    """Each day from the first to the last, at most a year."""
    named = sorted(date.fromisoformat(row.day) for row in found)
    first = max(named[0], named[-1] - timedelta(days=MOST_DAYS - 1))
    return [first + timedelta(days=each) for each in range((named[-1] - first).days + 1)]


def _sums(found: Iterable[DayRow], days: Sequence[date], what: str) -> np.ndarray:
    """A count of each day, over all versions."""
    totals: dict[str, int] = defaultdict(int)
    for row in found:
        totals[row.day] += getattr(row, what)
    return np.array([totals[day.isoformat()] for day in days], dtype=float)


def _means(found: Iterable[DayRow], days: Sequence[date], what: str, weight: str) -> np.ndarray:
    """A value of each day, weighted over the versions; NaN where there is none."""
    return _mean_of(days, [(row.day, getattr(row, what), getattr(row, weight)) for row in found])


def _mean_of(days: Sequence[date], parts: Iterable[tuple[str, float | None, int]]) -> np.ndarray:
    place = {day.isoformat(): number for number, day in enumerate(days)}
    total, weights = np.zeros(len(days)), np.zeros(len(days))
    for day, value, weight in parts:
        if day in place and known(value):
            total[place[day]] += value * max(weight, 1e-9)  # a value without rows behind it counts where it is alone
            weights[place[day]] += max(weight, 1e-9)
    return np.divide(total, weights, out=np.full(len(days), np.nan), where=weights > 0)


def _day_axis(axes: Axes, days: Sequence[date]) -> None:
    """Name some of the days, the last among them."""
    step = -(-len(days) // 9)
    places = range(len(days) - 1, -1, -step)[::-1]
    axes.set_xticks(list(places), [f"{MONTHS[days[place].month - 1]} {days[place].day}" for place in places])
    axes.set_xlim(-0.6, len(days) - 0.4)
    span = f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
    axes.set_xlabel(f"day (UTC), {span}")


def _releases(axes: Axes, found: Findings, days: Sequence[date], named: bool = True) -> None:
    """A line before the first day of each version; versions that come close together share a label."""
    place = {day.isoformat(): number for number, day in enumerate(days)}
    labels: list[tuple[int, list[str]]] = []
    for release in sorted(found.releases, key=lambda one: one.day):
        at = place.get(release.day)
        if at is None:
            continue
        axes.axvline(at - 0.5, color="#374151", linewidth=1.2, linestyle=(0, (4, 2)))
        near = 0.45 if _late(at, days) else 0.22  # of the width, which a label and the next take
        if labels and at - labels[-1][0] < near * len(days):
            labels[-1][1].append(release.version)
        else:
            labels.append((at, [release.version]))
    for at, versions in labels if named else ():
        first, last, late = plain(versions[0], 12), plain(versions[-1], 12), _late(at, days)
        text = f"version {first}" if len(versions) == 1 else f"versions {first} to {last}"
        axes.annotate(
            text, (at - 0.5, 1), xycoords=("data", "axes fraction"), xytext=(-2 if late else 2, 3),
            textcoords="offset points", size=8.5, color="#374151", ha="right" if late else "left",
        )  # fmt: skip


def _late(at: int, days: Sequence[date]) -> bool:
    """Whether a label must stand left of its line."""
    return at > 0.85 * len(days)


def _bar_width(days: int) -> float:
    return 0.8 if days <= MANY_DAYS else 1.0
